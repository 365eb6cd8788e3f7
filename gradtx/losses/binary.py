"""Losses of a score for yes against no, one for each element."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.arguments import fitting, same_shape, widened, within
from gradtx.losses.logarithms import weighted


def sigmoid_binary_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Array:
    """The cross entropy of a probability y and the sigmoid of a score x: −y·log σ(x) − (1 − y)·log σ(−x).

    Accurate for any score. At x = ±∞ it is 0 or ∞ for labels of 0 and 1, with derivative σ(x) − y.

    Args:
        logits: x, floating, of any shape.
        labels: y, in [0, 1], of a shape that broadcasts with it.

    Returns:
        One loss per element.

    Raises:
        TypeError: for logits that are not floating.
        ValueError: if the shapes do not broadcast.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> print(gradtx.sigmoid_binary_cross_entropy(jnp.array([0.0, jnp.inf]), jnp.array([1, 1])).round(4))
        [0.6931 0.    ]
    """
    fitting("sigmoid_binary_cross_entropy", logits=logits, labels=labels)
    (x, y), dtype = widened("sigmoid_binary_cross_entropy", logits, labels)
    return _cross_entropy(x, y).astype(dtype)


def _cross_entropy(x: Array, y: Array) -> Array:
    return -weighted(y, jax.nn.log_sigmoid(x)) - weighted(1 - y, jax.nn.log_sigmoid(-x))


def sigmoid_focal_loss(
    logits: ArrayLike, labels: ArrayLike, *, alpha: ArrayLike | None = None, gamma: ArrayLike = 2.0
) -> Array:
    """The binary cross entropy, less of it where the prediction is right: (1 − p)ᵞ·cross entropy.

    p = y·σ(x) + (1 − y)·σ(−x) is the probability of the label, and with alpha all is multiplied by
    alpha·y + (1 − alpha)·(1 − y).

    Args:
        logits: x, floating, of any shape.
        labels: y, in [0, 1], of a shape that broadcasts with it.
        alpha: how much a yes counts, in [0, 1]; a no counts 1 − alpha. Default: both count 1.
        gamma: at least 0; 0 is `sigmoid_binary_cross_entropy`. Default: 2.

    Returns:
        One loss per element.

    Raises:
        TypeError: for logits that are not floating.
        ValueError: if the shapes do not broadcast, or for an alpha or gamma out of range.

    Source: Lin et al., Focal loss for dense object detection, arXiv:1708.02002.
    """
    within("sigmoid_focal_loss", "[0, inf]", gamma=gamma)
    if alpha is not None:
        within("sigmoid_focal_loss", "[0, 1]", alpha=alpha)
    fitting("sigmoid_focal_loss", logits=logits, labels=labels, alpha=alpha, gamma=gamma)
    (x, y), dtype = widened("sigmoid_focal_loss", logits, labels)
    missing = (1 - y) * jax.nn.sigmoid(x) + y * jax.nn.sigmoid(-x)
    # A power below 1 has an infinite derivative at 0, where the cross entropy vanishes faster.
    none = missing == 0
    focus = jnp.where(
        none, jnp.where(jnp.equal(gamma, 0), 1, 0), jnp.where(none, 1, missing) ** jnp.asarray(gamma)
    )
    # Its slope is 0 at infinite scores, and must not meet the infinite cross entropy there.
    focus = jnp.where(jnp.isinf(x), jax.lax.stop_gradient(focus), focus)
    losses = focus * _cross_entropy(x, y)
    share = 1 if alpha is None else jnp.asarray(alpha * y + (1 - alpha) * (1 - y))
    return (share * losses).astype(dtype)


def hinge_loss(predictor_outputs: ArrayLike, targets: ArrayLike) -> Array:
    """How far a score is from being right by a margin of 1: max(0, 1 − x·y).

    Args:
        predictor_outputs: x, floating, of any shape.
        targets: y, 1 or −1, of a shape that broadcasts with it.

    Returns:
        One loss per element. Where 1 − x·y is 0, the derivative is half that of the second argument.

    Raises:
        TypeError: for outputs that are not floating.
        ValueError: if the shapes do not broadcast.
    """
    fitting("hinge_loss", predictor_outputs=predictor_outputs, targets=targets)
    (x, y), dtype = widened("hinge_loss", predictor_outputs, targets)
    return jnp.maximum(0, 1 - x * y).astype(dtype)


def perceptron_loss(predictor_outputs: ArrayLike, targets: ArrayLike) -> Array:
    """How far a score is from the right sign: max(0, −x·y).

    Args:
        predictor_outputs: x, floating, of any shape.
        targets: y, 1 or −1, of the same shape.

    Returns:
        One loss per element.

    Raises:
        TypeError: for outputs that are not floating.
        ValueError: if the shapes differ.

    Source: Rosenblatt, The perceptron, Psychological Review 65, 1958.
    """
    same_shape("perceptron_loss", predictor_outputs=predictor_outputs, targets=targets)
    (x, y), dtype = widened("perceptron_loss", predictor_outputs, targets)
    return jnp.maximum(0, -x * y).astype(dtype)


def sparsemax_loss(logits: ArrayLike, labels: ArrayLike) -> Array:
    """The binary loss whose predictor is sparsemax, so that it is 0 once a score is right by 1.

    With z = −x for a yes and z = x for a no: 0 for z ≤ −1, (z + 1)² / 4 up to z = 1, and z beyond.

    Args:
        logits: x, floating, of any shape.
        labels: 1 or True for yes, 0 or False for no, of a shape that broadcasts with it.

    Returns:
        One loss per element.

    Raises:
        TypeError: for logits that are not floating.
        ValueError: if the shapes do not broadcast.

    Source: Blondel et al., Learning with Fenchel-Young losses, arXiv:1901.02324, section 4.4.
    """
    fitting("sparsemax_loss", logits=logits, labels=labels)
    (x,), dtype = widened("sparsemax_loss", logits)
    z = jnp.where(jnp.asarray(labels), -x, x)
    between = (z > -1) & (z < 1)
    # The square sees 0 where it is not taken: an infinite score would turn its derivative NaN.
    bend = (jnp.where(between, z, 0) + 1) ** 2 / 4
    return jnp.where(between, bend, jnp.where(z <= -1, 0, z)).astype(dtype)

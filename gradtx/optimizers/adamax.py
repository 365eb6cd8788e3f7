"""Adamax: Adam with the largest gradient in place of the root of the mean square."""

from gradtx.arrays.types import Selector
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.adaptive import scale_by_adamax
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.domains import Decay, NonNegative, Number


@recipe
def adamax(
    learning_rate: Number, b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-8
) -> GradientTransformation:
    """Adamax: steps along the mean of past gradients over their largest size, which decays.

    p ← p − learning_rate·m̂ / u with u ← max(b2·u, |g| + eps), as in `scale_by_adamax`.

    Args:
        learning_rate: the step size, and the largest step that a lasting gradient makes.
        b1, b2, eps: as in `scale_by_adamax`.

    Source: Kingma and Ba, Adam, arXiv:1412.6980, section 7.1.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.adamax(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    return chain(scale_by_adamax(b1, b2, eps), scale_by_learning_rate(learning_rate))


@recipe
def adamaxw(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    weight_decay: Number = 1e-4,
    mask: Selector | None = None,
) -> GradientTransformation:
    """AdamaxW: Adamax with decoupled weight decay, which is multiplied by the learning rate.

    p ← p − learning_rate·(m̂ / u + weight_decay·p), with m̂ and u as in `scale_by_adamax`.

    Args:
        learning_rate: the step size.
        b1, b2, eps: as in `scale_by_adamax`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: arXiv:1412.6980, section 7.1; Loshchilov and Hutter, arXiv:1711.05101.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.adamaxw(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    return chain(
        scale_by_adamax(b1, b2, eps),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

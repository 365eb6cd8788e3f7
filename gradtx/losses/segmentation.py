"""Losses of predicted regions against true ones."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.arguments import check_each, same_shape, widened

Axes = int | tuple[int, ...] | None

EPSILON = 1e-7
"""Added to the squared frequency of a class, so that one that is absent has a weight too."""

TOLERANCE = 1e-3
"""How far probabilities may be from adding up to 1: half precision keeps three digits."""


def dice_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    smooth: ArrayLike = 1.0,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 0.5,
    apply_softmax: bool = True,
    reduction: str = "mean",
    ignore_background: bool = False,
    axis: Axes = None,
) -> Array:
    """How little of a class and its prediction overlap: 1 − (I + s) / (I + α·(P − I) + β·(T − I) + s).

    With sums over a region, of class c: P of predicted probabilities p, T of targets t, and I of p·t.
    So P − I are false positives, T − I false negatives; α = β = ½ is Dice's coefficient, others are
    Tversky's. A class that is neither there nor predicted has loss 0, also for s = 0.

    Args:
        predictions: scores, floating, of shape (batch, …, classes); (…, 1) or (…) for one class.
        targets: t, one-hot, of the same shape; the class axis may be left out if it is 1.
        class_weights: (classes,): factors of the losses of classes. Default: 1.
        smooth: s, at least 0. Default: 1.
        alpha: α, how much false positives count. Default: ½.
        beta: β, how much false negatives count. Default: ½.
        apply_softmax: whether predictions are scores: p is their softmax over classes, or their sigmoid
            if there is one class. If not, they are p itself, in [0, 1] and adding up to 1 over several
            classes, which is checked where they are not traced.
        reduction: 'mean' or 'sum' over classes, or 'none'.
        ignore_background: whether to leave out the first of several classes.
        axis: the axes of a region. Default: all but the first and the last.

    Returns:
        The losses, of shape (batch,), or (batch, classes) for 'none'.

    Raises:
        TypeError: for predictions that are not floating.
        ValueError: if the shapes do not fit, predictions are no probabilities, or for an unknown
            reduction.

    Source: Milletari et al., V-Net, arXiv:1606.04797; Salehi et al., Tversky loss function for image
    segmentation using 3D fully convolutional deep networks, arXiv:1706.05721.
    """
    reductions = {"mean": jnp.mean, "sum": jnp.sum, "none": lambda x, axis: x}
    if reduction not in reductions:
        raise ValueError(f"dice_loss: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    (p, t), dtype = _classed("dice_loss", predictions, targets, apply_softmax)
    axes = tuple(range(1, p.ndim - 1)) if axis is None else axis
    both, predicted, true = (jnp.sum(x, axes) for x in (p * t, p, t))
    union = both + alpha * (predicted - both) + beta * (true - both) + smooth
    nothing = union == 0
    losses = 1 - jnp.where(nothing, 1, both + smooth) / jnp.where(nothing, 1, union)
    if class_weights is not None:
        weights = jnp.asarray(class_weights)
        if weights.shape != p.shape[-1:]:
            raise ValueError(f"dice_loss: class_weights must be of shape {p.shape[-1:]}, got {weights.shape}")
        losses = losses * weights
    if ignore_background and p.shape[-1] > 1:
        losses = losses[..., 1:]
    return reductions[reduction](losses, axis=-1).astype(dtype)


def multiclass_generalized_dice_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    smooth: ArrayLike = 1.0,
    apply_softmax: bool = True,
    ignore_background: bool = False,
) -> Array:
    """`dice_loss` whose classes count the more the rarer they are, as a mean over batch and classes.

    The weight of a class is 1 / (T² + 10⁻⁷), with T the sum of its targets over everything, and the
    mean of the weights is made 1.

    Args:
        predictions: scores, floating, of shape (batch, …, classes).
        targets: one-hot, of the same shape.
        smooth: as in `dice_loss`. Default: 1.
        apply_softmax: whether predictions are scores; if not, they are probabilities.
        ignore_background: whether to leave out the first of several classes.

    Raises:
        TypeError: for predictions that are not floating.
        ValueError: if the shapes differ, or predictions are no probabilities.

    Source: Sudre et al., Generalised Dice overlap as a deep learning loss function for highly unbalanced
    segmentations, arXiv:1707.03237.
    """
    same_shape("multiclass_generalized_dice_loss", predictions=predictions, targets=targets)
    (_, t), _ = widened("multiclass_generalized_dice_loss", predictions, targets)
    weights = 1 / (jnp.sum(t, tuple(range(t.ndim - 1))) ** 2 + EPSILON)
    losses = dice_loss(
        predictions,
        targets,
        class_weights=weights / jnp.mean(weights),
        smooth=smooth,
        apply_softmax=apply_softmax,
        reduction="none",
        ignore_background=ignore_background,
    )
    return jnp.mean(losses)


def binary_dice_loss(
    predictions: ArrayLike, targets: ArrayLike, *, smooth: ArrayLike = 1.0, apply_sigmoid: bool = True
) -> Array:
    """`dice_loss` of one class, yes against no.

    Args:
        predictions: scores, floating, of shape (batch, …) or (batch, …, 1).
        targets: 0 or 1, of the same shape, or with or without that last axis.
        smooth: as in `dice_loss`. Default: 1.
        apply_sigmoid: whether predictions are scores; if not, they are probabilities, in [0, 1].

    Returns:
        The losses, of shape (batch,).

    Raises:
        TypeError: for predictions that are not floating.
        ValueError: if the shapes do not fit, or predictions are no probabilities.

    Source: Milletari et al., V-Net, arXiv:1606.04797.
    """
    p, t = jnp.asarray(predictions), jnp.asarray(targets)
    if p.ndim == t.ndim and p.shape[-1:] != (1,):
        p, t = p[..., None], t[..., None]
    return dice_loss(p, t, smooth=smooth, apply_softmax=apply_sigmoid)


def _classed(name: str, predictions: ArrayLike, targets: ArrayLike, scores: bool) -> tuple[list[Array], Any]:
    """Probabilities and targets, of one shape whose last axis is that of classes."""
    (p, t), dtype = widened(name, predictions, targets)
    if p.ndim == t.ndim - 1:
        p = p[..., None]
    elif t.ndim == p.ndim - 1:
        t = t[..., None]
    same_shape(name, predictions=p, targets=t)
    if p.ndim == 0:
        raise ValueError(f"{name}: predictions must have at least one dimension, got shape ()")
    one = p.shape[-1] == 1
    if scores:
        return [jax.nn.sigmoid(p) if one else jax.nn.softmax(p, -1), t], dtype
    hint = "{} among predictions is no probability; scores want apply_softmax=True"
    check_each(p, (p >= 0) & (p <= 1 + TOLERANCE), f"{name}: {hint}")
    total = jnp.sum(p, -1)
    hint = "predictions must add up to 1 over the classes, not to {}; scores want apply_softmax=True"
    check_each(total, jnp.full(total.shape, one) | (jnp.abs(total - 1) <= TOLERANCE), f"{name}: {hint}")
    return [p, t], dtype

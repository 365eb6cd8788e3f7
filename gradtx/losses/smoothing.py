"""Labels that are less sure than they could be."""

import math

import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.arguments import Axis, mask_of, widened, within


def smooth_labels(
    labels: ArrayLike, alpha: ArrayLike, *, axis: Axis = -1, where: ArrayLike | None = None
) -> Array:
    """Class probabilities mixed with equal ones: (1 − alpha)·y + alpha / classes.

    Args:
        labels: y, floating, of shape (…, classes, …): one-hot, most often.
        alpha: the share of the equal ones, in [0, 1].
        axis: the class axis, or several; None means all.
        where: which classes there are, of a shape that broadcasts with the labels: only these get a
            share. Default: all.

    Returns:
        Labels of the same shape.

    Raises:
        TypeError: for labels that are not floating.
        ValueError: if the shapes do not fit, or for an alpha out of range.

    Source: Müller et al., When does label smoothing help?, arXiv:1906.02629.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> print(gradtx.smooth_labels(jnp.eye(2), 0.5))
        [[0.75 0.25]
         [0.25 0.75]]
    """
    within("smooth_labels", "[0, 1]", alpha=alpha)
    (y, alpha), dtype = widened("smooth_labels", labels, alpha)
    mask = mask_of("smooth_labels", where, y)
    if mask is None:
        axes = range(y.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        share = alpha / math.prod(y.shape[a] for a in axes)
    else:
        mask = jnp.broadcast_to(mask, y.shape)
        share = jnp.where(mask, alpha / jnp.maximum(jnp.sum(mask, axis, keepdims=True), 1), 0)
    return ((1 - alpha) * y + share).astype(dtype)

"""Losses of the order that scores give to the items of a list."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.arguments import fitting, mask_of, masked, widened
from gradtx.losses.logarithms import masked_log_softmax, weighted


def ranking_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduce_fn: Callable[..., Any] | None = jnp.mean,
) -> Array:
    """The cross entropy of relevances y and the softmax of scores s of a list: −Σᵢ wᵢ·yᵢ·log softmax(s)ᵢ.

    Args:
        logits: s, floating, of shape (…, items).
        labels: y, the relevance of each item, of the same shape.
        where: which items there are, of the same shape. Default: all. A list without any counts
            neither in the sum nor in the mean; the mean of no list is 0.
        weights: w, of the same shape. Default: 1.
        reduce_fn: makes one number of the losses of all lists, ``jnp.mean`` or ``jnp.sum``; it is
            called with ``where=``. None returns the losses themselves, 0 for a list without items.

    Raises:
        TypeError: for logits that are not floating.
        ValueError: if the shapes do not fit.

    Source: Cao et al., Learning to rank: from pairwise approach to listwise approach, ICML 2007.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> scores, labels = jnp.array([2.0, 1.0, 3.0]), jnp.array([1.0, 0.0, 0.0])
        >>> print(f"{gradtx.losses.ranking_softmax_loss(scores, labels):.3f}")
        1.408
    """
    fitting("ranking_softmax_loss", logits=logits, labels=labels, where=where, weights=weights)
    (s, y, w), dtype = widened("ranking_softmax_loss", logits, labels, 1 if weights is None else weights)
    mask = mask_of("ranking_softmax_loss", where, s)
    y = masked(mask, y * w, 0)
    losses = -jnp.sum(weighted(y, masked_log_softmax(s, -1, mask)), -1)
    lists = None if mask is None else jnp.any(mask, -1)
    if reduce_fn is None:
        return losses.astype(dtype)
    if reduce_fn is jnp.mean and lists is not None:
        count = jnp.sum(jnp.broadcast_to(lists, losses.shape))
        return (jnp.sum(losses) / jnp.maximum(count, 1)).astype(dtype)
    return jnp.asarray(reduce_fn(losses, where=lists)).astype(dtype)

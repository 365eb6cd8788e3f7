"""Losses of scores for classes, of which one is true or each has a probability."""

import math

import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.arguments import (
    Axis,
    check_axis,
    class_index,
    fitting,
    floating,
    integers,
    mask_of,
    masked,
    take,
    widened,
)
from gradtx.losses.logarithms import masked_log_softmax, weighted
from gradtx.projections.simplex import nearest_on_simplex


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> Array:
    """The cross entropy of class probabilities y and the softmax of scores x: −Σ_c y_c·log softmax(x)_c.

    The derivative by x is softmax(x)·Σ_c y_c − y. A class of probability 0 counts 0, also if its score
    is −∞; a score of +∞ takes all probability.

    Args:
        logits: x, floating, of shape (…, classes, …).
        labels: y, of a shape that broadcasts with it: probabilities, most often.
        axis: the class axis, or several; None means all.
        where: which elements count: of the shape of the logits, or of that without the class axis.
            Classes left out have no probability; where all are, the loss is 0. Default: all.

    Returns:
        The losses, without the class axis.

    Raises:
        TypeError: for logits that are not floating.
        ValueError: if the shapes do not fit.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> logits, labels = jnp.array([0.0, 0.0, -jnp.inf]), jnp.array([1.0, 0.0, 0.0])
        >>> print(gradtx.softmax_cross_entropy(logits, labels).round(4))
        0.6931
    """
    x, y, log_q, dtype = _compared("softmax_cross_entropy", logits, labels, axis, where)
    return -jnp.sum(weighted(y, log_q), axis).astype(dtype)


def _compared(name: str, logits: ArrayLike, labels: ArrayLike, axis: Axis, where: ArrayLike | None):
    """Scores, probabilities and log-probabilities; what a mask leaves out has label 0."""
    fitting(name, logits=logits, labels=labels)
    (x, y), dtype = widened(name, logits, labels)
    check_axis(name, axis, x, y)
    mask = mask_of(name, where, x, axis)
    return x, masked(mask, y, 0), masked_log_softmax(x, axis, mask), dtype


def safe_softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Array:
    """`softmax_cross_entropy` along the last axis, which is safe itself: the name is Optax's.

    Args:
        logits: floating, of shape (…, classes).
        labels: of a shape that broadcasts with it.

    Returns:
        The losses, of shape (…).

    Raises:
        TypeError: for logits that are not floating.
        ValueError: if the shapes do not fit.
    """
    return softmax_cross_entropy(logits, labels)


def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: int | tuple[int, ...] = -1,
    where: ArrayLike | None = None,
) -> Array:
    """The negative log-probability of the true class y: −log softmax(x)_y.

    It equals `softmax_cross_entropy` of one-hot labels, also under a mask.

    Args:
        logits: x, floating, of shape (…, classes, …).
        labels: y, integers in [0, classes), of the shape of the logits without the class axis. A label
            out of range is an error; where labels are traced, its loss is NaN.
        axis: the class axis, or several, over which classes are numbered in the order given.
        where: which elements count: of the shape of the logits, or of that without the class axis.
            The loss is 0 where the true class is left out, and its label is not looked at.

    Returns:
        The losses, of the shape of the labels.

    Raises:
        TypeError: for logits that are not floating, or labels that are no integers.
        ValueError: for labels out of range, or if the shapes do not fit.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> loss = gradtx.softmax_cross_entropy_with_integer_labels(jnp.zeros((2, 4)), jnp.array([0, 3]))
        >>> print(loss.round(4))
        [1.3863 1.3863]
    """
    name = "softmax_cross_entropy_with_integer_labels"
    (x,), dtype = widened(name, logits)
    if not isinstance(axis, int | tuple):
        raise TypeError(f"{name}: axis must be an integer or a tuple of integers, got {axis!r}")
    check_axis(name, axis, x)
    axes = axis if isinstance(axis, tuple) else (axis,)
    mask = mask_of(name, where, x, axes)
    mask = None if mask is None else _classes_last(jnp.broadcast_to(mask, x.shape), axes)
    x = _classes_last(x, axes)
    fitting(name, logits_without_classes=x[..., 0], labels=integers(name, labels))
    counts = True if mask is None else jnp.any(mask, -1)
    index, known = class_index(name, labels, x.shape[-1], counts)
    index = jnp.broadcast_to(index, fitting(name, logits=x[..., 0], labels=index))
    losses = -take(jnp.broadcast_to(masked_log_softmax(x, -1, mask), (*index.shape, x.shape[-1])), index)
    losses = jnp.where(known, losses, jnp.nan)
    if mask is not None:
        seen = take(jnp.broadcast_to(mask, (*index.shape, x.shape[-1])), index)
        losses = jnp.where(counts & (seen | ~known), losses, 0)
    return losses.astype(dtype)


def _classes_last(x: Array, axes: tuple[int, ...]) -> Array:
    """x with the class axes made one, the last."""
    moved = jnp.moveaxis(x, axes, range(-len(axes), 0))
    batch = moved.shape[: x.ndim - len(axes)]
    return moved.reshape(*batch, math.prod(moved.shape[len(batch) :]))


def poly_loss_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    epsilon: ArrayLike = 2.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> Array:
    """The cross entropy with another first term of its series: CE + ε·Σ_c y_c·(1 − softmax(x)_c).

    Args:
        logits: x, floating, of shape (…, classes, …).
        labels: y, floating, of a shape that broadcasts with it.
        epsilon: ε, at least −1; 1 to 3 were best on images. Default: 2.
        axis: the class axis, or several; None means all.
        where: which elements count, as in `softmax_cross_entropy`.

    Returns:
        The losses, without the class axis.

    Raises:
        TypeError: for logits or labels that are not floating.
        ValueError: if the shapes do not fit.

    Source: Leng et al., PolyLoss, arXiv:2204.12511.
    """
    floating("poly_loss_cross_entropy", labels=labels)
    _, y, log_q, dtype = _compared("poly_loss_cross_entropy", logits, labels, axis, where)
    return -jnp.sum(weighted(y, log_q) + epsilon * y * jnp.expm1(log_q), axis).astype(dtype)


def multiclass_hinge_loss(scores: ArrayLike, labels: ArrayLike) -> Array:
    """How far the true class y is from leading all others by 1: max_c (x_c − x_y + [c ≠ y]).

    Args:
        scores: x, floating, of shape (…, classes).
        labels: y, integers in [0, classes), of shape (…) or one that broadcasts with it. A label out of
            range is an error; where labels are traced, its loss is NaN.

    Returns:
        The losses, of shape (…). Classes that tie share the derivative.

    Raises:
        TypeError: for scores that are not floating, or labels that are no integers.
        ValueError: for labels out of range, or if the shapes do not fit.

    Source: Crammer and Singer, On the algorithmic implementation of multiclass kernel-based vector
    machines, JMLR 2, 2001.
    """
    _, lead, others, known, dtype = _leads("multiclass_hinge_loss", scores, labels)
    return jnp.where(known, jnp.max(lead + others, -1), jnp.nan).astype(dtype)


def multiclass_perceptron_loss(scores: ArrayLike, labels: ArrayLike) -> Array:
    """How far the true class y is from the lead: max_c x_c − x_y.

    Args:
        scores: x, floating, of shape (…, classes).
        labels: y, integers in [0, classes), of shape (…) or one that broadcasts with it. A label out of
            range is an error; where labels are traced, its loss is NaN.

    Returns:
        The losses, of shape (…). Classes that tie share the derivative.

    Raises:
        TypeError: for scores that are not floating, or labels that are no integers.
        ValueError: for labels out of range, or if the shapes do not fit.

    Source: Collins, Discriminative training methods for hidden Markov models, EMNLP 2002.
    """
    _, lead, _, known, dtype = _leads("multiclass_perceptron_loss", scores, labels)
    return jnp.where(known, jnp.max(lead, -1), jnp.nan).astype(dtype)


def multiclass_sparsemax_loss(scores: ArrayLike, labels: ArrayLike) -> Array:
    """The loss whose predictor is sparsemax, the projection p of scores x onto the simplex.

    p·x − x_y + ½·(1 − p·p), which is 0 once the true class y leads all others by 1. The derivative by x
    is p − one-hot(y).

    Args:
        scores: x, floating, of shape (…, classes).
        labels: y, integers in [0, classes), of shape (…) or one that broadcasts with it. A label out of
            range is an error; where labels are traced, its loss is NaN.

    Returns:
        The losses, of shape (…).

    Raises:
        TypeError: for scores that are not floating, or labels that are no integers.
        ValueError: for labels out of range, or if the shapes do not fit.

    Source: Martins and Astudillo, From softmax to sparsemax, arXiv:1602.02068.
    """
    x, lead, _, known, dtype = _leads("multiclass_sparsemax_loss", scores, labels)
    p = nearest_on_simplex(x, jnp.ones([], x.dtype))
    losses = jnp.sum(p * jnp.where(p > 0, lead, 0), -1) + (1 - jnp.sum(p * p, -1)) / 2
    return jnp.where(known, losses, jnp.nan).astype(dtype)


def _leads(name: str, scores: ArrayLike, labels: ArrayLike):
    """Scores, how far each class leads the true one, which are the others, which labels are classes."""
    (x,), dtype = widened(name, scores)
    index, known = class_index(name, labels, x.shape[-1])
    batch = fitting(name, scores_without_classes=x[..., 0], labels=labels)
    x, index = jnp.broadcast_to(x, (*batch, x.shape[-1])), jnp.broadcast_to(index, batch)
    others = jnp.arange(x.shape[-1]) != index[..., None]
    return x, jnp.where(others, x - take(x, index)[..., None], 0), others, known, dtype

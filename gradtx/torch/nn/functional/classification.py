"""Losses of scores for classes of which one is true, or each has a probability."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.arguments import check_each, take
from gradtx.torch.nn.functional._arguments import Shape, integers, widened
from gradtx.torch.nn.functional._reduction import reduced


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """The cross entropy of the true classes, or of their probabilities, and the softmax of scores.

    With log q the log-softmax of x over the C classes, weights w and ε = label_smoothing:
    for a class y, −(1 − ε)·w_y·log q_y − (ε / C)·Σ_c w_c·log q_c, and the mean divides by the sum of
    w_y over the labels that count, which is NaN if there is none;
    for probabilities p, −Σ_c w_c·((1 − ε)·p_c + ε / C)·log q_c, and the mean divides by their number.

    Args:
        input: x, scores without bounds, of shape (C,), (N, C) or (N, C, d₁, …).
        target: y, integers in [0, C), of the shape of x without its class axis; or p, floats of the
            very shape of x. A label out of range is an error; where labels are traced, its loss is NaN.
        weight: w, of shape (C,). Default: 1.
        ignore_index: a label that does not count; labels only.
        reduction: 'none', 'mean' or 'sum'.
        label_smoothing: ε, in [0, 1].

    Raises:
        IndexError: for a label out of range.
        RuntimeError: for a target or a weight of a wrong dtype or shape, label_smoothing out of range,
            or an ignore_index with probabilities.
        ValueError: for another number of labels than samples, or an unknown reduction.

    Source: Szegedy et al., Rethinking the Inception architecture for computer vision, arXiv:1512.00567,
    for label smoothing.
    """
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    with_probabilities = jnp.shape(input) == jnp.shape(target)
    if with_probabilities:
        _check_probabilities(jnp.result_type(target), ignore_index)
    (scores, p, w), dtype = widened(
        "cross_entropy", input, target if with_probabilities else 0, 1 if weight is None else weight
    )
    axis = _class_axis(scores)
    w, classes = _weight_of_each_class(w, scores.shape, axis), scores.shape[axis]
    log_q = jax.nn.log_softmax(scores, axis)
    if with_probabilities:
        p = (1 - label_smoothing) * p + label_smoothing / max(classes, 1)
        return reduced(-jnp.sum(w * p * log_q, axis), reduction, dtype)
    labels = _labels(target, ignore_index, w, axis, scores.shape)
    losses = _of_labels(log_q, labels, axis)
    if label_smoothing > 0:
        of_all = jnp.where(labels.counts, -jnp.sum(w * log_q, axis), 0)
        losses = (1 - label_smoothing) * losses + label_smoothing / classes * of_all
    total = jnp.sum(labels.weight)
    return reduced(losses, reduction, dtype, jnp.where(total == 0, jnp.nan, total))


def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Array:
    """The negative log-likelihood of the true classes, given the logarithms of all probabilities.

    −w_y·x_y for a class y; the mean divides by the sum of w_y over the labels that count, which is NaN
    if there is none. With x = log_softmax(scores) it is `cross_entropy`.

    Args:
        input: x, log-probabilities, of shape (C,), (N, C) or (N, C, d₁, …).
        target: y, integers in [0, C), of the shape of x without its class axis. A label out of range
            is an error; where labels are traced, its loss is NaN.
        weight: w, of shape (C,). Default: 1.
        ignore_index: a label that does not count.
        reduction: 'none', 'mean' or 'sum'.

    Raises:
        IndexError: for a label out of range.
        RuntimeError: for a target or a weight of a wrong dtype or shape.
        ValueError: for another number of labels than samples, an input without a class axis, or an
            unknown reduction.
    """
    (log_q, w), dtype = widened("nll_loss", input, 1 if weight is None else weight)
    axis = _class_axis(log_q)
    w = _weight_of_each_class(w, log_q.shape, axis)
    labels = _labels(target, ignore_index, w, axis, log_q.shape)
    return reduced(_of_labels(log_q, labels, axis), reduction, dtype, jnp.sum(labels.weight))


def _of_labels(log_q: Array, labels: "_Labels", axis: int) -> Array:
    return jnp.where(labels.counts, -labels.weight * take(log_q, labels.index, axis), 0)


class _Labels(NamedTuple):
    """Where true classes are on the class axis, which of them count, and with what weight.

    A label that does not count has weight 0, one that is out of range NaN; both have index 0.
    """

    index: Array
    counts: Array
    weight: Array


def _labels(target: ArrayLike, ignore_index: int, weight: Array, axis: int, shape: Shape) -> _Labels:
    classes = shape[axis]
    labels = integers(target, "expected target dtype to be Long or Byte, but got {}; labels are integers")
    labels = _one_per_sample(labels, shape)
    counts = labels != ignore_index
    known = (labels >= 0) & (labels < classes)
    message = f"Target {{}} is out of bounds. There are {classes} classes"
    check_each(labels, known | ~counts, message, IndexError)
    index = jnp.where(known & counts, labels, 0)
    factor = jnp.where(counts, jnp.where(known, weight.reshape(classes)[index], jnp.nan), 0)
    return _Labels(index, counts, factor)


def _one_per_sample(labels: Array, shape: Shape) -> Array:
    """The labels, if there is one for each sample of an input of this shape."""
    if labels.ndim > 1 and len(shape) <= 2:
        raise RuntimeError(
            f"0D or 1D target tensor expected, multi-target not supported; the input has shape {shape}, "
            f"the target {labels.shape}"
        )
    if len(shape) == 1:
        if labels.size != 1:
            raise ValueError(f"For 1D input, 1D target must have size 1, but got target size: {labels.size}")
        return labels.reshape(())
    samples = labels.shape[0] if labels.ndim else 0
    if samples != shape[0]:
        raise ValueError(f"Expected input batch_size ({shape[0]}) to match target batch_size ({samples}).")
    expected = (shape[0], *shape[2:])
    if labels.shape != expected:
        raise RuntimeError(f"Expected target size {list(expected)}, got {list(labels.shape)}")
    return labels


def _class_axis(input: Array) -> int:
    if input.ndim == 0:
        raise ValueError("Expected 1 or more dimensions (got 0): there is no class axis")
    return min(input.ndim - 1, 1)


def _weight_of_each_class(weight: Array, shape: Shape, axis: int) -> Array:
    """The weights of classes, along the class axis of an input of this shape."""
    classes = shape[axis]
    if weight.shape not in ((), (classes,)):
        raise RuntimeError(
            f"weight tensor should be defined either for all {classes} classes or no classes but got "
            f"weight tensor of shape: {list(weight.shape)}"
        )
    along = [classes if i == axis else 1 for i in range(len(shape))]
    return jnp.broadcast_to(weight, classes).reshape(along)


def _check_probabilities(dtype: Any, ignore_index: int) -> None:
    if not jnp.issubdtype(dtype, jnp.floating):
        raise RuntimeError(
            f"Expected floating point type for target with class probabilities, got {dtype}; a target of "
            "the shape of the input holds probabilities, and labels lack the class axis"
        )
    if ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")

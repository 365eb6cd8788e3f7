"""Hinges: losses that are 0 once a score is on the right side by a margin."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.arguments import check_each, take
from gradtx.torch.nn.functional._arguments import (
    broadcast,
    clamp_min,
    elementwise,
    integers,
    widened,
)
from gradtx.torch.nn.functional._reduction import reduced


def margin_ranking_loss(
    input1: ArrayLike, input2: ArrayLike, target: ArrayLike, margin: float = 0, *, reduction: str = "mean"
) -> Array:
    """Which of two scores should be the larger: max(0, −y·(x₁ − x₂) + margin).

    Where the two sides of the maximum are equal, the derivative is that of the second.

    Args:
        input1: x₁.
        input2: x₂, of as many dimensions; shapes broadcast.
        target: y, 1 if x₁ should be the larger and −1 if x₂; of as many dimensions.
        margin: by how much.
        reduction: 'none', 'mean' or 'sum'.

    Raises:
        RuntimeError: if the numbers of dimensions differ, the shapes do not broadcast, or all is of
            integers.
        ValueError: for an unknown reduction.
    """
    if not jnp.ndim(input1) == jnp.ndim(input2) == jnp.ndim(target):
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {jnp.shape(input1)}, input2: {jnp.shape(input2)}, target: {jnp.shape(target)} "
        )
    (x1, x2, y), dtype = elementwise("margin_ranking_loss", input1, input2, target)
    return reduced(clamp_min(-y * (x1 - x2) + margin, 0), reduction, dtype)


def hinge_embedding_loss(
    input: ArrayLike, target: ArrayLike, margin: float = 1.0, *, reduction: str = "mean"
) -> Array:
    """A distance x that should be small or large: x where y is 1, max(0, margin − x) where y is −1.

    Where y is neither, the loss is the sum of both. Where x is the margin, the derivative is −1.

    Args:
        input: x, most often distances.
        target: y, 1 or −1, of a shape that broadcasts with it.
        margin: the distance that is large enough.
        reduction: 'none', 'mean' or 'sum'.

    Raises:
        RuntimeError: if the shapes do not broadcast, or all is of integers.
        ValueError: for an unknown reduction.
    """
    (x,), dtype = widened("hinge_embedding_loss", input)
    y = jnp.asarray(target)
    broadcast(x.shape, y.shape)
    far, near = jnp.where(y != 1, clamp_min(margin - x, 0), 0), jnp.where(y != -1, x, 0)
    return reduced(far + near, reduction, dtype)


def soft_margin_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean") -> Array:
    """The logistic loss of a score x and its sign y: log(1 + exp(−y·x)), finite for any finite score.

    Args:
        input: x.
        target: y, 1 or −1, of a shape that broadcasts with it.
        reduction: 'none', 'mean' or 'sum'.

    Raises:
        RuntimeError: if the shapes do not broadcast, or all is of integers.
        ValueError: for an unknown reduction.
    """
    (x, y), dtype = elementwise("soft_margin_loss", input, target)
    return reduced(jax.nn.softplus(-y * x), reduction, dtype)


def multilabel_soft_margin_loss(
    input: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, *, reduction: str = "mean"
) -> Array:
    """The mean over classes of −w·(y·log σ(x) + (1 − y)·log σ(−x)): each class, yes or no.

    Args:
        input: x, scores of shape (C,) or (…, C).
        target: y, 0 or 1 for each, of a shape that broadcasts with it.
        weight: w, of a shape that broadcasts to that, most often (C,). Default: 1.
        reduction: 'none', 'mean' or 'sum', of the means.

    Raises:
        RuntimeError: if the shapes do not broadcast, or all is of integers.
        IndexError: for an input without dimensions.
        ValueError: for an unknown reduction.
    """
    if jnp.ndim(input) == 0:
        raise IndexError("Dimension specified as -1 but tensor has no dimensions: there is no class axis")
    (x, y, w), dtype = elementwise(
        "multilabel_soft_margin_loss", input, target, 1 if weight is None else weight
    )
    losses = -w * (y * jax.nn.log_sigmoid(x) + (1 - y) * jax.nn.log_sigmoid(-x))
    return reduced(jnp.mean(losses, -1), reduction, dtype)


def multi_margin_loss(
    input: ArrayLike,
    target: ArrayLike,
    p: int = 1,
    margin: float = 1.0,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
) -> Array:
    """The true class y should lead all others by a margin: w_y / C·Σ_{c ≠ y} max(0, margin − x_y + x_c)ᵖ.

    Args:
        input: x, scores of shape (N, C), or (C,) for one sample.
        target: y, integers in [0, C), of shape (N,), or () or (1,) for one sample. A label out of range
            is an error; where labels are traced, its loss is NaN.
        p: 1 or 2.
        margin: by how much.
        weight: w, of shape (C,). Default: 1.
        reduction: 'none', 'mean' or 'sum'. The mean of no sample is NaN.

    Raises:
        ValueError: for another p, a weight that is not one-dimensional, or an unknown reduction.
        RuntimeError: for labels out of range, an input, target or weight of a wrong shape, or an input
            of integers.
    """
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and jnp.ndim(weight) != 1:
        raise ValueError(f"weight must be one-dimensional, it has {jnp.ndim(weight)} dimensions")
    (x, w), dtype = widened("multi_margin_loss", input, 1 if weight is None else weight)
    classes = _classes(x)
    if w.size not in (1, classes):
        raise RuntimeError(f"inconsistent weight size, expected {classes} but got {list(w.shape)}")
    labels = integers(target, "expected scalar type Long but found {}; labels are integers")
    samples = x.size // classes
    if labels.ndim > 1 or labels.size != samples:
        raise RuntimeError(
            "multi_margin_loss: target tensor should be 1-D with size equal to the number of input samples "
            f"(batch size). Expected target size [{samples}], but got {list(labels.shape)}. Input has shape "
            f"{list(x.shape)}."
        )
    known = (labels >= 0) & (labels < classes)
    check_each(labels, known, f"target out of range: {{}}, there are {classes} classes", RuntimeError)
    index = jnp.where(known, labels, 0)
    x = x.reshape(*labels.shape, classes)
    lead = take(x, index)[..., None] - x
    others = jnp.arange(classes) != index[..., None]
    short = jnp.where(others, _shortfall(margin - lead) ** int(p), 0)
    losses = jnp.broadcast_to(w, classes)[index] * jnp.mean(short, -1)
    return reduced(jnp.where(known, losses, jnp.nan), reduction, dtype)


def multilabel_margin_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean") -> Array:
    """All true classes should lead all others by 1: Σ_y Σ_c max(0, 1 − x_y + x_c) / C.

    The sums run over the true classes y and over the classes c that are not true. Each sample takes
    C² numbers, unless a compiler fuses them.

    Args:
        input: x, scores of shape (N, C), or (C,) for one sample.
        target: of the same shape: the true classes of a sample, ended by a −1; what follows it does
            not count. A class named twice counts twice. A label outside [−1, C) is an error; where
            labels are traced, the loss of its sample is NaN.
        reduction: 'none', 'mean' or 'sum'. The mean of no sample is NaN.

    Raises:
        RuntimeError: for labels out of range, an input or a target of a wrong shape, or an input of
            integers.
        ValueError: for an unknown reduction.
    """
    (x,), dtype = widened("multilabel_margin_loss", input)
    classes = _classes(x)
    labels = integers(target, "expected scalar type Long but found {}; labels are integers")
    if labels.shape != x.shape:
        raise RuntimeError(
            f"inconsistent target size: {list(labels.shape)} for input of size: {list(x.shape)}"
        )
    x, labels = jnp.atleast_1d(x), jnp.atleast_1d(labels)
    known = (labels >= -1) & (labels < classes)
    message = f"argument #2 'target' is out of range: {{}}, there are {classes} classes"
    check_each(labels, known, message, RuntimeError)
    true = jnp.cumsum(labels < 0, -1) == 0
    index = jnp.where(true & known, labels, 0)
    others = ~jnp.any(true[..., None] & (index[..., None] == jnp.arange(classes)), -2)
    lead = jnp.take_along_axis(x, index, -1)[..., :, None] - x[..., None, :]
    pairs = true[..., :, None] & others[..., None, :]
    losses = jnp.sum(jnp.where(pairs, _shortfall(1 - lead), 0), (-2, -1)) / classes
    losses = jnp.where(jnp.all(known, -1), losses, jnp.nan)
    return reduced(losses.reshape(x.shape[:-1]), reduction, dtype)


def _shortfall(x: Array) -> Array:
    """max(0, x), whose derivative at 0 is 0."""
    return jnp.where(x <= 0, 0, x)


def _classes(x: Array) -> int:
    """The number of classes of scores of one sample or of several."""
    classes = x.shape[-1] if x.ndim else 1
    if x.ndim > 2 or classes == 0:
        raise RuntimeError(
            f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(x.shape)}"
        )
    return classes

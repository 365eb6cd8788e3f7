"""Losses of distances and angles between embeddings."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.torch.nn.functional._arguments import EPSILON, clamp_min, elementwise
from gradtx.torch.nn.functional._norm import vector_norm
from gradtx.torch.nn.functional._reduction import reduced


def cosine_embedding_loss(
    input1: ArrayLike, input2: ArrayLike, target: ArrayLike, margin: float = 0, *, reduction: str = "mean"
) -> Array:
    """Two vectors that should point the same way or not: 1 − cos where y is 1, max(0, cos − margin) where −1.

    cos = a·b / √((a·a + ε)(b·b + ε)) with ε = 10⁻¹². Where y is neither, the loss is 0.

    Args:
        input1: a, of shape (N, D), or (D,) for one pair.
        input2: b, of a shape that broadcasts with it.
        target: y, 1 or −1, of shape (N,), or () for one pair.
        margin: the cosine that is small enough, in [−1, 1]; 0 to 0.5 is usual.
        reduction: 'none', 'mean' or 'sum'.

    Raises:
        RuntimeError: if the shapes do not fit, or all is of integers.
        ValueError: for an unknown reduction.
    """
    (a, b), dtype = elementwise("cosine_embedding_loss", input1, input2)
    y = jnp.asarray(target)
    if y.ndim > 1:
        raise RuntimeError(f"0D or 1D target tensor expected, multi-target not supported: {list(y.shape)}")
    if not a.ndim == b.ndim == y.ndim + 1:
        raise RuntimeError(
            f"{y.ndim}D target tensor expects {y.ndim + 1}D input tensors, but found inputs with sizes "
            f"{list(a.shape)} and {list(b.shape)}."
        )
    squares = (jnp.sum(a * a, -1) + EPSILON) * (jnp.sum(b * b, -1) + EPSILON)
    cosine = jnp.sum(a * b, -1) / jnp.sqrt(squares)
    (cosine, y), _ = elementwise("cosine_embedding_loss", cosine, y)
    apart = jnp.where(y == -1, clamp_min(cosine - margin, 0), 0)
    return reduced(jnp.where(y == 1, 1 - cosine, apart), reduction, dtype)


def triplet_margin_loss(
    anchor: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    *,
    reduction: str = "mean",
) -> Array:
    """An anchor should be nearer to the positive than to the negative by a margin.

    max(0, margin + ‖a − q + eps‖ₚ − ‖a − n + eps‖ₚ) along the last axis; with swap, the second distance
    is the smaller one of that and ‖q − n + eps‖ₚ.

    Args:
        anchor: a, of shape (D,) or (…, D).
        positive: q, of a shape that broadcasts with it, of as many dimensions.
        negative: n, likewise.
        margin: above 0.
        p: of the norm: any number, also infinite.
        eps: added to each difference.
        swap: whether the positive may be in the anchor's place.
        reduction: 'none', 'mean' or 'sum'.

    Raises:
        ValueError: for a margin that is not positive, or an unknown reduction.
        RuntimeError: if the shapes do not fit, or all is of integers.

    Source: Balntas et al., Learning shallow convolutional feature descriptors with triplet losses,
    BMVC 2016.
    """
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    (a, q, n), dtype = elementwise("triplet_margin_loss", anchor, positive, negative)
    if not a.ndim == q.ndim == n.ndim:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of "
            f"dimensions, but got: anchor {a.ndim}D, positive {q.ndim}D, and negative {n.ndim}D inputs"
        )

    def distance(x: Array, y: Array) -> Array:
        return vector_norm(jnp.atleast_1d(x - y + eps), p, -1)

    near, far = distance(a, q), distance(a, n)
    if swap:
        far = jnp.minimum(far, distance(q, n))
    return reduced(clamp_min(margin + near - far, 0), reduction, dtype)

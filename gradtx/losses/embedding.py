"""Losses of the distances and angles between embeddings."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.arguments import check_axis, fitting, floating, widened, within
from gradtx.losses.logarithms import log_sum
from gradtx.losses.regression import unit


def ntxent(embeddings: ArrayLike, labels: ArrayLike, temperature: ArrayLike = 0.07) -> Array:
    """The normalised temperature-scaled cross entropy: members of a group against all non-members.

    With s the cosines of embeddings over the temperature, it is the mean over the pairs i ≠ j of one
    group of −log (exp sᵢⱼ / (exp sᵢⱼ + Σ_k exp sᵢₖ)), k over the members of other groups. Without such
    pairs it is 0. It takes batch² numbers.

    Args:
        embeddings: floating, of shape (batch, n).
        labels: (batch,): equal for members of one group.
        temperature: above 0. Default: 0.07.

    Returns:
        One number.

    Raises:
        TypeError: for embeddings that are not floating.
        ValueError: if the shapes do not fit, or for a temperature that is not above 0.

    Source: Chen et al., A simple framework for contrastive learning of visual representations,
    arXiv:2002.05709.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> two_pairs = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> print(f"{gradtx.ntxent(two_pairs, jnp.array([0, 0, 1, 1]), temperature=1.0):.4f}")
        0.5514
    """
    within("ntxent", "(0, inf)", temperature=temperature)
    (x,), dtype = widened("ntxent", embeddings)
    groups = jnp.asarray(labels)
    if x.ndim != 2 or groups.shape != x.shape[:1]:
        raise ValueError(
            "ntxent: embeddings must be of shape (batch, n) and labels of shape (batch,), "
            f"got {x.shape} and {groups.shape}"
        )
    directions = unit(x, jnp.finfo(x.dtype).eps, -1)
    s = jnp.matmul(directions, directions.T, precision=jax.lax.Precision.HIGHEST) / temperature
    same = groups[:, None] == groups
    pairs = same & ~jnp.eye(len(x), dtype=bool)
    others = log_sum(jnp.where(same, -jnp.inf, s), -1)
    losses = jnp.where(pairs, jax.nn.softplus(others[:, None] - s), 0)
    return (jnp.sum(losses) / jnp.maximum(jnp.sum(pairs), 1)).astype(dtype)


def triplet_margin_loss(
    anchors: ArrayLike,
    positives: ArrayLike,
    negatives: ArrayLike,
    axis: int = -1,
    norm_degree: ArrayLike = 2,
    margin: ArrayLike = 1.0,
    eps: ArrayLike = 1e-6,
) -> Array:
    """An anchor should be nearer to the positive than to the negative by a margin.

    max(0, d(a, p) − d(a, n) + margin), with d(x, y) = (Σ|x − y|ᵏ + eps)^(1/k).

    Args:
        anchors: a, floating, of shape (…, n, …).
        positives: p, floating, of a shape that broadcasts with it.
        negatives: n, floating, likewise.
        axis: the axis of the vectors.
        norm_degree: k, above 0 and finite. Default: 2.
        margin: Default: 1.
        eps: above 0, so that the distance of equal vectors has a derivative. Default: 10⁻⁶.

    Returns:
        The losses, without the axis of the vectors.

    Raises:
        TypeError: for arguments that are not floating.
        ValueError: if the shapes do not fit, or for a norm_degree out of range.

    Source: Balntas et al., Learning shallow convolutional feature descriptors with triplet losses,
    BMVC 2016.
    """
    name = "triplet_margin_loss"
    if isinstance(norm_degree, int | float) and not 0 < norm_degree < math.inf:
        raise ValueError(f"{name}: norm_degree must lie in (0, inf), got {norm_degree}")
    floating(name, anchors=anchors, positives=positives, negatives=negatives)
    fitting(name, anchors=anchors, positives=positives, negatives=negatives)
    (a, p, n), dtype = widened(name, anchors, positives, negatives)
    check_axis(name, axis, a, p, n)

    def distance(x: Array, y: Array) -> Array:
        size = jnp.abs(x - y)
        # A power below 1 has an infinite derivative at 0.
        powers = jnp.where(size == 0, 0, jnp.where(size == 0, 1, size) ** norm_degree)
        return (jnp.sum(powers, axis) + eps) ** (1 / norm_degree)

    return jnp.maximum(distance(a, p) - distance(a, n) + margin, 0).astype(dtype)

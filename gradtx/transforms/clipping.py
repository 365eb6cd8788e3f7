"""Clipping: bounds on the size of updates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import (
    abs_sq,
    bounding_factor,
    decay_towards,
    quotient,
    rms,
    safe_increment,
    sqrt,
)
from gradtx.arrays.trees import global_norm, scalar_dtype, scale_tree
from gradtx.arrays.types import Array, Scalar
from gradtx.core.leafwise import leafwise
from gradtx.core.transformation import EmptyState, init_empty_state
from gradtx.core.treewise import treewise
from gradtx.values.domains import Decay, NonNegative, Positive, Static


@leafwise(elementwise=True, others="hidden")
def clip(max_delta: NonNegative):
    """Bound every number of the updates: min(max(g, −max_delta), max_delta). NaN stays NaN.

    Args:
        max_delta: the largest magnitude, at least 0.
    """

    def update(grad):
        return jnp.clip(grad, -max_delta, max_delta)

    return update


@treewise(state=EmptyState, on_shards=True)
def clip_by_global_norm(max_norm: NonNegative):
    """Scale all updates together so that their Euclidean norm is at most max_norm.

    The update is g·min(1, max_norm / ‖g‖), with the norm over all tensors, in at least float32.
    A norm that is NaN makes every update NaN: nothing is hidden.

    Args:
        max_norm: the largest norm, at least 0.

    Source: Pascanu et al., On the difficulty of training recurrent neural networks, arXiv:1211.5063.
    """

    def update(updates, state):
        return scale_tree(updates, bounding_factor(global_norm(updates), max_norm)), state

    return init_empty_state, update


class ClipByUsualNormState(NamedTuple):
    """seen: int32 scalar, how many norms were finite so far; mean, variance: scalars, of these norms."""

    seen: Array
    mean: Array
    variance: Array


@treewise(state=ClipByUsualNormState, on_shards=True)
def clip_by_usual_norm(threshold: Positive = 2.5, decay: Decay = 0.97, warmup: NonNegative = 25):
    """Scale all updates together when their norm is a spike among the norms so far (ZClip).

    With the moving mean m and variance v of the norms, a norm n = ‖g‖ with z = (n − m) / √v > threshold is
    brought down to n* = m + threshold²·√v / z: the larger it is, the nearer to the mean. Others stay, n* = n.
    Then m ← decay·m + (1 − decay)·n*, and v ← decay·v + (1 − decay)·(n* − m)² with the new m. For the first
    updates, as many as `warmup` says, m and v are those of all norms so far, and nothing is clipped.

    A norm that is NaN or infinite enters no average. `skip_spikes` leaves such a step out as a whole;
    `clip_by_global_norm` after it bounds what a warm-up lets pass.

    Args:
        threshold: how many standard deviations above the mean a spike begins, above 0. Default: 2.5.
        decay: decay of mean and variance, in [0, 1).
        warmup: how many norms come before the first that may be clipped, at least 0.

    Source: Kumar et al., ZClip: adaptive spike mitigation for LLM pre-training, arXiv:2504.02507, without
    the 1e-6 that its code adds to √v and n.
    """

    def init(params):
        zero = jnp.zeros([], scalar_dtype("clip_by_usual_norm", params))
        return ClipByUsualNormState(jnp.zeros([], jnp.int32), zero, jnp.copy(zero))

    def update(updates, state):
        norm = global_norm(updates).astype(state.mean.dtype)
        factor, state = _usual(norm, state, threshold, decay, warmup)
        return scale_tree(updates, factor), state

    return init, update


@jax.jit
def _usual(
    norm: Array, state: ClipByUsualNormState, threshold: Scalar, decay: Scalar, warmup: Scalar
) -> tuple[Array, ClipByUsualNormState]:
    """The factor that brings a norm down, and the averages after it."""
    seen, mean, variance = state
    excess = norm - mean
    spike = (seen >= warmup) & (excess > threshold * sqrt(variance))
    kept = jnp.where(spike, mean + quotient(threshold**2 * variance, excess), norm)

    seen = safe_increment(seen)
    n = seen.astype(norm.dtype)
    early = mean + excess / n
    late = decay_towards(mean, kept, decay)
    new_mean = jnp.where(seen <= warmup, early, late)
    new_variance = jnp.where(
        seen <= warmup,
        variance + (excess * (norm - early) - variance) / n,
        decay_towards(variance, jnp.square(kept - late), decay),
    )
    new = ClipByUsualNormState(seen, new_mean, new_variance)
    finite = jnp.isfinite(norm)
    averages = ClipByUsualNormState(*(jnp.where(finite, x, old) for x, old in zip(new, state, strict=True)))
    return jnp.where(spike, quotient(kept, norm), 1), averages


@leafwise(others="hidden")
def clip_by_block_rms(threshold: Positive):
    """Scale each tensor's update so that its root mean square is at most threshold.

    The update is g / max(1, rms(g) / threshold).

    Args:
        threshold: the largest root mean square, above 0.

    Source: Shazeer and Stern, Adafactor, arXiv:1804.04235.
    """

    def update(grad):
        return grad / jnp.maximum(1, rms(grad) / threshold)

    return update


@leafwise(others="hidden")
def adaptive_grad_clip(
    clipping: NonNegative, eps: NonNegative = 1e-3, axis: Static[int | tuple[int, ...] | None] = None
):
    """Bound the update of each unit by a share of the unit's own norm.

    With norms per unit (one output of a layer): the update is g where ‖g‖ < clipping·max(‖p‖, eps),
    and otherwise g scaled to that norm.

    Args:
        clipping: the largest ratio of the norms.
        eps: lower bound of the norm of the params.
        axis: the axes of a tensor that a unit spans. Default: all for vectors, the first for 2 and 3
            dimensions, the first three for 4, the first four for 5 (Flax's layouts).

    Raises:
        ValueError: for a tensor of more than 5 dimensions without `axis`.

    Source: Brock et al., High-performance large-scale image recognition without normalization,
    arXiv:2102.06171.
    """

    def update(grad, param):
        max_norm = clipping * jnp.maximum(_unit_norm(param, axis), eps)
        return unitwise_clip(_unit_norm(grad, axis), max_norm, grad)

    return update


def unitwise_norm(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """The Euclidean norm of each unit of a tensor (one output of a layer), in the tensor's shape.

    Args:
        x: the tensor.
        axis: the axes that a unit spans. Default: as in `adaptive_grad_clip`.

    Raises:
        ValueError: for a tensor of more than 5 dimensions without `axis`.
    """
    return jnp.broadcast_to(_unit_norm(x, axis), x.shape)


def _unit_norm(x: Array, axis: int | tuple[int, ...] | None) -> Array:
    axes = _unit_axes(x) if axis is None else axis
    return sqrt(jnp.sum(abs_sq(x), axis=axes, keepdims=True))


def unitwise_clip(g_norm: Array, max_norm: Array, grad: Array, div_eps: Scalar = 1e-6) -> Array:
    """The gradient where its norm is below max_norm, and otherwise scaled to it: g·max_norm / ‖g‖.

    Args:
        g_norm: the norm of each unit, as `unitwise_norm` gives it.
        max_norm: the largest norm of each, in a shape that broadcasts with it.
        grad: the gradient.
        div_eps: lower bound of the divisor.
    """
    return jnp.where(g_norm < max_norm, grad, grad * (max_norm / jnp.maximum(g_norm, div_eps)))


def _unit_axes(x) -> tuple[int, ...]:
    if sum(length != 1 for length in x.shape) <= 1:
        return tuple(range(x.ndim))
    by_rank = {2: (0,), 3: (0,), 4: (0, 1, 2), 5: (0, 1, 2, 3)}
    if x.ndim not in by_rank:
        raise ValueError(f"adaptive_grad_clip: a tensor of shape {x.shape} has no default unit; give axis=")
    return by_rank[x.ndim]

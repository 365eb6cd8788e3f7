"""Clipping: bounds on the size of updates."""

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, bounding_factor, rms, sqrt
from gradtx.arrays.trees import global_norm, scale_tree
from gradtx.arrays.types import Array, Scalar
from gradtx.core.leafwise import leafwise
from gradtx.core.transformation import EmptyState, init_empty_state
from gradtx.core.treewise import treewise
from gradtx.values.domains import NonNegative, Positive, Static


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

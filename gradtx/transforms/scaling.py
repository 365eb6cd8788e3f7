"""Scaling: updates times a number, fixed, scheduled, or taken from the tensors themselves."""

from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import norm, rms, zero_like
from gradtx.arrays.trees import global_norm, scale_tree
from gradtx.arrays.types import Array
from gradtx.core.leafwise import leafwise
from gradtx.core.transformation import EmptyState, init_empty_state
from gradtx.core.treewise import treewise
from gradtx.values.domains import NonNegative, Number


class ScaleByScheduleState(NamedTuple):
    """count: int32 scalar, updates so far."""

    count: Array


@leafwise(elementwise=True, others="shown")
def identity():
    """Leave updates as they are."""

    def update(grad):
        return grad

    return update


@leafwise(elementwise=True, others="shown")
def set_to_zero():
    """Make every update 0, so that the params stay as they are.

    To freeze some of the params use `groups` with None for them: it keeps no state for them either.
    """

    def update(grad):
        return zero_like(grad)

    return update


@leafwise(counted=ScaleByScheduleState, elementwise=True)
def scale(step_size: Number):
    """Multiply updates by a number.

    Args:
        step_size: the factor, of any sign.
    """

    def update(grad):
        return step_size * grad

    return update


@leafwise(counted=ScaleByScheduleState, elementwise=True, others="refused")
def scale_by_learning_rate(learning_rate: Number | None = None, *, flip_sign: bool = True):
    """Multiply updates by −learning_rate: the last stage of an optimizer that descends.

    Args:
        learning_rate: the step size; with None, updates are left as they are.
        flip_sign: whether to multiply by −1 as well. Default: yes.
    """
    sign = -1 if flip_sign else 1

    def update(grad):
        return grad if learning_rate is None else (sign * learning_rate) * grad

    return update


@leafwise(counted=ScaleByScheduleState, elementwise=True)
def scale_by_schedule(step_size_fn: Number):
    """Multiply updates by a schedule: ``scale`` under the name that Optax gives it.

    Args:
        step_size_fn: a function of the count of updates so far.
    """

    def update(grad):
        return step_size_fn * grad

    return update


@leafwise()
def scale_by_trust_ratio(
    min_norm: NonNegative = 0.0, trust_coefficient: NonNegative = 1.0, eps: NonNegative = 0.0
):
    """Scale each tensor's update to the size of the tensor.

    ratio = trust_coefficient·max(‖p‖, min_norm) / (max(‖g‖, min_norm) + eps), and 1 where one of the
    norms is 0; the update is ratio·g. Norms are Euclidean, over a whole tensor.

    Args:
        min_norm: lower bound of both norms.
        trust_coefficient: factor of the ratio.
        eps: added to the norm of the update.

    Source: You et al., Large batch training of convolutional networks (LARS), arXiv:1708.03888.
    """

    def update(grad, param):
        param_norm = jnp.maximum(norm(param), min_norm)
        grad_norm = jnp.maximum(norm(grad), min_norm)
        known = (param_norm != 0) & (grad_norm != 0)
        ratio = trust_coefficient * param_norm / jnp.where(known, grad_norm + eps, 1)
        return jnp.where(known, ratio, 1) * grad

    return update


@leafwise()
def scale_by_param_block_norm(min_scale: NonNegative = 1e-3):
    """Multiply each tensor's update by the Euclidean norm of its param.

    The update is max(‖p‖, min_scale)·g.

    Args:
        min_scale: lower bound of the factor.
    """

    def update(grad, param):
        return jnp.maximum(norm(param), min_scale) * grad

    return update


@leafwise()
def scale_by_param_block_rms(min_scale: NonNegative = 1e-3):
    """Multiply each tensor's update by the root mean square of its param.

    The update is max(rms(p), min_scale)·g.

    Args:
        min_scale: lower bound of the factor.
    """

    def update(grad, param):
        return jnp.maximum(rms(param), min_scale) * grad

    return update


@treewise(state=EmptyState, on_shards=True)
def normalize_by_update_norm(scale_factor: Number = 1.0, eps: NonNegative = 1e-6):
    """Scale all updates together to a given Euclidean norm.

    The update is scale_factor·g / (‖g‖ + eps), with the norm over all tensors.

    Args:
        scale_factor: the norm of the result.
        eps: keeps the divisor above 0.
    """

    def update(updates, state):
        return scale_tree(updates, scale_factor / (global_norm(updates) + eps)), state

    return init_empty_state, update

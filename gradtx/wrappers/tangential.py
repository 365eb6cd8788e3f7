"""Tangents: updates that leave the norms of scale-invariant weights alone."""

from typing import Annotated

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, extreme, sqrt
from gradtx.arrays.trees import mapped, widened
from gradtx.arrays.types import Array, Scalar
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import treewise
from gradtx.values.domains import Interval, NonNegative, Number, ScalarOrSchedule, Static
from gradtx.wrappers.groups import whole_state

Share = Annotated[ScalarOrSchedule, Interval("[0, 1]")]


@treewise(inner_states=whole_state)
def tangential(
    inner: GradientTransformation,
    delta: NonNegative = 0.1,
    weight_decay: Number = 0.0,
    wd_ratio: Share = 0.1,
    eps: NonNegative = 1e-8,
    channel_axis: Static[int] = -1,
):
    """Leave out of a direction what only changes the norm of weights that are scale-invariant.

    Weights before a normalisation are: their gradients are orthogonal to them. They are found by this: with
    the weights of one channel, or else with all of a tensor, as vectors p of n numbers, they are where the
    largest |cos(g, p)| is below delta/√n. There the update is u − ⟨p̂, u⟩·p̂ + wd_ratio·weight_decay·p with
    p̂ = p / (‖p‖ + eps), elsewhere and for tensors with fewer than two axes u + weight_decay·p. The state
    is that of the direction.

    Args:
        inner: the direction, which a later stage turns downhill: `scale_by_adam` for AdamP, `trace` for SGDP.
        delta: the bound of the cosine.
        weight_decay: strength of the decay. SGDP's is weight_decay / (1 − momentum).
        wd_ratio: the share of it for scale-invariant weights, in [0, 1].
        eps: added to norms, and the lower bound of those in the cosine.
        channel_axis: the axis of the outputs, each of which is a channel. Default: the last, as in Flax; in
            PyTorch it is 0.

    Source: Heo et al., AdamP: slowing down the slowdown for momentum optimizers on scale-invariant weights,
    arXiv:2006.08217.
    """

    def tangent(u: Array, grad: Array, param: Array) -> Array:
        if u.ndim < 2:
            return u + weight_decay * param
        channel = tuple(axis for axis in range(u.ndim) if axis != channel_axis % u.ndim)
        of_channels = _is_invariant(grad, param, delta, eps, channel)
        of_all = (1 - of_channels) * _is_invariant(grad, param, delta, eps, None)
        radial = of_channels * _radial(u, param, eps, channel) + of_all * _radial(u, param, eps, None)
        return u - radial + (1 - (1 - wd_ratio) * (of_channels + of_all)) * weight_decay * param

    def update(updates, state, params, **extra):
        new, state = inner.update(updates, state, params, **extra)
        return mapped(tangent, new, updates, widened(params)), state

    return inner.init, update


Axes = tuple[int, ...] | None


def _sum(x: Array, axes: Axes) -> Array:
    return jnp.sum(x, axes, keepdims=True)


def _is_invariant(grad: Array, param: Array, delta: Scalar, eps: Scalar, axes: Axes) -> Array:
    """1 if the largest cosine of a gradient and its weights is small, else 0; NaN stays NaN."""
    norms = [jnp.maximum(sqrt(_sum(abs_sq(x), axes)), eps) for x in (grad, param)]
    cosines = jnp.abs(_sum(param.conj() * grad, axes)) / (norms[0] * norms[1])
    largest = extreme(jnp.max, cosines, initial=0)
    small = largest < delta * (cosines.size / max(grad.size, 1)) ** 0.5
    return jnp.where(small, 1, 0 * largest)


def _radial(u: Array, param: Array, eps: Scalar, axes: Axes) -> Array:
    """What of an update lies along its weights."""
    unit = param / (sqrt(_sum(abs_sq(param), axes)) + eps)
    return _sum(unit.conj() * u, axes).real * unit

"""Tangents: updates that leave the norms of scale-invariant weights alone."""

from typing import Annotated

import jax.numpy as jnp

from gradtx.arrays.numerics import extreme, sqrt
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

    Raises:
        ValueError: at `update`, for a tensor of two axes or more that has no such axis.

    Source: Heo et al., AdamP: slowing down the slowdown for momentum optimizers on scale-invariant weights,
    arXiv:2006.08217.
    """

    def tangent(u: Array, grad: Array, param: Array) -> Array:
        if u.ndim < 2:
            return u + weight_decay * param
        if not -u.ndim <= channel_axis < u.ndim:
            raise ValueError(
                f"tangential: channel_axis {channel_axis} is no axis of a tensor of shape {u.shape}"
            )
        others = tuple(axis for axis in range(u.ndim) if axis != channel_axis % u.ndim)
        products = [
            jnp.sum((x.conj() * y).real, others, keepdims=True)
            for x, y in ((grad, param), (grad, grad), (param, param), (param, u))
        ]
        by_channel, share = _invariance(*products, size=u.size, delta=delta, eps=eps)
        sums = [jnp.sum(x) for x in products]
        by_tensor, whole_share = _invariance(*sums, size=u.size, delta=delta, eps=eps)
        by_tensor = (1 - by_channel) * by_tensor
        decay = weight_decay * (1 - (1 - wd_ratio) * (by_channel + by_tensor))
        return u + (decay - by_channel * share - by_tensor * whole_share) * param

    def update(updates, state, params, **extra):
        new, state = inner.update(updates, state, params, **extra)
        return mapped(tangent, new, updates, widened(params)), state

    return inner.init, update


def _invariance(
    gp: Array, gg: Array, pp: Array, pu: Array, *, size: int, delta: Scalar, eps: Scalar
) -> tuple[Array, Array]:
    """Of ⟨g, p⟩, ⟨g, g⟩, ⟨p, p⟩ and ⟨p, u⟩ of some parts of a tensor: 1 if the largest cosine is small and
    else 0, where NaN stays NaN; and what to take off the update of each part, as a share of its weights."""
    cosines = jnp.abs(gp) / (jnp.maximum(sqrt(gg), eps) * jnp.maximum(sqrt(pp), eps))
    largest = extreme("max", cosines, initial=0)
    small = largest < delta * (gp.size / max(size, 1)) ** 0.5
    return jnp.where(small, 1, 0 * largest), pu / (sqrt(pp) + eps) ** 2

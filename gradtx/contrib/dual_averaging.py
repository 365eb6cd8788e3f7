"""Dual averaging: params that are computed anew from where they began."""

from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, cbrt, real_like, sqrt
from gradtx.arrays.types import Array, Params
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.decay import add_decayed_weights
from gradtx.values.domains import Decay, NonNegative, Number


class MadgradState(NamedTuple):
    """count: int32 scalar, updates so far; grad_sum_sq, s, x0: trees like the params, the weighted sums of
    squared gradients and of gradients, and the first params."""

    count: Array
    grad_sum_sq: Params
    s: Params
    x0: Params


@leafwise(state=MadgradState, elementwise=True, unsigned=("grad_sum_sq",))
def scale_by_madgrad(learning_rate: Number, momentum: Decay = 0.9, eps: NonNegative = 1e-6):
    """MADGRAD's steps: from the first params, along the sum of gradients over the cube root of their squares.

    λₜ = (learning_rate + eps)·√t,  Gₜ = Gₜ₋₁ + λₜ·|gₜ|²,  sₜ = sₜ₋₁ + λₜ·gₜ,
    zₜ = x₀ − sₜ / (∛Gₜ + eps); the update is (1 − momentum)·(zₜ − xₜ₋₁). It descends: no learning rate
    follows.

    Args:
        learning_rate: the step size.
        momentum: the share of the params that stays at each update, in [0, 1).
        eps: added to the learning rate and to the divisor; above 0 where a gradient may be 0.

    Source: Defazio and Jelassi, Adaptivity without compromise, arXiv:2101.11075.
    """

    def init(param):
        return dict(grad_sum_sq=real_like(param), s=jnp.zeros_like(param), x0=param)

    def update(grad, grad_sum_sq, s, x0, param, step):
        weight = (learning_rate + eps) * sqrt(step.astype(grad.real.dtype))
        grad_sum_sq = grad_sum_sq + weight * abs_sq(grad)
        s = s + weight * grad
        z = x0 - s / (cbrt(grad_sum_sq) + eps)
        return (1 - momentum) * (z - param), dict(grad_sum_sq=grad_sum_sq, s=s, x0=x0)

    return init, update


@recipe
def madgrad(
    learning_rate: Number, momentum: Decay = 0.9, weight_decay: Number = 0.0, eps: NonNegative = 1e-6
) -> GradientTransformation:
    """MADGRAD: dual averaging with momentum and a step size for each coordinate.

    p ← momentum·p + (1 − momentum)·(x₀ − s / (∛G + eps)), where s and G are weighted sums of g and of |g|²,
    as in `scale_by_madgrad`.

    Args:
        learning_rate, momentum, eps: as in `scale_by_madgrad`.
        weight_decay: strength of the L2 regularisation.

    Source: Defazio and Jelassi, Adaptivity without compromise, arXiv:2101.11075.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.madgrad(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.0215 0.0171
    """
    return chain(add_decayed_weights(weight_decay), scale_by_madgrad(learning_rate, momentum, eps))

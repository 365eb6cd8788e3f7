"""MoMo: momentum with a step size from a model of the loss."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.errors import check_scalar
from gradtx.arrays.numerics import (
    abs_sq,
    debias,
    decay_towards,
    one_minus_power,
    quotient,
    safe_increment,
    sqrt,
)
from gradtx.arrays.trees import advanced, inner_product, mapped, scalar_dtype, total, zeros
from gradtx.arrays.types import Array, Params, Scalar
from gradtx.core.treewise import treewise
from gradtx.values.domains import Decay, NonNegative, Number


class MomoState(NamedTuple):
    """exp_avg: a tree like the params, the mean of gradients; barf, gamma: scalars, the means of losses and
    of ⟨g, x⟩; lb: scalar, the lower bound of the loss; count: int32 scalar, updates so far."""

    exp_avg: Params
    barf: Array
    gamma: Array
    lb: Array
    count: Array


class MomoAdamState(NamedTuple):
    """As `MomoState`, and exp_avg_sq: a tree like the params, the mean of squared gradients."""

    exp_avg: Params
    exp_avg_sq: Params
    barf: Array
    gamma: Array
    lb: Array
    count: Array


def _stepped(
    alpha: Scalar, decay: Scalar, weight: Any, lb: Array, least: Scalar, adapt: bool, *sums: Any
) -> tuple[Array, Array]:
    """The step size τ and the next lower bound; `weight` is that of the gradients in the mean m."""
    gap, product, size = sums  # f̄ − γ, ⟨m, x⟩ and ‖m‖²
    grown = 1 + alpha * decay
    level = grown * gap + product
    below = jnp.maximum(level / (2 * weight * grown), least)
    bound = jnp.where(level < grown * weight * lb, below, lb) if adapt else lb
    polyak = quotient(jnp.maximum(level - grown * weight * bound, 0), size, float(jnp.finfo(float).eps))
    tau = jnp.minimum(alpha / weight, polyak)
    if adapt:
        bound = jnp.maximum((gap + product - tau * size / 2) / weight, least)
    return tau, bound


@treewise(state=MomoState, others="refused", on_shards=True)
def momo(
    learning_rate: Number = 1.0,
    beta: Decay = 0.9,
    lower_bound: Number = 0.0,
    weight_decay: NonNegative = 0.0,
    adapt_lower_bound: bool = False,
):
    """MoMo: gradient descent with momentum, and at most the step to where its model of the loss is least.

    With the means m of gradients, f̄ of losses and γ of ⟨g, x⟩, all of them begun at their first values, α the
    learning rate and λ the weight decay, τ = min(α, ((1 + αλ)·(f̄ − lower_bound − γ) + ⟨m, x⟩)₊ / ‖m‖²);
    the update is −τ·m − αλ/(1 + αλ)·x. It needs the loss: ``tx.update(grads, state, params, value=loss)``.

    Args:
        learning_rate: the largest step size; it may be large.
        beta: decay of the means, in [0, 1).
        lower_bound: a lower bound of the loss; 0 serves most.
        weight_decay: λ, at least 0.
        adapt_lower_bound: whether to estimate the bound on the way, from lower_bound on.

    Raises:
        TypeError: at `update`, if it is called without ``value``.

    Source: Schaipp et al., MoMo: Momentum models for adaptive learning rates, arXiv:2305.07583.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.momo(), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params, value=1.0)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.8 0.4
    """

    def init(params):
        dtype = scalar_dtype("contrib.momo", params)
        zero = jnp.zeros([], dtype)
        return MomoState(
            exp_avg=zeros(params),
            barf=zero,
            gamma=jnp.copy(zero),
            lb=jnp.asarray(lower_bound, dtype),
            count=jnp.zeros([], jnp.int32),
        )

    def update(updates, state, params, *, value):
        check_scalar("contrib.momo", "value", value)
        kept = jnp.where(state.count == 0, 0, beta)
        barf = decay_towards(state.barf, jnp.asarray(value, state.barf.dtype), kept)
        m = advanced(lambda g, m: decay_towards(m, g, kept), updates, state.exp_avg)
        gamma = decay_towards(state.gamma, total(inner_product, updates, params), kept)
        product = total(lambda _, m, x: inner_product(m, x), updates, m, params)
        size = total(lambda _, m: jnp.sum(abs_sq(m)), updates, m)
        sums = barf - gamma, product, size
        tau, lb = _stepped(learning_rate, weight_decay, 1, state.lb, lower_bound, adapt_lower_bound, *sums)
        shrunk = learning_rate * weight_decay / (1 + learning_rate * weight_decay)
        steps = mapped(lambda _, m, x: -shrunk * x - tau * m, updates, m, params)
        return steps, MomoState(m, barf, gamma, lb, safe_increment(state.count))

    return init, update


@treewise(state=MomoAdamState, others="refused", on_shards=True)
def momo_adam(
    learning_rate: Number = 1e-2,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    lower_bound: Number = 0.0,
    weight_decay: NonNegative = 0.0,
    adapt_lower_bound: bool = False,
):
    """MoMo-Adam: Adam, and at most the step to where its model of the loss is least.

    As `momo`, with means begun at 0, whose weight is c = 1 − b1ᵗ, and in the norm of
    D = eps + √(v / (1 − b2ᵗ)): τ = min(α/c, ((1 + αλ)·(f̄ − c·lower_bound − γ) + ⟨m, x⟩)₊ / ⟨m, m/D⟩);
    the update is −τ·m/D − αλ/(1 + αλ)·x. It needs the loss: ``tx.update(grads, state, params, value=loss)``.

    Args:
        learning_rate: the largest step size; it may be large.
        b1, b2: decays of the means of gradients and of their squares, in [0, 1).
        eps: added to the root.
        lower_bound: a lower bound of the loss; 0 serves most.
        weight_decay: λ, at least 0.
        adapt_lower_bound: whether to estimate the bound on the way, from lower_bound on.

    Raises:
        TypeError: at `update`, if it is called without ``value``.

    Source: Schaipp et al., MoMo: Momentum models for adaptive learning rates, arXiv:2305.07583.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.momo_adam(), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params, value=1.0)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.01 0.01
    """

    def init(params):
        dtype = scalar_dtype("contrib.momo_adam", params)
        zero = jnp.zeros([], dtype)
        return MomoAdamState(
            exp_avg=zeros(params),
            exp_avg_sq=zeros(params, real=True),
            barf=zero,
            gamma=jnp.copy(zero),
            lb=jnp.asarray(lower_bound, dtype),
            count=jnp.zeros([], jnp.int32),
        )

    def update(updates, state, params, *, value):
        check_scalar("contrib.momo_adam", "value", value)
        count = safe_increment(state.count)
        step = count.astype(state.barf.dtype)
        barf = decay_towards(state.barf, jnp.asarray(value, state.barf.dtype), b1)
        m = advanced(lambda g, m: decay_towards(m, g, b1), updates, state.exp_avg)
        v = advanced(lambda g, v: decay_towards(v, abs_sq(g), b2), updates, state.exp_avg_sq)
        gamma = decay_towards(state.gamma, total(inner_product, updates, params), b1)
        product = total(lambda _, m, x: inner_product(m, x), updates, m, params)
        scaled = mapped(lambda _, m, v: m / (eps + sqrt(debias(v, b2, count))), updates, m, v)
        size = total(lambda _, m, s: inner_product(m, s), updates, m, scaled)
        sums, weight = (barf - gamma, product, size), one_minus_power(b1, step)
        tau, lb = _stepped(
            learning_rate, weight_decay, weight, state.lb, lower_bound, adapt_lower_bound, *sums
        )
        shrunk = learning_rate * weight_decay / (1 + learning_rate * weight_decay)
        steps = mapped(lambda _, s, x: -shrunk * x - tau * s, updates, scaled, params)
        return steps, MomoAdamState(m, v, barf, gamma, lb, count)

    return init, update

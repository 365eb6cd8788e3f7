"""Mechanic: a learning rate for any optimizer, found on the way."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import safe_increment, sqrt
from gradtx.arrays.trees import global_norm, inner_product, mapped, scalar_dtype, total, widened
from gradtx.arrays.types import Array, Params, State
from gradtx.core.transformation import GradientTransformation, InnerStates, check_transformation
from gradtx.core.treewise import treewise
from gradtx.values.domains import Count, NonNegative, Positive


class MechanicState(NamedTuple):
    """Where a mechanic stands.

    base_optimizer_state: the state of the optimizer; count: int32 scalar, updates so far;
    r, m, v, s: vectors with an entry for each decay: the rewards, the largest of them, their squares,
    and the learning rates, which add up;
    x0: a tree like the params, these at the first update.
    """

    base_optimizer_state: State
    count: Array
    r: Array
    m: Array
    v: Array
    s: Array
    x0: Params


def _base_state(arguments: Mapping[str, Any], state: State) -> InnerStates:
    return {"base_optimizer_state": [(arguments["base_optimizer"], state.base_optimizer_state)]}


@treewise(state=MechanicState, inner_states=_base_state, on_shards=True)
def mechanize(
    base_optimizer: GradientTransformation,
    weight_decay: NonNegative = 1e-2,
    eps: Positive = 1e-8,
    s_init: Positive = 1e-6,
    num_betas: Count = 6,
):
    """Find the factor of an optimizer's steps: give it a learning rate of 1, or a schedule that peaks at 1.

    With Δ the sum of its steps, S = Σᵢ sᵢ, and the decays βᵢ = 1 − 0.1ⁱ, at each update
    h = ⟨g + weight_decay·S·‖g‖/(‖x‖ + eps)·x, −Δ⟩,  mᵢ = max(βᵢ·mᵢ, |h| + eps),  vᵢ = βᵢ²·vᵢ + h²,
    rᵢ = βᵢ·rᵢ + sᵢ·clip(h, −mᵢ, mᵢ) with the mᵢ from before,
    sᵢ = (mᵢ·s_init/n + max(rᵢ, 0)) / (√vᵢ + eps); then Δ takes in the new step, and x = x₀ + S·Δ.

    Args:
        base_optimizer: the optimizer.
        weight_decay: strength of a decay that only the search for the factor sees, at least 0.
        eps: added to divisors, above 0.
        s_init: the first of the sᵢ, which should be too small.
        num_betas: n, the number of decays, at least 1.

    Source: Cutkosky et al., Mechanic: a learning rate tuner, arXiv:2306.00144.
    """
    check_transformation("contrib.mechanize", "base_optimizer", base_optimizer)

    def init(params):
        zero = jnp.zeros([num_betas], scalar_dtype("contrib.mechanize", params))
        return MechanicState(
            base_optimizer_state=base_optimizer.init(params),
            count=jnp.zeros([], jnp.int32),
            r=zero,
            m=jnp.copy(zero),
            v=jnp.copy(zero),
            s=zero + s_init,
            x0=widened(params),
        )

    def update(updates, state, params, **extra):
        steps, base_state = base_optimizer.update(updates, state.base_optimizer_state, params, **extra)
        # Params are often loaded between `init` and the first update.
        first, rate = state.count == 0, jnp.sum(state.s)
        x0 = mapped(lambda _, p, x: jnp.where(first, p, x), updates, params, state.x0, otherwise=state.x0)
        back = mapped(lambda _, p, x: (x - p) / (rate + eps), updates, params, x0)

        sizes = global_norm(updates), global_norm(mapped(lambda _, p: p, updates, params))
        pull = weight_decay * rate * sizes[0] / (sizes[1] + eps)
        h = total(lambda g, p, b: inner_product(g + pull * p, b), updates, params, back)

        betas = 1 - 0.1 ** jnp.arange(1, num_betas + 1, dtype=state.s.dtype)
        r = betas * state.r + jnp.clip(h, -state.m, state.m) * state.s
        m = jnp.maximum(betas * state.m, jnp.abs(h) + eps)
        v = betas**2 * state.v + h**2
        s = (s_init / num_betas * m + jnp.maximum(r, 0)) / (sqrt(v) + eps)
        new = mapped(lambda u, p, x, b: x - jnp.sum(s) * (b - u) - p, steps, params, x0, back)
        return new, MechanicState(base_state, safe_increment(state.count), r, m, v, s, x0)

    return init, update

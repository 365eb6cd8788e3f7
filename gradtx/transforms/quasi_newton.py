"""Quasi-Newton directions: the inverse Hessian from the last steps and changes of the gradient."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.errors import is_none
from gradtx.arrays.loops import fori_loop
from gradtx.arrays.numerics import safe_increment, sqrt
from gradtx.arrays.trees import add_scaled, dot, filled, select_tree
from gradtx.arrays.types import Array, Params, Scalar, Updates
from gradtx.arrays.units import safe_global_norm, square_in_units
from gradtx.core.treewise import treewise
from gradtx.values.domains import Count


def inverse_hessian_times(
    vector: Any, steps: Any, changes: Any, weights: Array, scale: Sequence[Scalar], newest: Array, held: Any
) -> Any:
    """H·vector by the two-loop recursion, from the newest pair to the oldest and back.

    The pairs are rings, trees like the vector with a leading axis of m rows, on which the row after the
    newest is the oldest.

    Args:
        vector: a tree.
        steps: s, differences of the params.
        changes: y, differences of the gradients.
        weights: 1 / s·y, of shape (m,); a pair with the weight 0 takes no part.
        scale: H without any pair, a multiple of the identity, as factors of it.
        newest: the row of the newest pair.
        held: how many pairs to use. Reverse-mode gradients go through if it is a Python number.

    Source: Nocedal and Wright, Numerical optimization, algorithm 7.4.
    """
    rows = weights.size

    def pair(row: Array) -> Any:
        return jax.tree.map(lambda ring: ring[row], (steps, changes))

    def descend(age: Any, carry: Any) -> Any:
        q, alphas = carry
        row = (newest - age) % rows
        s, y = pair(row)
        alpha = dot(s, q) * weights[row]
        return add_scaled(q, -alpha, y), alphas.at[row].set(alpha)

    def ascend(i: Any, r: Any) -> Any:
        row = (newest - (held - 1 - i)) % rows
        s, y = pair(row)
        beta = dot(y, r) * weights[row]
        return add_scaled(r, alphas[row] - beta, s)

    q, alphas = fori_loop(0, held, descend, (vector, jnp.zeros_like(weights)))
    for factor in scale:
        q = jax.tree.map(lambda x, factor=factor: factor * x, q)
    return fori_loop(0, held, ascend, q)


# Outside of `jit` its loops would be compiled anew by each call.
_compiled = jax.jit(inverse_hessian_times, static_argnames="held")


class ScaleByLBFGSState(NamedTuple):
    """The last m pairs of steps and changes, in a ring; m is `memory_size`.

    count: int32 scalar, updates so far;
    params, updates: trees like the params, those of the last update;
    diff_params_memory, diff_updates_memory: trees like the params with a leading axis of m, the steps s
    and the changes y of the updates;
    weights_memory: of shape (m,), 1 / s·y; 0 for a pair that is left out.
    """

    count: Array
    params: Params
    updates: Updates
    diff_params_memory: Params
    diff_updates_memory: Updates
    weights_memory: Array


@treewise(state=ScaleByLBFGSState, others="refused")
def scale_by_lbfgs(memory_size: Count = 10, scale_init_precond: bool = True, unit_start: bool = False):
    """The direction of L-BFGS: updates times an approximation H of the inverse Hessian.

    With s the last step of the params and y the change of the updates over it, H is built from the last
    m pairs by H ← (I − ρ·s·yᵀ)·H·(I − ρ·y·sᵀ) + ρ·s·sᵀ with ρ = 1 / s·y, on top of γ·I. γ is s·y / y·y
    of the newest pair; without a pair, min(1, 1 / ‖g‖), so that the first step is at most of length 1.

    A pair without positive curvature, s·y ≤ ε·‖s‖·‖y‖ with the machine's ε, is left out: so H is positive
    definite, and the direction always one of descent. Nothing but the 1 in the first step depends on the
    unit of the objective, or of the params.

    The state has 2·memory_size + 2 times the size of the params. Where an update is None, it counts
    as 0, and the param stays. Complex params count as pairs of real ones; their updates are to be the
    conjugates of what `jax.grad` gives.

    Args:
        memory_size: how many pairs are kept, at least 1.
        scale_init_precond: whether to scale the identity; otherwise γ = 1.
        unit_start: whether γ without a pair is 1 / ‖g‖, so that the first step has length 1 in any unit of
            the objective. It suits a line search, which shortens what is too long.

    Source: Liu and Nocedal, On the limited memory BFGS method for large scale optimization, 1989;
    Byrd, Lu, Nocedal and Zhu, A limited memory algorithm for bound constrained optimization, 1995.
    """

    def init(params):
        def ring(x):
            return jnp.broadcast_to(jnp.zeros_like(x), (memory_size, *jnp.shape(x)))

        zeros = jax.tree.map(jnp.zeros_like, filled(params, params))
        rings = jax.tree.map(ring, zeros)
        return ScaleByLBFGSState(
            count=jnp.zeros([], jnp.int32),
            params=zeros,
            updates=jax.tree.map(jnp.copy, zeros),
            diff_params_memory=rings,
            diff_updates_memory=jax.tree.map(jnp.copy, rings),
            weights_memory=jnp.zeros(memory_size, dot(zeros, zeros).dtype),
        )

    def update(updates, state, params):
        x, g = filled(params, params), filled(updates, params)
        s, y = add_scaled(x, -1, state.params), add_scaled(g, -1, state.updates)
        curvature = dot(s, y)
        # What is not above this may be a sum of roundings.
        rounding = jnp.finfo(curvature.dtype).eps * safe_global_norm(s) * safe_global_norm(y)
        # The first update has no step before it: its "pair" is the params and updates themselves.
        kept = (state.count > 0) & (curvature > rounding)
        weight = jnp.where(kept, 1 / jnp.where(kept, curvature, 1), 0)
        newest = (state.count - 1) % memory_size

        def put(ring, new):
            return ring.at[newest].set(jnp.where(state.count > 0, new, 0))

        steps, changes, weights = jax.tree.map(
            put,
            (state.diff_params_memory, state.diff_updates_memory, state.weights_memory),
            (s, y, weight.astype(state.weights_memory.dtype)),
        )
        least = 0 if unit_start else 1
        scale = first_scale(changes, weights, newest, g, least) if scale_init_precond else ()
        direction = _compiled(g, steps, changes, weights, scale, newest, held=memory_size)
        out = jax.tree.map(lambda u, d: u if u is None else d, updates, direction, is_leaf=is_none)
        return out, ScaleByLBFGSState(safe_increment(state.count), x, g, steps, changes, weights)

    return init, update


def first_scale(changes: Any, weights: Array, newest: Array, grad: Any, least: int) -> tuple[Array, Array]:
    """γ = s·y / y·y of the newest pair that takes part; without one, 1 / ‖g‖, or 1 / least if ‖g‖ is less.

    It is in two factors, for where y is large their product may have no digits.
    """
    by_age = (newest - jnp.arange(weights.size)) % weights.size
    row = by_age[jnp.argmax(weights[by_age] > 0)]
    known = weights[row] > 0
    unit, square = square_in_units(jax.tree.map(lambda ring: ring[row], changes))
    of_pair = 1 / unit, 1 / jnp.where(known, weights[row] * unit * square, 1)
    unit, square = square_in_units(grad)
    length = sqrt(square)
    unit, length = select_tree(unit * length > least, (unit, length), (jnp.ones_like(unit), max(least, 1.0)))
    return select_tree(known, of_pair, (1 / unit, 1 / length))

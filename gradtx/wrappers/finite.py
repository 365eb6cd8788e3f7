"""The finite guard: updates that are skipped when gradients are not finite."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import safe_increment
from gradtx.arrays.per_tensor import PerTensor
from gradtx.arrays.reduction import joined
from gradtx.arrays.types import Array, State
from gradtx.core.transformation import GradientTransformation, run_plan
from gradtx.core.treewise import treewise
from gradtx.values.domains import NonNegative
from gradtx.wrappers.gate import Gate


class ApplyIfFiniteState(NamedTuple):
    """Counters to log, and the state of what is wrapped.

    notfinite_count: int32 scalar, updates in a row that were not finite;
    last_finite: bool scalar, whether the last one was finite;
    total_notfinite: int32 scalar, all that were not;
    inner_state: the state of the wrapped transformation, of the last update that was applied.
    """

    notfinite_count: Array
    last_finite: Array
    total_notfinite: Array
    inner_state: State


@treewise(state=ApplyIfFiniteState)
def apply_if_finite(inner: GradientTransformation, max_consecutive_errors: NonNegative):
    """Skip updates with NaN or infinities: no step, and no trace of them in the state.

    After more than max_consecutive_errors of them in a row they are let through, so that a run that
    has truly diverged shows it.

    Args:
        inner: the optimizer.
        max_consecutive_errors: how many in a row are skipped.
    """

    def init(params):
        zero = jnp.zeros([], jnp.int32)
        return ApplyIfFiniteState(zero, jnp.ones([], bool), jnp.copy(zero), inner.init(params))

    def update(updates, state, params=None, **extra):
        finite = all_finite(updates)
        in_a_row = jnp.where(finite, 0, safe_increment(state.notfinite_count))
        apply = finite | (in_a_row > max_consecutive_errors)
        # A gate, not a conditional: XLA fuses it into the loops of the update.
        updates, inner_state = run_plan(
            inner, inner.plan, updates, state.inner_state, params, extra, guard=Gate(apply)
        )
        total = jnp.where(finite, state.total_notfinite, safe_increment(state.total_notfinite))
        return updates, ApplyIfFiniteState(in_a_row, finite, total, inner_state)

    return init, update


@PerTensor
def _finite(x: Array) -> Array:
    # x - x is 0 where x is finite, elsewhere NaN: one pass, without a bool for each number. (A maximum would
    # do, but see `extreme`.)
    return jnp.sum(x - x) == 0


def all_finite(tree: Any) -> Array:
    """Whether every number of every leaf is finite; true for an empty tree."""
    finite = _finite([jax.tree.leaves(tree)])
    return joined("all", finite) if finite else jnp.array(True)

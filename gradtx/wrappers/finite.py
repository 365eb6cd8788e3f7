"""The finite guard: updates that are skipped when something in them is not finite."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import is_inexact, safe_increment
from gradtx.arrays.per_tensor import PerTensor
from gradtx.arrays.reduction import joined
from gradtx.arrays.trees import all_finite, or_zero, select_tree
from gradtx.arrays.types import Array, State
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import treewise
from gradtx.values.domains import NonNegative
from gradtx.wrappers.loss_scaling import refuse_loss_scaling


class ApplyIfFiniteState(NamedTuple):
    """Counters to log, and the state of what is wrapped.

    notfinite_count: int32 scalar, updates in a row that were not finite, as `apply_if_finite` says;
    last_finite: bool scalar, whether the last one was finite;
    total_notfinite: int32 scalar, all that were not;
    inner_state: the state of the wrapped transformation, of the last update that was applied.
    """

    notfinite_count: Array
    last_finite: Array
    total_notfinite: Array
    inner_state: State


@treewise(state=ApplyIfFiniteState, on_shards=True)
def apply_if_finite(inner: GradientTransformation, max_consecutive_errors: NonNegative):
    """Skip updates with NaN or infinities: no step, and no trace of them in the state.

    An update is finite if the gradients are, and what the optimizer makes of them: its updates, and every
    number of its state that was finite before. (The square of a large gradient may not be; and a number that
    begins at infinity, such as the best value so far, may stay there.) After more than
    max_consecutive_errors in a row that are not finite they are let through, so that a run that has truly
    diverged shows it.

    Args:
        inner: the optimizer.
        max_consecutive_errors: how many in a row are skipped.

    Raises:
        ValueError: around `dynamic_loss_scale`, which has to see what is not finite; it goes outside.
    """
    refuse_loss_scaling("apply_if_finite", inner)

    def init(params):
        zero = jnp.zeros([], jnp.int32)
        return ApplyIfFiniteState(zero, jnp.ones([], bool), jnp.copy(zero), inner.init(params))

    def update(updates, state, params=None, **extra):
        new, inner_state = inner.update(updates, state.inner_state, params, **extra)
        finite = all_finite((updates, new)) & stays_finite(inner_state, state.inner_state)
        in_a_row = jnp.where(finite, 0, safe_increment(state.notfinite_count))
        apply = finite | (in_a_row > max_consecutive_errors)
        total = jnp.where(finite, state.total_notfinite, safe_increment(state.total_notfinite))
        # Selected, for the branches of a conditional would be written before one is known to be wanted.
        kept = select_tree(apply, inner_state, state.inner_state)
        return or_zero.on_trees([new], apply), ApplyIfFiniteState(in_a_row, finite, total, kept)

    return init, update


@PerTensor
def _stays_finite(x: Array, before: Array) -> Array:
    return jnp.all(jnp.isfinite(x) | ~jnp.isfinite(before))


def stays_finite(state: State, before: State) -> Array:
    """Whether every number of a state is finite that was so before."""
    leaves, treedef = jax.tree.flatten(state)
    pairs = zip(leaves, treedef.flatten_up_to(before), strict=True)
    real = [pair for pair in pairs if all(is_inexact(jnp.result_type(x)) for x in pair)]
    finite = _stays_finite([list(column) for column in zip(*real, strict=True)]) if real else []
    return joined("all", finite) if finite else jnp.array(True)

"""Restarts: an optimizer that forgets, every so many updates, what it has seen."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import as_array, safe_increment
from gradtx.arrays.trees import select_tree
from gradtx.arrays.types import Array, State
from gradtx.core.transformation import GradientTransformation, check_transformation
from gradtx.core.treewise import treewise
from gradtx.values.domains import AtLeastOne


class RestartingState(NamedTuple):
    """count: int32 scalar, updates so far; inner_state: the state of the optimizer."""

    count: Array
    inner_state: State


@treewise(state=RestartingState, on_shards=True)
def restarting(inner: GradientTransformation, period: AtLeastOne):
    """Let an optimizer begin anew at every update whose number is a multiple of the period.

    That update is then its first: moments are 0, and bias corrections those of a first update.

    Args:
        inner: the optimizer.
        period: how many updates lie between, at least 1.

    Source: Huang et al., Stable-SPAM: how to train in 4-bit more stably than 16-bit Adam, arXiv:2502.17055.
    """
    check_transformation("restarting", "inner", inner)

    def init(params):
        return RestartingState(jnp.zeros([], jnp.int32), inner.init(params))

    def update(updates, state, params, **extra):
        count = safe_increment(state.count)
        anew = jax.tree.map(as_array, inner.init(params))  # an `init` of others may make Python numbers
        inner_state = select_tree(count % period == 0, anew, state.inner_state)
        new, inner_state = inner.update(updates, inner_state, params, **extra)
        return new, RestartingState(count, inner_state)

    return init, update

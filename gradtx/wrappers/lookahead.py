"""Lookahead: an optimizer that explores, and slow parameters that follow it."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.cond import select
from gradtx.arrays.numerics import as_array, safe_increment
from gradtx.arrays.trees import select_tree, widened
from gradtx.arrays.types import Array, Params, State, Updates
from gradtx.core.layout import ScheduledState
from gradtx.core.transformation import GradientTransformation, InnerStates, check_transformation
from gradtx.core.treewise import Treewise, treewise
from gradtx.step import apply_updates
from gradtx.values.domains import Interval, ScalarOrSchedule
from gradtx.wrappers.outer import synchronized


class LookaheadState(NamedTuple):
    """Where a lookahead stands.

    fast_state: the state of the optimizer;
    steps_since_sync: int32 scalar, its steps since fast and slow params were one;
    slow_params: a tree like the params, in at least float32.
    """

    fast_state: State
    steps_since_sync: Array
    slow_params: Params

    def evaluation_params(self, params: Params) -> Params:
        """The slow params."""
        del params
        return self.slow_params


class LookaheadParams(NamedTuple):
    """A pair of params as Optax trains it: the fast ones, for gradients, and the slow ones."""

    fast: Params
    slow: Params

    @classmethod
    def init_synced(cls, params: Params) -> "LookaheadParams":
        """The pair at the start, where both are one."""
        return cls(params, params)


class Lookahead(Treewise):
    """What `lookahead` returns. Its params may be `LookaheadParams`; updates are then such a pair too."""

    def init(self, params: Params) -> State:
        return super().init(params.fast if _is_pair(params) else params)

    def update(
        self, updates: Updates, state: State, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, State]:
        if not _is_pair(params):
            return super().update(updates, state, params, **extra)
        pair: Any = params
        fast, state = super().update(updates, state, pair.fast, **extra)
        kept = (state.inner_state if isinstance(state, ScheduledState) else state).slow_params
        slow = jax.tree.map(lambda new, old: (new - old).astype(old.dtype), kept, pair.slow)
        return type(pair)(fast, slow), state


def _is_pair(params: Any) -> bool:
    return getattr(params, "_fields", None) == LookaheadParams._fields  # Optax's too


def _fast_state(arguments: Mapping[str, Any], state: State) -> InnerStates:
    return {"fast_state": [(arguments["fast_optimizer"], state.fast_state)]}


@treewise(state=LookaheadState, kind=Lookahead, inner_states=_fast_state, on_shards=True)
def lookahead(
    fast_optimizer: GradientTransformation,
    sync_period: Annotated[ScalarOrSchedule, Interval("[1, inf]")],
    slow_step_size: Annotated[ScalarOrSchedule, Interval("[0, 1]")],
    reset_state: bool = False,
):
    """Let an optimizer make k steps, then go a part of the way and start again from there.

    After every k-th step slow ← slow + slow_step_size·(fast − slow) and fast ← slow; in between only
    the fast params move. The params that are trained are the fast ones; evaluate with the slow ones,
    which the state keeps: ``evaluation_params(state, params)``.

    The updates must be applied as they are: what changes them afterwards parts the two. As in Optax, the
    params may be the pair of both, `LookaheadParams`, where lookahead stands alone: gradients are those of
    the fast ones, and updates a pair.

    Args:
        fast_optimizer: the optimizer.
        sync_period: k, the number of its steps from one synchronization to the next, at least 1.
        slow_step_size: how far the slow params go towards the fast ones, in [0, 1].
        reset_state: whether the optimizer starts anew after each synchronization. Default: no.

    Source: Zhang et al., Lookahead optimizer: k steps forward, 1 step back, arXiv:1907.08610.
    """
    check_transformation("lookahead", "fast_optimizer", fast_optimizer)

    def init(params):
        return LookaheadState(fast_optimizer.init(params), jnp.zeros([], jnp.int32), widened(params))

    def update(updates, state, params, **extra):
        steps = safe_increment(state.steps_since_sync)
        sync = steps >= sync_period

        def follow(drift, nothing, slow):
            return jax.tree.map(lambda x: -slow_step_size * x, drift), nothing

        updates, fast_state = fast_optimizer.update(updates, state.fast_state, params, **extra)
        updates, slow, _ = synchronized(select, sync, updates, params, state.slow_params, (), follow)
        if reset_state:
            anew = fast_optimizer.init(apply_updates(params, updates))
            # An `init` of others may make Python numbers.
            fast_state = select_tree(sync, jax.tree.map(as_array, anew), fast_state)
        return updates, LookaheadState(fast_state, jnp.where(sync, 0, steps), slow)

    return init, update

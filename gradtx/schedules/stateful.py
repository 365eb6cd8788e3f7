"""Schedules that keep a state."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp

from gradtx.arrays.numerics import safe_increment
from gradtx.arrays.types import Array, Scalar, State
from gradtx.values.counting import number_at


class WrappedScheduleState(NamedTuple):
    """count: int32 scalar, updates so far."""

    count: Array


@runtime_checkable
class StatefulSchedule(Protocol):
    """A schedule with a state of its own, which sees the extra arguments of `update`: for
    `inject_hyperparams`."""

    def init(self) -> State:
        """The state before the first update."""
        ...

    def update(self, state: State, **extra_args: Any) -> State:
        """The state after one more update."""
        ...

    def __call__(self, state: State, **extra_args: Any) -> Scalar:
        """The number for the update that begins in this state."""
        ...


@dataclass(frozen=True)
class WrappedSchedule:
    """A function of the count as a `StatefulSchedule`: its state is the count.

    Args:
        schedule_fn: a function of the updates so far, an int32 scalar.
    """

    schedule_fn: Callable[[Any], Scalar]

    def init(self) -> WrappedScheduleState:
        """A count of 0."""
        return WrappedScheduleState(jnp.zeros([], jnp.int32))

    def update(self, state: WrappedScheduleState, **extra_args: Any) -> WrappedScheduleState:
        """One more; extra arguments are not looked at."""
        del extra_args
        return state._replace(count=safe_increment(state.count))

    def __call__(self, state: WrappedScheduleState, **extra_args: Any) -> Scalar:
        """The number at this count."""
        del extra_args
        return number_at(self.schedule_fn, state.count)

"""Rules and states: what a primitive's functions ask for, and where its state keeps what."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gradtx.core import errors
from gradtx.core.types import Array, State


class Rule:
    """The two functions of a primitive; what `update` names is what it gets."""

    def __init__(self, functions: Any):
        self.init: Any
        self.update: Any
        self.init, self.update = functions if isinstance(functions, tuple) else (None, functions)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all arguments of `update`."""
        code = self.update.__code__
        return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    @cached_property
    def required(self) -> frozenset[str]:
        """Those without a default."""
        code = self.update.__code__
        positional = self.names[: code.co_argcount]
        optional = positional[len(positional) - len(self.update.__defaults__ or ()) :]
        return frozenset(self.names) - frozenset(optional) - frozenset(self.update.__kwdefaults__ or ())

    @property
    def takes_any(self) -> bool:
        """Whether `update` takes any keyword."""
        return bool(self.update.__code__.co_flags & 0x08)

    def extra(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Of the extra arguments of an update, those that this rule takes."""
        return dict(given) if self.takes_any else {k: v for k, v in given.items() if k in self.names}


@dataclass(frozen=True)
class StateType:
    """The state of a primitive: its named tuple, and where the count is.

    Attributes:
        cls: the named tuple.
        slots: its fields that are trees like the params.
        counts: whether it has a count.
        wrapped: whether the slots are in an `inner_state` (a primitive that counts only because one
            of its numbers is scheduled).
        counter: the field that is the count.
    """

    cls: Any
    slots: tuple[str, ...]
    counts: bool
    wrapped: bool = False
    counter: str = "count"

    def check(self, name: str, state: State) -> None:
        """Raise unless this state has the fields of ours; another library's named tuple may."""
        if getattr(state, "_fields", None) != self.cls._fields:
            raise StateMismatch(name, state, f"{self.cls.__name__}{self.cls._fields}")

    def count(self, state: State) -> Array:
        """The updates so far, of a state that counts them."""
        return getattr(state, self.counter)

    def holder(self, state: State) -> Any:
        """The named tuple that has the slots as fields."""
        return state.inner_state if self.wrapped else state

    def rebuild(self, state: State, slots: dict[str, Any], count: Array | None) -> State:
        """The state with new slots and count, of the very class that came in."""
        counted = {} if count is None else {self.counter: count}
        if self.wrapped:
            return state._replace(inner_state=state.inner_state._replace(**slots), **counted)
        return state._replace(**slots, **counted)


class StateMismatch(ValueError):
    """A state with other fields than the transformation's."""

    def __init__(self, name: str, state: State, expected: str):
        super().__init__(str(errors.another_state(name, state, expected, swapped=False)))
        self.name, self.state, self.expected = name, state, expected

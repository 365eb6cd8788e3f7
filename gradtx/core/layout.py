"""How states are laid out: what a slot is kept as, and which field of a named tuple is what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.numerics import as_array, cast, compute_dtype, would_cut
from gradtx.arrays.types import Array, PyTree, State
from gradtx.values.value import Value

Slots = Mapping[str, PyTree]
"""What a rule remembers of one tensor: by name a tensor, a list of tensors, or a `Coded`."""


class Coded:
    """A tensor kept in another form, such as codes with scales: a pytree node that knows how to read itself.

    A subclass is registered as a pytree, whose leaves are what is kept. A slot that is one stays one: the
    executor decodes it before a rule sees it, and encodes what comes back.
    """

    @property
    def form(self) -> "Form | None":
        """What is known of it without its arrays, as a value; None for one that only this program knows."""
        return None

    def decode(self) -> Array:
        """The tensor, in at least float32."""
        raise NotImplementedError

    def encode(self, x: Array) -> Self:
        """Another tensor of the same shape in this form."""
        raise NotImplementedError


class Form(Value):
    """How one tensor is kept; as a value it has a form as data, which is saved beside the parts."""

    @property
    def parts(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """The names and dtypes of the parts."""
        raise NotImplementedError

    def node(self, parts: Mapping[str, Array]) -> Coded:
        """The tensor of which these are kept."""
        raise NotImplementedError


def is_coded(x: object) -> bool:
    """Whether x is a `Coded`: one place of a tree, though it is a node."""
    return isinstance(x, Coded)


def whole_shape(leaf: Any) -> tuple[int, ...]:
    """The shape of a leaf of a state, or of the tensor that a `Coded` keeps; also of shapes."""
    return jax.eval_shape(lambda x: x.decode(), leaf).shape if is_coded(leaf) else leaf.shape


class Layout:
    """How the slots of a leafwise rule are kept: made, read before the rule, and written after it.

    This one is the default: a slot has the dtype in which `init` made it, for which a half-precision
    param is seen in float32, and is read in at least float32. Others are subclasses, given to `leafwise`;
    they are compared by value, and so are frozen dataclasses or have no attributes.
    """

    keeps_count = False
    """Whether the count of updates is a slot, one for each tensor, and not one number of the state."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def see(self, x: Array) -> Array:
        """An update, or a param, as the rule sees it."""
        return x

    def show(self, x: Array, like: Array) -> Array:
        """What the rule made of an update that was `like`, as the next stage sees it."""
        del like
        return x

    def make(self, init: Callable[[Array], Slots], param: Array, fields: tuple[str, ...]) -> Slots:
        """The slots of a param at the start, as the fields of a state; `init` is the rule's."""
        del fields
        return init(cast(param, compute_dtype(param.dtype)))

    def read(self, slots: Slots) -> Slots:
        """What a rule can name of its slots."""
        return jax.tree.map(_read, slots, is_leaf=is_coded)

    def write(self, stage: str, new: Slots, old: Slots) -> Slots:
        """The slots after an update, of the kind, dtype and shape of the old.

        Raises:
            ValueError, TypeError: if that cannot be; the message names the stage and the slot.
        """
        if new.keys() != old.keys():
            raise ValueError(f"{stage}: update returned the slots {sorted(new)}; its state has {sorted(old)}")
        return {
            name: jax.tree.map(partial(_written, f"{stage}: {name}"), slot, new[name], is_leaf=is_coded)
            for name, slot in old.items()
        }


DEFAULT = Layout()


def _read(slot: Any) -> Array:
    return slot.decode() if isinstance(slot, Coded) else cast(slot, compute_dtype(slot.dtype))


def _written(name: str, old: Any, new: Array) -> PyTree:
    if isinstance(old, Coded):
        return old.encode(new)
    new = as_array(new)
    if would_cut(new, old.dtype):
        lost = "its imaginary part" if jnp.iscomplexobj(new) else f"what is of {new.dtype} after an update"
        raise TypeError(f"{name} is kept as {old.dtype} and would lose {lost}")
    if new.shape != old.shape:
        raise ValueError(f"{name} has shape {old.shape}, and shape {new.shape} after an update")
    return cast(new, old.dtype)


class ScheduledState(NamedTuple):
    """The state of a transformation that counts only because one of its numbers is scheduled.

    count: int32 scalar, updates so far; inner_state: its state with fixed numbers.
    """

    count: Array
    inner_state: State


class StateMismatch(ValueError):
    """A state with other fields than the transformation's."""

    def __init__(self, name: str, state: State, expected: str):
        super().__init__(str(errors.another_state(name, state, expected, swapped=False)))
        self.name, self.state, self.expected = name, state, expected


class TakenApart(ValueError):
    """A slot whose parts came back in another container, as a library that holds states may leave them."""


@dataclass(frozen=True)
class StateForm:
    """The form of a stage's state: its named tuple, and what the executor keeps in it.

    Attributes:
        cls: the named tuple with fixed numbers; None if any state will do.
        counter: the field that is the count; "" if there is none.
        wrapped: whether the state is a `ScheduledState` around that named tuple.
        slots: for a leafwise stage, the fields that are trees like the params.
        seeded: whether there is a field ``seed``.
    """

    cls: Any
    counter: str = ""
    wrapped: bool = False
    slots: tuple[str, ...] = ()
    seeded: bool = False

    @property
    def counts(self) -> bool:
        """Whether the state knows how many updates there were."""
        return self.wrapped or bool(self.counter)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is remembered: such a state may be anything empty, and stays what it is."""
        return self.cls is not None and not self.cls._fields and not self.wrapped

    def check(self, name: str, state: State) -> None:
        """Raise unless this state has the fields of ours; another library's named tuple may."""
        expected = ScheduledState if self.wrapped else self.cls
        if self.is_empty and (state is None or (type(state) in (tuple, list, dict) and not state)):
            return
        if expected is not None and getattr(state, "_fields", None) != expected._fields:
            raise StateMismatch(name, state, f"{expected.__name__}{expected._fields}")

    def count(self, state: State) -> Array:
        """The updates so far, of a state that counts them."""
        return state.count if self.wrapped else getattr(state, self.counter)

    def inner(self, state: State) -> State:
        """The state with fixed numbers."""
        return state.inner_state if self.wrapped else state

    def start(self, inner: State, count: Array | None) -> State:
        """The state around one with fixed numbers."""
        return inner if count is None or not self.wrapped else ScheduledState(count, inner)

    def rebuild(self, state: State, inner: State, count: Array | None) -> State:
        """The state with another one within and another count, of the very class that came in."""
        if self.wrapped:
            return state._replace(inner_state=inner, count=count)
        return inner._replace(**{self.counter: count}) if self.counter else inner

"""Programs: compiled functions of values, one for each structure, and what of it is a constant.

**Numbers.** Inside a trace a Python number is an exact constant of the program. Outside, where the same
optimizer comes again with other numbers, a number is a constant until it has changed once, and an
argument of the program from then on: its next change compiles nothing. Arrays are always arguments, and
so are the numbers that a client names.

**Lives.** A program is kept for the structures used last. It does not keep alive what its structure
holds by identity, functions and factories: with the first of them that goes, it goes too.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from threading import RLock
from types import FunctionType, MethodType
from typing import Any, Generic, TypeVar

import jax

from gradtx.values.parts import Choice, Node, Number, Part, key_of
from gradtx.values.value import Call, Maker, Value, unflatten

P = TypeVar("P")

ARGUMENT = object()
"""In the place of a number, that it is an argument of the program."""
STRUCTURES = 256
"""How many structures are remembered."""
VARIANTS = 8
"""How many programs a structure has, by its constants."""


class Template:
    """Values without the numbers that are arguments of their program."""

    def __init__(self, calls: Sequence[Call], constants: Sequence[object]):
        self.calls, self.constants = calls, constants

    def fill(self, numbers: Sequence[Number]) -> list[Any]:
        """The values that have these numbers."""
        rest = iter(numbers)
        leaves = iter([next(rest) if x is ARGUMENT else x for x in self.constants])
        return [unflatten(call, [next(leaves) for _ in call.keys]) for call in self.calls]


class Memory:
    """Which numbers have changed since they were first seen, by their places."""

    def __init__(self) -> None:
        self.first: dict[Hashable, Hashable] = {}
        self.changed: set[Hashable] = set()

    def note(self, places: Sequence[Hashable], keys: Sequence[Hashable]) -> list[bool]:
        """For each number, given by its place and `key_of` it, whether it has changed so far."""
        for place, key in zip(places, keys, strict=True):
            if self.first.setdefault(place, key) != key:
                self.changed.add(place)
        return [place in self.changed for place in places]


class _Structure(Generic[P]):
    """What is remembered of values that differ in their numbers alone."""

    def __init__(self, calls: Sequence[Call], places: list[tuple[int, str]], always: list[bool]):
        self.calls, self.places, self.always, self.memory = calls, places, always, Memory()
        self.programs: OrderedDict[Hashable, P] = OrderedDict()


class Programs(Generic[P]):
    """The programs of one kind.

    Args:
        make: what compiles; it is given a `Template`.
        is_argument: whether a number, by the name of its place in the call, is always an argument.
    """

    def __init__(self, make: Callable[[Template], P], is_argument: Callable[[str], bool] | None = None):
        self.make, self.is_argument = make, is_argument
        self.structures: OrderedDict[Hashable, _Structure[P]] = OrderedDict()
        self.lock = RLock()  # of a thread, for what dies meanwhile is forgotten in its midst

    def __call__(
        self, values: Sequence[Value], *, traced: bool = False, memory: Memory | None = None
    ) -> tuple[P, list[Number]]:
        """The program of these values, and those of their numbers that are its arguments.

        Args:
            values: what the program is of.
            traced: whether it is for a trace, in which Python numbers are constants.
            memory: what knows which numbers have changed. Default: one for all values of this structure.
        """
        leaves = [leaf for value in values for leaf in value._leaves]
        with self.lock:
            structure = self._structure(values, leaves)
            keys = [None if a else key_of(x) for a, x in zip(structure.always, leaves, strict=True)]
            changed = (
                [False] * len(keys) if traced else (memory or structure.memory).note(structure.places, keys)
            )
            free = [a or c for a, c in zip(structure.always, changed, strict=True)]
            which = tuple([ARGUMENT if f else key for f, key in zip(free, keys, strict=True)])
            if which not in structure.programs:
                constants = [ARGUMENT if f else x for f, x in zip(free, leaves, strict=True)]
                structure.programs[which] = self.make(Template(structure.calls, constants))
                if len(structure.programs) > VARIANTS:
                    structure.programs.popitem(last=False)
            structure.programs.move_to_end(which)
            return structure.programs[which], [x for f, x in zip(free, leaves, strict=True) if f]

    def _structure(self, values: Sequence[Value], leaves: Sequence[Number]) -> _Structure[P]:
        kinds = tuple([type(x) if isinstance(x, int | float | complex) else None for x in leaves])
        calls = tuple([value._call for value in values])
        known = self.structures.get((calls, kinds))
        if known is not None:
            self.structures.move_to_end((calls, kinds))
            return known
        store = self.structures

        def forget(_: object) -> None:
            store.pop(key, None)

        weak = tuple([_weakly(call, forget) for call in calls])
        key = weak, kinds
        places = [(i, place.name) for i, call in enumerate(calls) for place in call.keys]
        named = self.is_argument or (lambda name: False)
        always = [kind is None or named(name) for kind, (_, name) in zip(kinds, places, strict=True)]
        structure = store[key] = _Structure(weak, places, always)
        while len(store) > STRUCTURES:
            store.popitem(last=False)
        return structure


class CompiledFor:
    """``body(function, *args)`` compiled for each function that it is given, which it does not keep alive.

    Args:
        body: what is compiled; its first argument is a function of a user.
        donate: which of the others are donated, by their places from 0.
    """

    def __init__(self, body: Callable[..., Any], donate: tuple[int, ...] = ()):
        self.body, self.donate = body, donate
        self.made: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()
        # For functions that are equal by value, such as a frozen dataclass that can be called.
        self.by_value = jax.jit(body, static_argnums=0, donate_argnums=tuple(i + 1 for i in donate))

    def __call__(self, function: Callable[..., Any], *args: object) -> Any:
        """What the body returns."""
        if not _is_by_identity(function):
            return self.by_value(function, *args)
        # A method is made anew whenever it is asked for; its object is not.
        owner, name = function, None
        refer: Callable[[], Any] = weakref.ref(function)
        if isinstance(function, MethodType):
            owner, name, refer = function.__self__, function.__func__, weakref.WeakMethod(function)
        try:
            made = self.made.setdefault(owner, {})
        except TypeError:  # of a method, the object has no hash or is no object of Python
            return self.by_value(function, *args)
        if name not in made:
            made[name] = jax.jit(lambda *args: self.body(refer(), *args), donate_argnums=self.donate)
        return made[name](*args)


# --- structures that keep nothing alive -------------------------------------------------------------

_GONE = object()


class _WeakChoice(Choice):
    """A choice that does not keep its value alive."""

    def __init__(self, value: Any, forget: Callable[[Any], Any]):
        super().__init__(value)
        refer = weakref.WeakMethod if isinstance(value, MethodType) else weakref.ref
        self._value = refer(value, forget)

    @property
    def value(self) -> object:
        found: Any = self._value
        value = found()
        return _GONE if value is None else value


class _WeakCall(Call):
    """A call that does not keep its factory alive."""

    def __init__(self, call: Call, forget: Callable[[Any], Any]):
        parts = ((name, _weakly(part, forget)) for name, part in call.arguments)
        super().__init__(call.factory, tuple(parts))
        self._made_by = weakref.ref(call.factory, forget)
        _ = self._hash  # while the factory lives
        del self._factory

    @property
    def factory(self) -> Maker:
        found: Any = self._made_by()
        return found


def _weakly(part: Part, forget: Callable[[Any], Any]) -> Any:
    match part:
        case Call():
            return _WeakCall(part, forget)
        case Node():
            return Node(part.kind, part.keys, tuple(_weakly(child, forget) for child in part.parts))
        case Choice() if _is_by_identity(part.value):
            return _WeakChoice(part.value, forget)
    return part


def _is_by_identity(x: object) -> bool:
    # What is equal by value may be made anew each time: its first instance says nothing of its use.
    if isinstance(x, FunctionType | MethodType):
        return True
    return type(x).__eq__ is object.__eq__ and type(x).__weakrefoffset__ != 0 and not isinstance(x, type)

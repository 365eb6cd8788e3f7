"""A value: a call that remembers which factory made it, and with which arguments.

``adamw(1e-3)`` does not close over 1e-3. It is recorded: the result knows the factory ``adamw`` and
every argument, and from these two follow its ``repr``, ``==``, ``hash``, pickle, ``replace`` and its
pytree. **Numbers and arrays are the leaves; choices (flags, modes, dtypes, functions, ``None``,
strings) are the structure; nested values are children.** So a value passes through ``jit``, ``vmap``
and ``grad`` like any other data, and only a changed choice makes another program.

A Python or NumPy number is recorded as a Python number, and stays one until a transformation of JAX
traces it. An array is recorded as an array, also one without axes: who gives an array means a number
that may change, and whatever tells arrays from constants (``eqx.filter_jit``) finds it.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Set
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, Self

import jax
import numpy as np
from jax.core import Tracer
from jax.tree_util import GetAttrKey

from gradtx.values.counting import number_at
from gradtx.values.parts import LEAF, Choice, Leaf, Node, Number, Part, is_concrete_scalar, is_number, key_of
from gradtx.values.source import Source, Sourced, laid_out


class Maker(Protocol):
    """What a value asks of the factory that made it; see :mod:`gradtx.values.factory`."""

    @property
    def name(self) -> str: ...
    @property
    def body(self) -> Callable[..., Any]: ...
    @property
    def public(self) -> Callable[..., "Value"]: ...
    @property
    def reference(self) -> object: ...
    @property
    def kind(self) -> "type[Value]": ...
    @property
    def options(self) -> Mapping[str, Any]: ...
    @property
    def numeric(self) -> Set[str]: ...
    def is_off(self, name: str, x: object) -> bool: ...
    def record(self, arguments: Mapping[str, Any]) -> Any: ...
    def run(self, arguments: Mapping[str, Any]) -> Any: ...
    def named(self, changes: Mapping[str, Any], arguments: Mapping[str, Any]) -> Mapping[str, Any]: ...
    def source(self, arguments: Mapping[str, Any]) -> Source: ...


class Value(Sourced):
    """A recorded call, immutable; see the module's docstring."""

    _call: "Call"
    _leaves: tuple[Number, ...]
    synonyms: ClassVar[Mapping[str, str]] = {}
    """Second names of arguments that a call may use."""
    shown_as: ClassVar[str] = "Value"
    """What a signature says that a factory returns."""
    offered: ClassVar[tuple[str, ...]] = ("arguments", "replace")
    """What `dir`, and so an editor, offers beside what the classes above do."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        jax.tree_util.register_pytree_with_keys(
            cls, _flatten_with_keys, unflatten, lambda value: (value._leaves, value._call)
        )

    @staticmethod
    def adopt(argument: Any) -> Any:
        """An argument as this kind records it; a kind may take in objects of other libraries."""
        return argument

    def validate(self) -> None:
        """Raise if the arguments, each in its domain, do not fit together."""

    @property
    def factory(self) -> Maker:
        """The factory that made this value."""
        return self._call.factory

    @cached_property
    def arguments(self) -> MappingProxyType[str, Any]:
        """Every argument by name, defaults included."""
        leaves = iter(self._leaves)
        return MappingProxyType({name: join(part, leaves) for name, part in self._call.arguments})

    @cached_property
    def schedules(self) -> Mapping[str, Callable[[Any], Any]]:
        """The numeric arguments that are schedules."""
        numeric = self.factory.numeric
        return {name: x for name, x in self.arguments.items() if name in numeric and callable(x)}

    def numbers_at(self, count: Number) -> Mapping[str, Any]:
        """The arguments, with every schedule resolved at this count."""
        return self.arguments | {name: number_at(f, count) for name, f in self.schedules.items()}

    @property
    def is_traced(self) -> bool:
        """Whether one of its numbers is a tracer."""
        return any(isinstance(leaf, Tracer) for leaf in self._leaves)

    def replace(self, **changes: object) -> Self:
        """The same call with some arguments changed: ``tx.replace(learning_rate=3e-4)``.

        Without changes, numbers that are arrays without axes become Python numbers, and so constants: for
        what takes no arrays, such as `flax.nnx.Optimizer`, and for what a jitted function returned.
        """
        if not changes:
            leaves = [x.item() if is_concrete_scalar(x) else x for x in self._leaves]
            changes = dict(unflatten(self._call, leaves).arguments)
        return self.factory.record(self.factory.named(changes, self.arguments))

    def with_numbers(self, numbers: Mapping[str, Number]) -> Self:
        """The same call with single numbers in place of these arguments, unchecked."""
        rest = iter(self._leaves)
        parts: list[tuple[str, Part]] = []
        leaves: list[Number] = []
        for name, part in self._call.arguments:
            own = [next(rest) for _ in _paths(part, name)]
            parts.append((name, LEAF if name in numbers else part))
            leaves += [numbers[name]] if name in numbers else own
        return unflatten(Call(self.factory, tuple(parts)), leaves)

    def source(self) -> Source:
        return self.factory.source(self.arguments)

    def __repr__(self) -> str:
        return laid_out(self)

    def __dir__(self) -> list[str]:
        offered = {name for cls in type(self).__mro__ for name in vars(cls).get("offered", ())}
        return sorted({*dir(object), *offered})

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Value) and self._call == other._call and self._keys == other._keys

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _keys(self) -> tuple[Hashable, ...]:
        return tuple(map(key_of, self._leaves))

    @cached_property
    def _hash(self) -> int:
        return hash((self._call, self._keys))

    def __setattr__(self, name: str, value: object) -> None:
        made = self.factory.name
        raise AttributeError(f"{made}(...) is immutable; make a changed copy: .replace({name}=...)")

    def __reduce__(self) -> tuple[Callable[..., "Value"], tuple[Any, ...]]:
        return _rebuild, (self.factory.reference, dict(self.arguments))


def _rebuild(reference: Any, arguments: dict[str, Any]) -> Value:
    # A call, for since it was pickled the factory may have got more arguments, which have defaults.
    args, kwargs = reference.factory.by_position(arguments)
    return reference.factory(*args, **kwargs)


def _flatten_with_keys(value: Value) -> tuple[tuple[tuple[Any, Number], ...], "Call"]:
    keys = value._call.keys
    return tuple(zip(keys, value._leaves, strict=True)), value._call


def unflatten(call: "Call", leaves: Iterable[Number]) -> Any:
    """The value of this call with these numbers, unchecked: what jax does inside its transformations."""
    value = object.__new__(call.factory.kind)
    value.__dict__.update(_call=call, _leaves=tuple(leaves))
    return value


# --- splitting arguments into numbers and structure -------------------------------------------------


class Call(Part):
    """A recorded call without its numbers: the treedef of a value."""

    def __init__(self, factory: Maker, arguments: tuple[tuple[str, Part], ...]):
        self._factory, self.arguments = factory, arguments

    @property
    def factory(self) -> Maker:
        """The factory that was called."""
        return self._factory

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Call) or self.factory is not other.factory:
            return False
        return hash(self) == hash(other) and self.arguments == other.arguments

    @cached_property
    def _hash(self) -> int:
        return hash((id(self.factory), self.arguments))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def keys(self) -> list[Any]:
        """One pytree key per number: the name of the argument that holds it."""
        return [GetAttrKey(path) for name, part in self.arguments for path in _paths(part, name)]


def _paths(part: Part, name: str) -> Iterator[str]:
    match part:
        case Leaf():
            yield name
        case Node():
            for key, child in zip(part.keys, part.parts, strict=True):
                yield from _paths(child, f"{name}[{key!r}]")
        case Call():
            for inner, child in part.arguments:
                yield from _paths(child, f"{name}.{inner}")


def split(x: Any) -> tuple[list[Number], Part]:
    """The numbers in an argument, and everything else about it."""
    if isinstance(x, Value):
        return list(x._leaves), x._call
    if is_number(x) or isinstance(x, jax.Array | np.ndarray):
        return [x], LEAF
    if type(x) is dict:
        return _split_node(dict, tuple(x), x.values())
    if type(x) in (list, tuple):
        return _split_node(type(x), tuple(range(len(x))), x)
    leaves, treedef = jax.tree.flatten(x)
    if jax.tree_util.treedef_is_leaf(treedef) or not leaves:
        return [], Choice(x)
    return _split_node(treedef, tuple(range(len(leaves))), leaves)


def _split_node(kind: object, keys: tuple[Any, ...], children: Iterable[Any]) -> tuple[list[Number], Part]:
    pairs = [split(child) for child in children]
    leaves = [leaf for numbers, _ in pairs for leaf in numbers]
    return leaves, Node(kind, keys, tuple(part for _, part in pairs))


def join(part: Part, leaves: Iterator[Number]) -> Any:
    """The argument that `split` took apart."""
    match part:
        case Leaf():
            return next(leaves)
        case Choice():
            return part.value
        case Call():
            return unflatten(part, [next(leaves) for _ in part.keys])
        case Node():
            children = [join(child, leaves) for child in part.parts]
            if part.kind is dict:
                return dict(zip(part.keys, children, strict=True))
            if part.kind is list or part.kind is tuple:  # by identity: a treedef is not compared with a type
                return part.kind(children)
            return jax.tree.unflatten(part.kind, children)
    raise TypeError(f"not a part of a recorded call: {part!r}")

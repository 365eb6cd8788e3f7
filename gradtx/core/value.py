"""A value: a call that remembers which factory made it, and with which arguments.

``adamw(1e-3)`` does not close over 1e-3. It is recorded: the result knows the factory ``adamw`` and
every argument, and from these two follow its ``repr``, ``==``, ``hash``, pickle, ``replace`` and its
pytree. **Numbers and arrays are the leaves; choices (flags, modes, dtypes, functions, ``None``,
strings) are the structure; nested values are children.** So a value passes through ``jit``, ``vmap``
and ``grad`` like any other data, and only a changed choice makes another program.

A Python float stays a Python float until one of those transformations traces it. A concrete 0-d
array given as an argument is recorded as a Python number, because frameworks keep optimizers as
static, hashable attributes; arrays that arrive by ``tree_unflatten`` are kept as they are, and
``value.replace()`` records them anew.
"""

import inspect
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.core.types import OFF, Interval, _DType, _OffAtZero, _Static

V = TypeVar("V", bound="Value")

FACTORIES: dict[str, "Factory"] = {}
"""Every factory by its registered name: what `from_config` may call."""


class Value:
    """A recorded call, immutable; see the module's docstring."""

    _call: "Call"
    _leaves: tuple[Any, ...]

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
    def factory(self) -> "Factory":
        """The factory that made this value."""
        return self._call.factory

    @cached_property
    def arguments(self) -> Mapping[str, Any]:
        """Every argument by name, defaults included."""
        leaves = iter(self._leaves)
        return MappingProxyType({name: join(part, leaves) for name, part in self._call.arguments})

    @cached_property
    def schedules(self) -> Mapping[str, Callable[[Any], Any]]:
        """The numeric arguments that are schedules."""
        arguments, numeric = self.arguments, self.factory.numeric
        return {name: arguments[name] for name in arguments if name in numeric and callable(arguments[name])}

    def numbers_at(self, count: Any) -> Mapping[str, Any]:
        """The arguments, with every schedule resolved at this count."""
        scheduled = {name: schedule(count) for name, schedule in self.schedules.items()}
        return {**self.arguments, **scheduled}

    def replace(self, **changes: Any) -> Self:
        """The same call with some arguments changed: ``tx.replace(learning_rate=3e-4)``.

        Without changes, it records the present numbers anew: concrete 0-d arrays, such as a jitted
        function returns, become Python numbers again.
        """
        unknown = changes.keys() - self.arguments.keys()
        if unknown:
            known = ", ".join(self.arguments)
            name = self.factory.name
            raise TypeError(f"{name} has no argument {sorted(unknown)}; it has: {known}")
        value = self.factory.record({**self.arguments, **changes})
        return typing.cast(Self, value)

    def bind(self, **numbers: Any) -> Self:
        """The same call with these numbers as they are, arrays included: for code that runs a value."""
        with keeping_arrays():
            return self.factory.record({**self.arguments, **numbers})

    def __repr__(self) -> str:
        return self.factory.show(self.arguments)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Value) or self._call != other._call:
            return False
        return all(map(_same, self._leaves, other._leaves))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self._call, tuple(_hashed(leaf) for leaf in self._leaves)))

    def __setattr__(self, name: str, value: Any) -> None:
        made = self.factory.name
        raise AttributeError(f"{made}(...) is immutable; make a changed copy: .replace({name}=...)")

    def __reduce__(self) -> Any:
        return _rebuild, (self.factory.public, dict(self.arguments))


def _rebuild(public: Callable[..., Value], arguments: dict[str, Any]) -> Value:
    return factory_of(public).record(arguments)


def _flatten_with_keys(value: Value) -> Any:
    keys = value._call.keys
    return tuple(zip(keys, value._leaves, strict=True)), value._call


def unflatten(call: "Call", leaves: Any) -> Any:
    """The value of this call with these numbers, unchecked: what jax does inside its transformations."""
    value = object.__new__(call.factory.kind)
    value.__dict__.update(_call=call, _leaves=tuple(leaves))
    return value


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, Tracer) or isinstance(b, Tracer):
        return False
    if hasattr(a, "shape") or hasattr(b, "shape"):
        a, b = _host(a), _host(b)
        return a.shape == b.shape and a.dtype == b.dtype and bool(np.array_equal(a, b))
    return bool(a == b)


def _hashed(leaf: Any) -> int:
    if isinstance(leaf, Tracer):
        return id(leaf)
    if hasattr(leaf, "shape"):
        host = _host(leaf)
        return hash((host.shape, host.tobytes()))
    try:
        return hash(leaf)
    except TypeError:
        return id(leaf)


def _host(x: Any) -> np.ndarray:
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(x))
    return np.asarray(x)


# --- splitting arguments into numbers and structure -------------------------------------------------


class Part:
    """How one argument is put together again from its numbers."""


@dataclass(frozen=True)
class Leaf(Part):
    """A number or an array."""


@dataclass(frozen=True)
class Choice(Part):
    """Anything that is not a number: it is compared, never traced."""

    value: Any

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Choice) or type(self.value) is not type(other.value):
            return False
        return self.value is other.value or (_hashable(self.value) and self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value) if _hashable(self.value) else id(self.value)


@dataclass(frozen=True)
class Node(Part):
    """A container: a dict (in the order it was written: first match wins), a sequence, or a pytree."""

    kind: Any
    keys: tuple[Any, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Call(Part):
    """A recorded call without its numbers: the treedef of a value."""

    factory: "Factory"
    arguments: tuple[tuple[str, Part], ...]

    @cached_property
    def _hash(self) -> int:
        return hash((self.factory.key, self.arguments))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def keys(self) -> list[Any]:
        """One pytree key per number: the name of the argument that holds it."""
        return [
            jax.tree_util.GetAttrKey(path) for name, part in self.arguments for path in _paths(part, name)
        ]


def _paths(part: Part, name: str) -> Iterator[str]:
    match part:
        case Leaf():
            yield name
        case Node(keys=keys, parts=parts):
            for key, child in zip(keys, parts, strict=True):
                yield from _paths(child, f"{name}[{key!r}]")
        case Call(arguments=arguments):
            for inner, child in arguments:
                yield from _paths(child, f"{name}.{inner}")


def split(x: Any) -> tuple[list[Any], Part]:
    """The numbers in an argument, and everything else about it."""
    if isinstance(x, Value):
        return list(x._leaves), x._call
    if is_number(x) or isinstance(x, jax.Array | np.ndarray):
        return [x], Leaf()
    if type(x) is dict:
        return _split_node(dict, tuple(x), x.values())
    if type(x) in (list, tuple):
        return _split_node(type(x), tuple(range(len(x))), x)
    leaves, treedef = jax.tree.flatten(x)
    if jax.tree_util.treedef_is_leaf(treedef) or not leaves:
        return [], Choice(x)
    return _split_node(treedef, tuple(range(len(leaves))), leaves)


def _split_node(kind: Any, keys: tuple[Any, ...], children: Any) -> tuple[list[Any], Part]:
    pairs = [split(child) for child in children]
    leaves = [leaf for numbers, _ in pairs for leaf in numbers]
    return leaves, Node(kind, keys, tuple(part for _, part in pairs))


def join(part: Part, leaves: Iterator[Any]) -> Any:
    """The argument that `split` took apart."""
    match part:
        case Leaf():
            return next(leaves)
        case Choice(value=value):
            return value
        case Call():
            return unflatten(part, [next(leaves) for _ in part.keys])
        case Node(kind=kind, keys=keys, parts=parts):
            children = [join(child, leaves) for child in parts]
            if kind is dict:
                return dict(zip(keys, children, strict=True))
            if kind is list or kind is tuple:  # by identity: a treedef cannot be compared with a type
                return kind(children)
            return jax.tree.unflatten(kind, children)
    raise TypeError(f"not a part of a recorded call: {part!r}")


def is_number(x: Any) -> bool:
    """Whether x is a Python or NumPy number (a bool is a choice, not a number)."""
    return isinstance(x, int | float | complex | np.number) and not isinstance(x, bool)


def is_concrete_scalar(x: Any) -> bool:
    """Whether x is a 0-d array whose number can be read now."""
    if isinstance(x, np.ndarray | np.generic):
        return x.ndim == 0
    if not isinstance(x, jax.Array) or isinstance(x, Tracer):
        return False
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return x.ndim == 0 and not is_key and x.is_fully_addressable


_keeps_arrays: ContextVar[bool] = ContextVar("keeps_arrays", default=False)


@contextmanager
def keeping_arrays() -> Iterator[None]:
    """Record 0-d arrays as they are: where a value is taken apart, not made by a user."""
    token = _keeps_arrays.set(True)
    try:
        yield
    finally:
        _keeps_arrays.reset(token)


def canonical(x: Any) -> Any:
    """The form in which an argument is recorded: Python numbers, and dtypes by name."""
    if is_concrete_scalar(x):
        return x if _keeps_arrays.get() else x.item()
    if isinstance(x, np.dtype) or (isinstance(x, type) and hasattr(x, "dtype")):
        return jnp.dtype(x).name
    if isinstance(x, type) and issubclass(x, np.generic):
        return np.dtype(x).name
    if type(x) is dict:
        return {canonical(key): canonical(child) for key, child in x.items()}
    if type(x) is list:
        return [canonical(child) for child in x]
    return tuple(canonical(child) for child in x) if type(x) is tuple else x


def _frozen(x: Any) -> Any:
    return tuple(map(_frozen, x)) if isinstance(x, list) else x


def _hashable(x: Any) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True


# --- factories --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Factory:
    """A function whose calls are recorded.

    Attributes:
        key: the registered name, unique: ``adamw``, or ``module.function`` outside gradtx.
        name: the name that users know it by.
        public: the function that users call; it records.
        body: the function as it was written.
        kind: the class of its values.
        options: what the decorator was told, for the kind.
    """

    key: str
    name: str
    public: Callable[..., Any]
    body: Callable[..., Any]
    kind: type[Value]
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def signature(self) -> inspect.Signature:
        """The signature of the body."""
        return inspect.signature(self.body)

    @cached_property
    def marks(self) -> dict[str, tuple[Any, ...]]:
        """What the annotations say of each argument: its `Interval`, or that it is static."""
        parameters = self.signature.parameters.values()
        return {p.name: tuple(_marks(_resolved(p.annotation, self.body))) for p in parameters}

    @cached_property
    def numeric(self) -> frozenset[str]:
        """The arguments that are numbers, and so accept a schedule."""
        return frozenset(p.name for p in self.signature.parameters.values() if self._is_numeric(p))

    def _is_numeric(self, parameter: inspect.Parameter) -> bool:
        marks = self.marks[parameter.name]
        if any(isinstance(mark, _Static) for mark in marks):
            return False
        if any(isinstance(mark, Interval) for mark in marks):
            return True
        unmarked = parameter.annotation in (inspect.Parameter.empty, float, int, "float", "int")
        number = parameter.default is inspect.Parameter.empty or is_number(parameter.default)
        return unmarked and number and not marks

    @cached_property
    def optional(self) -> frozenset[str]:
        """The arguments that may be None."""
        return frozenset(
            name
            for name, parameter in self.signature.parameters.items()
            if parameter.default is None or _admits_none(_resolved(parameter.annotation, self.body))
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = [name for name in kwargs if name not in self.signature.parameters]
            problem = f"got an unexpected keyword argument {unknown[0]!r}" if unknown else error
            known = ", ".join(self.signature.parameters)
            raise TypeError(f"{self.name}: {problem}; its arguments are: {known}") from None
        bound.apply_defaults()
        return self.record(bound.arguments)

    def record(self, arguments: Mapping[str, Any]) -> Any:
        """The value of this call: arguments checked and in canonical form."""
        parts, leaves = [], []
        for name, argument in arguments.items():
            argument = canonical(self.kind.adopt(argument))
            self._check(name, argument)
            if self.is_off(name, argument):
                argument = OFF
            static = any(isinstance(mark, _Static) for mark in self.marks[name])
            chooses = argument is OFF or (static and not callable(argument))
            numbers, part = ([], Choice(_frozen(argument))) if chooses else split(argument)
            parts.append((name, part))
            leaves.extend(numbers)
        value = unflatten(Call(self, tuple(parts)), leaves)
        value.validate()
        return value

    def is_off(self, name: str, argument: Any) -> bool:
        """Whether this argument, by being 0, leaves a part out."""
        marked = any(isinstance(mark, _OffAtZero) for mark in self.marks[name])
        return marked and is_number(argument) and argument == 0

    def _check(self, name: str, argument: Any) -> None:
        for mark in self.marks.get(name, ()):
            if isinstance(mark, _Static) and isinstance(argument, Tracer):
                raise TypeError(
                    f"{self.name}: {name} chooses structure and cannot be traced; pass a Python value"
                )
            if isinstance(mark, _DType):
                self._check_dtype(name, argument)
            if not isinstance(mark, Interval) or (argument is None and name in self.optional):
                continue
            if not is_number(argument):
                if callable(argument) or hasattr(argument, "shape") or _is_placeholder(argument):
                    continue
                raise TypeError(f"{self.name}: {name} must be a number or a schedule, got {argument!r}")
            if not isinstance(argument, int | float) or not mark.holds(argument):
                raise ValueError(f"{self.name}: {mark.error(name, argument)}")

    def _check_dtype(self, name: str, argument: Any) -> None:
        try:
            known = argument is None or jnp.issubdtype(jnp.dtype(argument), jnp.inexact)
        except TypeError:
            known = False
        if not known:
            raise TypeError(
                f"{self.name}: {name} must be None or a dtype of real or complex numbers, such as "
                f"'bfloat16', got {argument!r}"
            )

    def show(self, arguments: Mapping[str, Any]) -> str:
        """The call as source text."""
        parts = []
        for name, argument in arguments.items():
            if self.signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
                parts += [show(item) for item in argument]
            else:
                parts.append(f"{name}={show(argument)}")
        return f"{self.name}({', '.join(parts)})"


def _is_placeholder(x: Any) -> bool:
    # vmap's in_axes, eval_shape and tree.map put other objects where numbers were.
    return isinstance(x, jax.ShapeDtypeStruct)


def show(x: Any) -> str:
    """Source text of an argument: what `repr` prints and `eval` reads."""
    if is_concrete_scalar(x):
        return repr(x.item())
    if isinstance(x, jax.Array | np.ndarray) and not isinstance(x, Tracer):
        return f"jax.numpy.array({_host(x).tolist()}, dtype='{x.dtype}')"
    if type(x) is dict:
        return "{" + ", ".join(f"{key!r}: {show(child)}" for key, child in x.items()) + "}"
    if type(x) is list:
        return "[" + ", ".join(map(show, x)) + "]"
    if type(x) is tuple:
        return "(" + ", ".join(map(show, x)) + ("," if len(x) == 1 else "") + ")"
    if inspect.isfunction(x) or inspect.isclass(x):
        return x.__name__
    if isinstance(x, float) and not math.isfinite(x):
        return f"float('{x}')"
    return repr(x)


def _resolved(annotation: Any, body: Callable[..., Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, body.__globals__)  # a stringised annotation of this very module
    except Exception:  # noqa: BLE001  # whatever a name under TYPE_CHECKING raises: nothing is known then
        return None


def _marks(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for inner in typing.get_args(annotation):
        yield from _marks(inner)


def _admits_none(annotation: Any) -> bool:
    return annotation in (None, type(None)) or any(map(_admits_none, typing.get_args(annotation)))


def factory_of(function: Any) -> Factory:
    """The factory behind a public function such as ``adamw``."""
    factory = getattr(function, "factory", None)
    if not isinstance(factory, Factory):
        raise TypeError(
            f"{function!r} is not a gradtx factory; decorate it with leafwise, treewise or recipe"
        )
    return factory


def register(
    body: Callable[..., Any],
    kind: type[Value],
    *,
    name: str | None = None,
    **options: Any,
) -> Callable[..., Any]:
    """The public function that records calls of `body` as values of `kind`.

    Args:
        body: the function as it was written.
        kind: the class of the values.
        name: the name in `repr`, configs, errors and states. Default: the function's.
        **options: what the kind's decorator was told.

    Raises:
        TypeError: for what is no function with a name.
    """
    if not (callable(body) and hasattr(body, "__qualname__")):
        raise TypeError(
            f"a factory is made of a function with a name, got {type(body).__name__}: {body!r}; "
            "write one with def"
        )

    def public(*args: Any, **kwargs: Any) -> Any:
        return factory(*args, **kwargs)

    for attribute in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__"):
        setattr(public, attribute, getattr(body, attribute))
    public.__wrapped__ = body  # type: ignore[attr-defined]  # functions take attributes; inspect reads this one
    registered, shown = _names(body)
    factory = Factory(name or registered, name or shown, public, body, kind, options)
    public.factory = factory  # type: ignore[attr-defined]  # as above: how a function leads to its factory
    FACTORIES[factory.key] = factory
    return public


def _names(body: Callable[..., Any]) -> tuple[str, str]:
    """The names of a function in configs and in `repr`, where its decorator was told none."""
    module = body.__module__ or "__main__"  # code run by exec has none
    if module.startswith(("gradtx.torch.", "gradtx.contrib.")):
        # PyTorch's names repeat ours, and the files are not public: torch.optim.adam, contrib.adopt.
        name = f"{module.removeprefix('gradtx.').rpartition('.')[0]}.{body.__name__}"
        return name, name
    if module.split(".")[0] == "gradtx":
        return body.__name__, body.__name__
    return f"{module}.{body.__qualname__}", body.__name__

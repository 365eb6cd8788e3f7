"""Factories: functions whose calls are recorded as values."""

import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from gradtx.values.argument import KEYWORDS, POSITIONAL, REST, Argument
from gradtx.values.parts import LEAF, Number, Part
from gradtx.values.source import Source
from gradtx.values.value import Call, Maker, Value
from gradtx.values.words import SignatureInWords

FACTORIES: dict[str, "Factory"] = {}
"""Every factory by its registered name: what `from_config` may call."""
FORMER: dict[str, str] = {}
"""By a name that a factory had before, its registered name."""


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
        decorator: its name, where that of the function means the function as it was written; or "".
    """

    key: str
    name: str
    public: Callable[..., Any]
    body: Callable[..., Any]
    kind: type[Value]
    options: Mapping[str, Any] = field(default_factory=dict)
    decorator: str = ""

    @property
    def reference(self) -> "Callable[..., Any] | Undecorated":
        """What a pickle holds in the place of the factory; it has an attribute `factory`."""
        return (
            Undecorated(self.body, self.kind, self.options, self.decorator) if self.decorator else self.public
        )

    @cached_property
    def signature(self) -> inspect.Signature:
        """The signature of the body."""
        return inspect.signature(self.body)

    @cached_property
    def parameters(self) -> dict[str, Argument]:
        """The arguments by name."""
        return {
            p.name: Argument(self.name, self.kind, p, self.body) for p in self.signature.parameters.values()
        }

    @cached_property
    def numeric(self) -> frozenset[str]:
        """The arguments that are numbers, and so accept a schedule."""
        return frozenset(name for name, p in self.parameters.items() if p.is_numeric)

    @cached_property
    def _defaults(self) -> dict[str, Any] | None:
        """The arguments in order with their defaults, if all of them can be given by name."""
        if any(p.kind in (POSITIONAL, REST, KEYWORDS) for p in self.parameters.values()):
            return None
        return {name: p.default for name, p in self.parameters.items()}

    @cached_property
    def _rest(self) -> str | None:
        """The name of ``*args``, if there is no other argument."""
        several = [name for name, p in self.parameters.items() if p.kind is REST]
        return several[0] if len(several) == len(self.parameters) else None

    @cached_property
    def _required(self) -> frozenset[str]:
        return frozenset(name for name, p in self.parameters.items() if p.default is inspect.Parameter.empty)

    @cached_property
    def _positional(self) -> tuple[str, ...]:
        keyword_only = inspect.Parameter.KEYWORD_ONLY
        return tuple(name for name, p in self.parameters.items() if p.kind is not keyword_only)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """The value of this call."""
        defaults = self._defaults
        # What `inspect` does for any signature takes as long as the rest of a recording.
        if defaults is not None and len(args) <= len(self._positional) and kwargs.keys() <= defaults.keys():
            given = dict(zip(self._positional, args, strict=False))
            if given.keys().isdisjoint(kwargs) and self._required <= given.keys() | kwargs.keys():
                return self.record({**defaults, **given, **kwargs})
        if self._rest is not None and not kwargs:
            return self.record({self._rest: args})
        own = {name: first for name, first in self.kind.synonyms.items() if first not in kwargs}
        try:
            bound = self.signature.bind(*args, **{own.get(name, name): x for name, x in kwargs.items()})
        except TypeError as error:
            unknown = [name for name in kwargs if name not in self.parameters]
            problem = f"got an unexpected keyword argument {unknown[0]!r}" if unknown else error
            known = ", ".join(self.parameters)
            raise TypeError(f"{self.name}: {problem}; its arguments are: {known}") from None
        bound.apply_defaults()
        return self.record(bound.arguments)

    def is_off(self, name: str, x: object) -> bool:
        """Whether this argument, by being 0, leaves a part out."""
        return self.parameters[name].is_off(x)

    def record(self, arguments: Mapping[str, Any]) -> Any:
        """The value of this call: arguments checked and in canonical form."""
        parts: list[tuple[str, Part]] = []
        leaves: list[Number] = []
        known: dict[str, Any] = {}
        schedules: dict[str, Callable[[Any], Any]] = {}
        for name, p in self.parameters.items():
            x = arguments[name]
            if x is p.default:
                numbers, part, x = p.of_default
            elif type(x) is float and p.is_numeric and p.low <= x <= p.high and (x or not p.is_off_at_zero):
                numbers, part = (x,), LEAF  # what most are, without the way through `split`
            else:
                numbers, part, x = p.split(x)
            if p.is_numeric and callable(x):
                schedules[name] = x
            known[name] = x
            parts.append((name, part))
            leaves.extend(numbers)
        value = object.__new__(self.kind)
        value.__dict__.update(
            _call=Call(typing.cast(Maker, self), tuple(parts)),
            _leaves=tuple(leaves),
            arguments=MappingProxyType(known),
            schedules=schedules,
        )
        value.validate()
        return value

    def run(self, arguments: Mapping[str, Any]) -> Any:
        """What the body returns for these arguments."""
        if self._defaults is not None:
            return self.body(**arguments)
        args, kwargs = self.by_position(arguments)
        return self.body(*args, **kwargs)

    def by_position(self, arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Arguments by name as a call passes them: first those that have no name there."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        # What stands before *args cannot be given by name if there are any.
        many = any(p.kind is REST and arguments.get(name) for name, p in self.parameters.items())
        by_place = (POSITIONAL, inspect.Parameter.POSITIONAL_OR_KEYWORD) if many else (POSITIONAL,)
        for name, p in self.parameters.items():
            if name not in arguments:
                continue
            if p.kind is REST:
                args.extend(arguments[name])
            elif p.kind is KEYWORDS:
                kwargs.update(arguments[name])
            elif p.kind in by_place:
                args.append(arguments[name])
            else:
                kwargs[name] = arguments[name]
        return args, kwargs

    def named(self, changes: Mapping[str, Any], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments with some changed; those that have no name of their own are among the rest."""
        unknown = changes.keys() - arguments.keys()
        rest = next((name for name, p in self.parameters.items() if p.kind is KEYWORDS), None)
        if not unknown:
            return {**arguments, **changes}
        if rest is None:
            known = ", ".join(arguments)
            raise TypeError(f"{self.name} has no argument {sorted(unknown)}; it has: {known}")
        own = {name: x for name, x in changes.items() if name not in unknown}
        return {**arguments, **own, rest: {**arguments[rest], **{name: changes[name] for name in unknown}}}

    def source(self, arguments: Mapping[str, Any]) -> Source:
        """The call as source text, in parts."""
        args, kwargs = self.by_position(arguments)
        name = f"{self.decorator}({self.name})" if self.decorator else self.name
        parts = [("", x) for x in args] + [(f"{name}=", x) for name, x in kwargs.items()]
        return Source(f"{name}(", parts, ")")


@dataclass(frozen=True)
class Undecorated:
    """A factory by the function as it was written, which is what a pickle finds under its name."""

    body: Callable[..., Any]
    kind: type[Value]
    options: Mapping[str, Any]
    decorator: str

    @property
    def factory(self) -> Factory:
        """The factory of this function."""
        return factory_of(register(self.body, self.kind, decorator=self.decorator, **self.options))


def factory_of(function: object) -> Factory:
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
    decorator: str = "",
    formerly: str = "",
    **options: object,
) -> Callable[..., Any]:
    """The public function that records calls of `body` as values of `kind`; the same one for the same body.

    Args:
        body: the function as it was written.
        kind: the class of the values.
        name: the name in `repr`, configs, errors and states. Default: the function's, after the
            ``__namespace__`` of the nearest package above it that has one.
        decorator: the name of what is called here, where the function's own means the function as it was
            written. Default: it means what is returned.
        formerly: a name that it had before, which configs and states may have.
        **options: what the kind's decorator was told.

    Raises:
        TypeError: for what is no function with a name.
    """
    if not (callable(body) and hasattr(body, "__qualname__")):
        raise TypeError(
            f"a factory is made of a function with a name, got {type(body).__name__}: {body!r}; "
            "write one with def"
        )

    registered, shown = _names(body)
    known = FACTORIES.get(name or registered)
    if known is not None and (known.body, known.kind, known.options) == (body, kind, options):
        return known.public

    def public(*args: object, **kwargs: object) -> Any:
        return factory(*args, **kwargs)

    for attribute in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__"):
        setattr(public, attribute, getattr(body, attribute))
    public.__wrapped__ = body  # type: ignore[attr-defined]  # functions take attributes; inspect reads this one
    if inspect.isfunction(body) and not hasattr(body, "__wrapped__"):
        public.__signature__ = SignatureInWords.of(body, kind.shown_as)  # type: ignore[attr-defined]  # as above
    factory = Factory(name or registered, name or shown, public, body, kind, options, decorator)
    public.factory = factory  # type: ignore[attr-defined]  # as above: how a function leads to its factory
    FACTORIES[factory.key] = factory
    if formerly:
        FORMER[formerly] = factory.key
    return public


def _names(body: Callable[..., Any]) -> tuple[str, str]:
    """The names of a function in configs and in `repr`, where its decorator was told none."""
    package = module = body.__module__ or "__main__"  # code run by exec has none
    while package:
        namespace = getattr(sys.modules.get(package), "__namespace__", None)
        if namespace is not None:
            name = f"{namespace}.{body.__name__}" if namespace else body.__name__
            return name, name
        package = package.rpartition(".")[0]
    return f"{module}.{body.__qualname__}", body.__name__

"""What a function asks for, read from its signature: also of one that is wrapped, partial or compiled."""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, NamedTuple


class Signature(NamedTuple):
    """The arguments of a function.

    Attributes:
        names: of all of them, in order, but for ``*args`` and ``**kwargs``.
        positional: how many of these, from the first, can be given by position.
        required: those without a default.
        takes_any: whether it has ``**kwargs``.
    """

    names: tuple[str, ...]
    positional: int
    required: frozenset[str]
    takes_any: bool

    def of_those(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Of some keywords, those that the function takes."""
        return dict(given) if self.takes_any else {name: x for name, x in given.items() if name in self.names}


def signature(function: Callable[..., Any]) -> Signature:
    """The arguments that a function has.

    Raises:
        ValueError: for a callable that does not say, such as some that are written in C.
    """
    if type(function) is FunctionType and not hasattr(function, "__wrapped__"):
        # Rules are made in every trace; to read one's code takes a twentieth of what `inspect` takes.
        optional = len(function.__defaults__ or ())
        return _of_code(function.__code__, optional, frozenset(function.__kwdefaults__ or ()))
    parameters = inspect.signature(function).parameters.values()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    single = [p for p in parameters if p.kind not in several]
    return Signature(
        tuple(p.name for p in single),
        sum(p.kind in by_place for p in single),
        frozenset(p.name for p in single if p.default is inspect.Parameter.empty),
        any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters),
    )


@lru_cache(maxsize=1024)
def _of_code(code: CodeType, optional: int, optional_keywords: frozenset[str]) -> Signature:
    positional = code.co_varnames[: code.co_argcount]
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    with_default = {*positional[len(positional) - optional :], *optional_keywords}
    return Signature(names, len(positional), frozenset(names) - with_default, bool(code.co_flags & 0x08))


def takes_by_position(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be given so many arguments by position."""
    try:
        inspect.signature(function).bind_partial(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # it does not say
        return True
    return True

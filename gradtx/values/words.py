"""Signatures as a reader wants them: ``b1: Decay = 0.9``, where Python would spell out what a Decay is."""

import inspect
import re
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Self

from gradtx.values import domains
from gradtx.values.domains import Interval, Mark, Named

NAMES = ("Number", "NonNegative", "Positive", "AtLeastOne", "Fraction", "Decay", "Count", "DType")


class Word:
    """An annotation that prints as it is written."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


class SignatureInWords(inspect.Signature):
    """The signature of a factory, with annotations by name; read when first asked for, as most never are."""

    __slots__ = ("_body", "_returns")

    @classmethod
    def of(cls, body: Callable[..., Any], returns: str) -> Self:
        """The signature of a function.

        Args:
            body: the function.
            returns: what a call of the factory returns.
        """
        signature = cls.__new__(cls)
        signature._body, signature._returns = body, returns
        return signature

    def __getattr__(self, name: str) -> Any:  # of what `__init__` sets, before it has run
        if name not in inspect.Signature.__slots__:
            raise AttributeError(name)
        parameters = inspect.signature(self._body).parameters.values()
        self.__init__(
            [p.replace(annotation=_noted(p.annotation)) for p in parameters],
            return_annotation=Word(self._returns),
        )
        return getattr(self, name)


def _noted(annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty:
        return annotation
    try:
        return _word(annotation)
    except TypeError:  # one that has no hash
        return Word(_in_words(annotation))


@cache
def _word(annotation: Any) -> Word:
    return Word(_in_words(annotation))


def _in_words(x: Any) -> str:
    if x is None or x is type(None):
        return "None"
    if isinstance(x, str):
        return x
    if typing.get_origin(x) is Annotated:
        if named := [mark.name for mark in x.__metadata__ if isinstance(mark, Named)]:
            return named[0]
        known = [name for name in NAMES if getattr(domains, name) == x]
        if known:
            return known[0]
        inner, marks = x.__origin__, [mark for mark in x.__metadata__ if mark is not Mark.OFF_AT_ZERO]
        if len(marks) < len(x.__metadata__):
            return _in_words(Annotated[inner, *marks] if marks else inner)
        if marks[-1] is Mark.STATIC:
            return f"Static[{_in_words(Annotated[inner, *marks[:-1]] if marks[1:] else inner)}]"
        # A domain of the same numbers, with words of its own for its errors.
        alike = [name for name in NAMES if _domain(getattr(domains, name)) == _domain(x) != ("", False)]
        return alike[0] if alike else _in_words(inner)
    if x == domains.ScalarOrSchedule:
        return "ScalarOrSchedule"
    if typing.get_origin(x) in (typing.Union, types.UnionType):
        return " | ".join(map(_in_words, typing.get_args(x)))
    if isinstance(x, type) and not typing.get_args(x):
        return x.__name__
    return re.sub(r"(?:\w+\.)+(?=\w)", "", repr(x))


def _domain(annotation: Any) -> tuple[str, bool]:
    intervals = [mark for mark in annotation.__metadata__ if isinstance(mark, Interval)]
    return (intervals[-1].text, intervals[-1].whole) if intervals else ("", False)

"""Signatures as a reader wants them: ``b1: Decay = 0.9``, where Python would spell out what a Decay is."""

import inspect
import re
import types
import typing
from functools import cache
from typing import Annotated, Any

from gradtx.values import domains
from gradtx.values.domains import Interval, OffAtZeroMark, StaticMark

NAMES = ("Number", "NonNegative", "Positive", "AtLeastOne", "Fraction", "Decay", "Count", "DType")


class Word:
    """An annotation that prints as it is written."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def signature_in_words(body: types.FunctionType, returns: str) -> inspect.Signature:
    """The signature of a function, with annotations by name. `inspect.signature` takes four times as long.

    Args:
        body: the function.
        returns: what a call of the factory returns.
    """
    code, kinds = body.__code__, inspect.Parameter
    n, m = code.co_argcount, code.co_kwonlyargcount
    of = [kinds.POSITIONAL_ONLY] * code.co_posonlyargcount
    of += [kinds.POSITIONAL_OR_KEYWORD] * (n - len(of))
    places = list(zip(code.co_varnames[:n], of, strict=True))
    rest = n + m
    if code.co_flags & inspect.CO_VARARGS:
        places.append((code.co_varnames[rest], kinds.VAR_POSITIONAL))
        rest += 1
    places += [(name, kinds.KEYWORD_ONLY) for name in code.co_varnames[n : n + m]]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        places.append((code.co_varnames[rest], kinds.VAR_KEYWORD))
    given = body.__defaults__ or ()
    defaults = dict(zip(code.co_varnames[n - len(given) : n], given, strict=True))
    defaults |= body.__kwdefaults__ or {}
    notes = body.__annotations__
    return inspect.Signature(
        [
            kinds(
                name,
                kind,
                default=defaults.get(name, kinds.empty),
                annotation=_noted(notes.get(name, kinds.empty)),
            )
            for name, kind in places
        ],
        return_annotation=Word(returns),
        __validate_parameters__=False,
    )


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
        known = [name for name in NAMES if getattr(domains, name) == x]
        if known:
            return known[0]
        inner, marks = x.__origin__, [mark for mark in x.__metadata__ if not isinstance(mark, OffAtZeroMark)]
        if len(marks) < len(x.__metadata__):
            return _in_words(Annotated[inner, *marks] if marks else inner)
        if isinstance(marks[-1], StaticMark):
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

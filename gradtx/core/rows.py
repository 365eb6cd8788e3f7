"""Rows: many tensors in one staged call.

While a program is traced, each call of a compiled function costs some 50 microseconds of Python, for one
tensor as for thirty. So tensors of one shape go together, in rows of a few fixed lengths: each length
is a program to trace once, as four calls of the length below. Outside of tracing a call runs at once, and
tensors go one by one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.core import Tracer

FOLD = 4
LENGTHS = (64, 16, 4, 1)
"""Of rows. A row is FOLD shorter ones: so a new length costs the tracing of FOLD calls, whatever it is."""


def is_traced(tensors: Sequence[Any]) -> bool:
    """Whether any of these is a tracer."""
    return any(isinstance(x, Tracer) for x in tensors)


def rows(tensors: Sequence[Any], kinds: Sequence[Any]) -> Iterator[list[int]]:
    """The indices of tensors that go into one call; None is in none.

    Args:
        tensors: arrays or None.
        kinds: a hashable value for each; those of different kinds do not go together.
    """
    tracing = is_traced(tensors)
    alike: dict[Any, list[int]] = {}
    for i, x in enumerate(tensors):
        if x is not None:
            key = (x.shape if tracing else i, kinds[i])
            alike.setdefault(key, []).append(i)
    for members in alike.values():
        for length in LENGTHS:
            while len(members) >= length:
                yield members[:length]
                members = members[length:]


def row_of(one: Callable[..., Any], name: str, **jit: Any) -> Callable[..., list[Any]]:
    """``one(*tensors, *shared)`` compiled for a row of tensors, given as columns: ``many(columns, *shared)``.

    Args:
        one: a function of one tensor, or of some that go together.
        name: what profiles show.
        **jit: options of `jax.jit`.
    """

    def row(columns: Sequence[list[Any]], *shared: Any, **static: Any) -> list[Any]:
        length = len(columns[0])
        if length <= FOLD:
            return [one(*tensors, *shared, **static) for tensors in zip(*columns, strict=True)]
        part = length // FOLD
        parts = ([column[i : i + part] for column in columns] for i in range(0, length, part))
        return [result for columns in parts for result in many(columns, *shared, **static)]

    row.__name__ = row.__qualname__ = name
    many = jax.jit(row, **jit)
    return many


class PerTensor:
    """A function of one tensor, for columns of tensors.

    ``PerTensor(f)([xs, ys], z)`` is the list of ``f(x, y, z)``, and None where x is None. It is meant for
    functions of a few operations: while tracing, a tensor alone of its shape is traced in place.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self._one = jax.jit(function)
        self._many = row_of(function, f"{getattr(function, '__name__', 'rule')}_of_many")

    def __call__(self, columns: Sequence[list[Any]], *shared: Any) -> list[Any]:
        first = columns[0]
        one = self.function if is_traced(first) else self._one
        out: list[Any] = [None] * len(first)
        for members in rows(first, [None] * len(first)):
            row = [[column[i] for i in members] for column in columns]
            alone = len(members) == 1
            results = [one(*(x for (x,) in row), *shared)] if alone else self._many(row, *shared)
            for i, result in zip(members, results, strict=True):
                out[i] = result
        return out


def map_rows(function: Callable[..., Any], columns: Sequence[list[Any]]) -> list[Any]:
    """``function(*row)`` for each row of these columns of tensors, and None where the first is None.

    As `PerTensor`, for a function that is made in every update, around the numbers of this update: so it is
    compiled for a trace alone, and outside of tracing runs operation by operation.
    """
    if is_traced(columns[0]):
        return PerTensor(function)(columns)
    return [None if row[0] is None else function(*row) for row in zip(*columns, strict=True)]

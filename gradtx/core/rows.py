"""Rows: many tensors in one staged call.

While a program is traced, each call of a compiled function costs some 50 microseconds of Python, for one
tensor as for thirty. So tensors of one shape go together, in rows of a few fixed lengths: each length
is a program to trace once. Outside of tracing a call runs at once, and tensors go one by one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.core import Tracer


def is_traced(tensors: Sequence[Any]) -> bool:
    """Whether any of these is a tracer."""
    return any(isinstance(x, Tracer) for x in tensors)


def rows(tensors: Sequence[Any], kinds: Sequence[Any], lengths: Sequence[int]) -> Iterator[list[int]]:
    """The indices of tensors that go into one call; None is in none.

    Args:
        tensors: arrays or None.
        kinds: a hashable value for each; those of different kinds do not go together.
        lengths: of the rows, from long to short; the last is 1.
    """
    tracing = is_traced(tensors)
    alike: dict[Any, list[int]] = {}
    for i, x in enumerate(tensors):
        if x is not None:
            key = (x.shape if tracing else i, kinds[i])
            alike.setdefault(key, []).append(i)
    for members in alike.values():
        for length in lengths:
            while len(members) >= length:
                yield members[:length]
                members = members[length:]


class PerTensor:
    """A function of one tensor, for columns of tensors.

    ``PerTensor(f)([xs, ys], z)`` is the list of ``f(x, y, z)``, and None where x is None. It is meant for
    functions of a few operations: while tracing, a tensor alone of its shape is traced in place.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self._one = jax.jit(function)
        self._many = jax.jit(self._row)

    def _row(self, columns: Sequence[list[Any]], *shared: Any) -> list[Any]:
        return [self.function(*row, *shared) for row in zip(*columns, strict=True)]

    def __call__(self, columns: Sequence[list[Any]], *shared: Any) -> list[Any]:
        first = columns[0]
        one = self.function if is_traced(first) else self._one
        out: list[Any] = [None] * len(first)
        for members in rows(first, [None] * len(first), (32, 1)):
            row = [[column[i] for i in members] for column in columns]
            alone = len(members) == 1
            results = [one(*(x for (x,) in row), *shared)] if alone else self._many(row, *shared)
            for i, result in zip(members, results, strict=True):
                out[i] = result
        return out

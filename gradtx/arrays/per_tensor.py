"""Rows: many tensors in one staged call.

While a program is traced, each call of a compiled function costs some 50 microseconds of Python, for one
tensor as for thirty. So tensors of one shape go together, in rows of one fixed length, which is a program to
trace once. Outside of tracing a call runs at once, and tensors go one by one: what is compiled before the
first update is then one small program for each shape.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.core import Tracer

from gradtx.arrays.errors import is_none
from gradtx.arrays.types import PyTree

ROW = 32
"""The length of a row. Rows of rows would be fewer calls still, but XLA takes its time to flatten them."""


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
        in_rows = len(members) - len(members) % ROW
        yield from (members[i : i + ROW] for i in range(0, in_rows, ROW))
        yield from ([i] for i in members[in_rows:])


def row_of(one: Callable[..., Any], name: str, **jit: Any) -> Callable[..., list[Any]]:
    """``one(*tensors, *shared)`` compiled for a row of tensors, given as columns: ``many(columns, *shared)``.

    Args:
        one: a function of one tensor, or of some that go together.
        name: what profiles show.
        **jit: options of `jax.jit`.
    """

    def row(columns: Sequence[list[Any]], *shared: PyTree, **static: Any) -> list[Any]:
        return [one(*tensors, *shared, **static) for tensors in zip(*columns, strict=True)]

    row.__name__ = row.__qualname__ = name
    return jax.jit(row, **jit)


class PerTensor:
    """A function of one tensor, for columns of tensors.

    ``PerTensor(f)([xs, ys], z)`` is the list of ``f(x, y, z)``, and None where x is None.

    Args:
        function: the function, of arrays alone.
        primitive: whether it is a single operation. While tracing, a tensor that is in no row is then traced
            in place, for a call would take longer. Default: no.
    """

    def __init__(self, function: Callable[..., Any], primitive: bool = False):
        self.function, self.primitive = function, primitive
        self._one = jax.jit(function)
        self._many = row_of(function if primitive else self._one, f"{function.__name__}_of_many")

    def __call__(self, columns: Sequence[list[Any]], *shared: PyTree) -> list[Any]:
        one = self.function if self.primitive and is_traced(columns[0]) else self._one
        return _in_rows(one, self._many, columns, shared)

    def on_trees(self, trees: Sequence[Any], *shared: PyTree) -> PyTree:
        """The same for trees of one structure, leaf by leaf: a tree, with None where the first has None."""
        first, *others = trees
        leaves, treedef = jax.tree.flatten(first, is_leaf=is_none)
        return treedef.unflatten(self([leaves, *map(treedef.flatten_up_to, others)], *shared))


def map_rows(function: Callable[..., Any], columns: Sequence[list[Any]]) -> list[Any]:
    """``function(*row)`` for each row of these columns of tensors, and None where the first is None.

    It is for functions that are made in every update, around the numbers of this update: they are compiled
    for a trace alone, and outside of tracing run operation by operation.
    """
    if not is_traced(columns[0]):
        return [None if row[0] is None else function(*row) for row in zip(*columns, strict=True)]
    one = jax.jit(function)
    return _in_rows(one, row_of(one, "rows"), columns, ())


def _in_rows(
    one: Callable[..., Any], many: Callable[..., Any], columns: Sequence[list[Any]], shared: Sequence[Any]
) -> list[Any]:
    out: list[Any] = [None] * len(columns[0])
    for members in rows(columns[0], out):
        row = [[column[i] for i in members] for column in columns]
        alone = len(members) == 1
        results = [one(*(x for (x,) in row), *shared)] if alone else many(row, *shared)
        for i, result in zip(members, results, strict=True):
            out[i] = result
    return out

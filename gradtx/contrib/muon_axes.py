"""Which axes of a tensor are the rows and columns of a matrix."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from gradtx.arrays import errors
from gradtx.arrays.errors import is_none
from gradtx.arrays.select import select
from gradtx.arrays.types import Array, Selector

Axes = int | Sequence[int]


@dataclass(frozen=True, repr=False)
class MuonDimensionNumbers:
    """The axes of a tensor that make a matrix; all other axes count matrices.

    Args:
        reduction_axis: the axis, or axes, of the rows, which x·W sums over; negative ones count from the end.
        output_axis: those of the columns.
    """

    reduction_axis: Axes = 0
    output_axis: Axes = 1

    def __post_init__(self) -> None:
        for name in ("reduction_axis", "output_axis"):
            axes = getattr(self, name)
            object.__setattr__(self, name, axes if isinstance(axes, int) else tuple(axes))

    def __repr__(self) -> str:
        return f"contrib.{type(self).__name__}({self.reduction_axis}, {self.output_axis})"


MATRIX = MuonDimensionNumbers()


def axes_of(name: str, what: str, chosen: Selector | None, tree: Any) -> list[MuonDimensionNumbers | None]:
    """The dimension numbers of every leaf of a tree (None is a leaf); None for what is no matrix."""
    if chosen is None:
        leaves = jax.tree.leaves(tree, is_leaf=is_none)
        return [MATRIX if getattr(leaf, "ndim", 0) == 2 else None for leaf in leaves]
    chosen = {chosen: True} if isinstance(chosen, str) else chosen
    return [_read(name, what, label) for label in select(name, what, chosen, tree, default=None)]


def _read(name: str, what: str, label: Any) -> MuonDimensionNumbers | None:
    if label is None or isinstance(label, bool):
        return MATRIX if label else None
    if not isinstance(label, MuonDimensionNumbers):
        raise TypeError(f"{name}: {what} must give dimension numbers, True or None, got {label!r}")
    return label


def matrix_axes(name: str, what: str, chosen: Selector | None, tree: Any) -> list[MuonDimensionNumbers]:
    """The dimension numbers of every leaf of a tree of matrices; any, where the leaf is None."""
    try:
        found = axes_of(name, what, chosen, tree)
    except ValueError:
        if not isinstance(chosen, Mapping):
            raise
        # Where the other params are masked out, the patterns that they matched match nothing.
        found = axes_of(name, what, {k: v for k, v in chosen.items() if v is not None}, tree)
    for (path, leaf), axes in zip(errors.paths(tree).items(), found, strict=True):
        if leaf is not None and axes is None:
            raise ValueError(
                f"{name}: {path} has shape {leaf.shape} and is no matrix; give it to "
                f"another optimizer, as muon does, or say in {what} which of its axes make one"
            )
    check_axes(name, tree, found)
    return [axes or MATRIX for axes in found]


def check_axes(name: str, tree: Any, found: Sequence[MuonDimensionNumbers | None]) -> None:
    """Raise, with the path, where dimension numbers do not fit the leaf of a tree."""
    for (path, leaf), axes in zip(errors.paths(tree).items(), found, strict=True):
        if leaf is not None and axes is not None:
            rows_and_columns(f"{name}: {path}", leaf.shape, axes)


def rows_and_columns(name: str, shape: tuple[int, ...], axes: MuonDimensionNumbers) -> Any:
    """The axes of the rows and of the columns of a tensor, as tuples of numbers from 0."""
    if len(shape) < 2:
        raise ValueError(f"{name}: a tensor of shape {shape} is no matrix; give it to another optimizer")
    pair = [
        (side,) if isinstance(side, int) else tuple(side) for side in (axes.reduction_axis, axes.output_axis)
    ]
    named = pair[0] + pair[1]
    if not all(-len(shape) <= axis < len(shape) for axis in named):
        raise ValueError(f"{name}: {axes} names an axis that a tensor of shape {shape} does not have")
    pair = [tuple(axis % len(shape) for axis in side) for side in pair]
    if len(set(pair[0] + pair[1])) < len(named):
        raise ValueError(f"{name}: {axes} names an axis of a tensor of shape {shape} twice")
    return pair


def fans(name: str, shape: tuple[int, ...], axes: MuonDimensionNumbers) -> tuple[int, int]:
    """How many rows and how many columns."""
    rows, columns = rows_and_columns(name, shape, axes)
    return math.prod(shape[axis] for axis in rows), math.prod(shape[axis] for axis in columns)


def on_matrices(name: str, f: Callable[[Array], Array], x: Array, axes: MuonDimensionNumbers) -> Array:
    """f of a tensor as a stack of matrices, with shape (how many, rows, columns), and back again."""

    def call(x: Array) -> Array:
        stack = as_matrices(name, x, axes)
        count = math.prod(stack.shape[:-2])
        return from_matrices(name, f(stack.reshape(count, *stack.shape[-2:])), x.shape, axes)

    return sharded_like(x, call(whole(x)))


def as_matrices(name: str, x: Array, axes: MuonDimensionNumbers) -> Array:
    """A tensor as matrices on its last two axes; those that count matrices come first."""
    rows, columns = rows_and_columns(name, x.shape, axes)
    joined = [axis for side in (rows, columns) if len(side) > 1 for axis in side]
    turned = whole(x, joined).transpose(_order(name, x.shape, axes))
    return turned.reshape(*turned.shape[: x.ndim - len(rows + columns)], *fans(name, x.shape, axes))


def from_matrices(name: str, stack: Array, shape: tuple[int, ...], axes: MuonDimensionNumbers) -> Array:
    """The tensor of this shape that `as_matrices` made the stack of."""
    order = _order(name, shape, axes)
    turned = stack.reshape([shape[axis] for axis in order])
    return turned.transpose(sorted(range(len(shape)), key=order.__getitem__))


def _order(name: str, shape: tuple[int, ...], axes: MuonDimensionNumbers) -> tuple[int, ...]:
    rows, columns = rows_and_columns(name, shape, axes)
    return tuple(axis for axis in range(len(shape)) if axis not in rows + columns) + rows + columns


def whole(x: Array, axes: Sequence[int] | None = None) -> Array:
    """The tensor with these axes (default: all) whole on every device, where they are sharded explicitly."""
    sharding = jax.typeof(x).sharding
    entries = tuple(sharding.spec)
    kept = tuple(None if axes is None or i in axes else entry for i, entry in enumerate(entries))
    if kept == entries:
        return x
    spec = jax.sharding.PartitionSpec(*kept)
    return jax.sharding.reshard(x, jax.sharding.NamedSharding(sharding.mesh, spec))


def sharded_like(x: Array, y: Array) -> Array:
    """y, sharded as x is where that is explicit."""
    sharding = jax.typeof(x).sharding
    return y if all(entry is None for entry in sharding.spec) else jax.sharding.reshard(y, sharding)

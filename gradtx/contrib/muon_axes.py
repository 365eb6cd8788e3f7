"""Which axes of a tensor are the rows and columns of a matrix."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from gradtx.core import errors
from gradtx.core.errors import is_none
from gradtx.core.select import select
from gradtx.core.types import Array, Selector

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
        return f"contrib.MuonDimensionNumbers({self.reduction_axis}, {self.output_axis})"


MATRIX = MuonDimensionNumbers()


def axes_of(name: str, what: str, chosen: Selector | None, tree: Any) -> list[MuonDimensionNumbers | None]:
    """The dimension numbers of every leaf of a tree (None is a leaf); None for what is no matrix."""
    if chosen is None:
        leaves = jax.tree.leaves(tree, is_leaf=is_none)
        return [MATRIX if getattr(leaf, "ndim", 0) == 2 else None for leaf in leaves]
    return [_read(name, what, label) for label in select(name, what, chosen, tree, default=None)]


def _read(name: str, what: str, label: Any) -> MuonDimensionNumbers | None:
    if label is None or isinstance(label, bool):
        return MATRIX if label else None
    if not isinstance(label, MuonDimensionNumbers):
        raise TypeError(f"{name}: {what} must give MuonDimensionNumbers, True or None, got {label!r}")
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
    leaves = jax.tree.leaves(tree, is_leaf=is_none)
    for i, (leaf, axes) in enumerate(zip(leaves, found, strict=True)):
        if leaf is None:
            continue
        if axes is None:
            raise ValueError(
                f"{name}: {errors.path_of(tree, i)} has shape {leaf.shape} and is no matrix; give it to "
                f"another optimizer, as muon does, or say in {what} which of its axes make one"
            )
        rows_and_columns(f"{name}: {errors.path_of(tree, i)}", leaf.shape, axes)
    return [axes or MATRIX for axes in found]


def rows_and_columns(name: str, shape: tuple[int, ...], axes: MuonDimensionNumbers) -> Any:
    """The axes of the rows and of the columns of a tensor, as tuples of numbers from 0."""
    if len(shape) < 2:
        raise ValueError(f"{name}: a tensor of shape {shape} is no matrix; give it to another optimizer")
    sides = (axes.reduction_axis, axes.output_axis)
    pair = [
        tuple(axis % len(shape) for axis in ((side,) if isinstance(side, int) else side)) for side in sides
    ]
    if set(pair[0]) & set(pair[1]):
        raise ValueError(f"{name}: {axes} names an axis of a tensor of shape {shape} twice")
    return pair


def fans(name: str, shape: tuple[int, ...], axes: MuonDimensionNumbers) -> tuple[int, int]:
    """How many rows and how many columns."""
    rows, columns = rows_and_columns(name, shape, axes)
    return math.prod(shape[axis] for axis in rows), math.prod(shape[axis] for axis in columns)


def on_matrices(name: str, f: Callable[[Array], Array], x: Array, axes: MuonDimensionNumbers) -> Array:
    """f of a tensor as a stack of matrices, with shape (how many, rows, columns), and back again."""
    rows, columns = rows_and_columns(name, x.shape, axes)
    others = tuple(axis for axis in range(x.ndim) if axis not in rows + columns)
    order = others + rows + columns
    count = math.prod(x.shape[axis] for axis in others)

    def call(x: Array) -> Array:
        turned = x.transpose(order)
        out = f(turned.reshape(count, *fans(name, x.shape, axes))).reshape(turned.shape)
        return out.transpose(sorted(range(x.ndim), key=order.__getitem__))

    return _gathered(call, x)


def _gathered(f: Callable[[Array], Array], x: Array) -> Array:
    """f of the whole tensor on every device, where it is sharded explicitly, and its result sharded alike."""
    sharding = jax.typeof(x).sharding
    if all(entry is None for entry in sharding.spec):
        return f(x)
    whole = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.sharding.reshard(f(jax.sharding.reshard(x, whole)), sharding)

"""Which axes of a tensor make matrices, and how those are cut: one vocabulary for all matrix optimizers."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.errors import is_none
from gradtx.arrays.meshes import sharded_like, whole
from gradtx.arrays.select import select
from gradtx.arrays.types import Array, Selector
from gradtx.values.config import in_configs

Axes = int | Sequence[int]
Split = int | Sequence[int] | None


@in_configs
@dataclass(frozen=True, repr=False)
class MatrixAxes:
    """The axes of a tensor that make matrices, and how these are cut; all other axes count matrices.

    Args:
        reduction_axis: the axis, or axes, of the rows, which x·W sums over; negative ones count from the end.
        output_axis: those of the columns.
        reduction_split: what the rows are cut into: so many equal parts, or parts of these sizes. Each part
            is a matrix by itself. Default: one.
        output_split: the same of the columns.
        block_size: the longest side of a matrix: longer ones are cut into blocks of this size, of which the
            last has what remains. Default: no limit.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> convolution = gradtx.MatrixAxes((0, 1, 2), 3)  # height, width and channels in; channels out
        >>> per_head = gradtx.MatrixAxes(0, 1, output_split=4)  # a kernel (features, 4 heads of some size)
        >>> fused = gradtx.MatrixAxes(0, 1, output_split=(8, 2, 2))  # queries, fewer keys and values
        >>> tx = gradtx.scale_by_muon(
        ...     weight_dimension_numbers={"conv": convolution, "heads": per_head, "qkv": fused}
        ... )
        >>> params = {"conv": jnp.ones((3, 3, 4, 8)), "heads": jnp.ones((8, 8)), "qkv": jnp.ones((8, 12))}
        >>> updates, _ = tx.update(params, tx.init(params), params)
    """

    reduction_axis: Axes = 0
    output_axis: Axes = 1
    reduction_split: Split = None
    output_split: Split = None
    block_size: int | None = None
    namespace: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self)):
            given = getattr(self, name)
            if given is not None and not isinstance(given, int):
                object.__setattr__(self, name, tuple(given))
        if self.block_size is not None and self.block_size < 1:
            raise ValueError(f"MatrixAxes: block_size must be at least 1, got {self.block_size}")

    def __repr__(self) -> str:
        splits = {name: getattr(self, name) for name in ("reduction_split", "output_split", "block_size")}
        shown = [f"{self.reduction_axis}", f"{self.output_axis}"]
        shown += [f"{name}={split}" for name, split in splits.items() if split is not None]
        return f"{self.namespace}{type(self).__name__}({', '.join(shown)})"


@in_configs
@dataclass(frozen=True, repr=False)
class MuonDimensionNumbers(MatrixAxes):
    """The axes of a tensor that make a matrix; all other axes count matrices: Optax's name of `MatrixAxes`.

    Args:
        reduction_axis: the axis, or axes, of the rows, which x·W sums over; negative ones count from the end.
        output_axis: those of the columns.
    """

    reduction_split: Split = field(default=None, init=False)
    output_split: Split = field(default=None, init=False)
    block_size: int | None = field(default=None, init=False)
    namespace = "contrib."


MATRIX = MatrixAxes()


def in_blocks(axes: Any, size: int | None) -> Any:
    """The axes of a tensor, whose matrices are cut into blocks of this size, if it says of no other."""
    if size is None or not isinstance(axes, MatrixAxes) or axes.block_size is not None:
        return axes
    return MatrixAxes(
        axes.reduction_axis, axes.output_axis, axes.reduction_split, axes.output_split, block_size=size
    )


def axes_of(name: str, what: str, chosen: Selector | None, tree: Any) -> list[MatrixAxes | None]:
    """The axes of every leaf of a tree (None is a leaf); None for what is no matrix."""
    if chosen is None:
        leaves = jax.tree.leaves(tree, is_leaf=is_none)
        return [MATRIX if getattr(leaf, "ndim", 0) == 2 else None for leaf in leaves]
    chosen = {chosen: True} if isinstance(chosen, str) else chosen
    return [_read(name, what, label) for label in select(name, what, chosen, tree, default=None)]


def _read(name: str, what: str, label: Any) -> MatrixAxes | None:
    if label is None or isinstance(label, bool):
        return MATRIX if label else None
    if not isinstance(label, MatrixAxes):
        raise TypeError(f"{name}: {what} must give dimension numbers, True or None, got {label!r}")
    return label


def matrix_axes(name: str, what: str, chosen: Selector | None, tree: Any) -> list[MatrixAxes]:
    """The axes of every leaf of a tree of matrices; any, where the leaf is None."""
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


def check_axes(name: str, tree: Any, found: Sequence[MatrixAxes | None], *, cut: bool = True) -> None:
    """Raise, with the path, where axes do not fit the leaf of a tree, or cut what may not be cut."""
    for (path, leaf), axes in zip(errors.paths(tree).items(), found, strict=True):
        if leaf is None or axes is None:
            continue
        parts = sizes(f"{name}: {path}", leaf.shape, axes)
        if not cut and (len(parts) > 1 or parts[0][1:] != fans(name, leaf.shape, axes)):
            raise ValueError(f"{name}: {path}: {axes} cuts matrices, which {name} keeps whole")


def rows_and_columns(name: str, shape: tuple[int, ...], axes: MatrixAxes) -> Any:
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


def fans(name: str, shape: tuple[int, ...], axes: MatrixAxes) -> tuple[int, int]:
    """How many rows and how many columns, before they are cut."""
    rows, columns = rows_and_columns(name, shape, axes)
    return math.prod(shape[axis] for axis in rows), math.prod(shape[axis] for axis in columns)


def sizes(name: str, shape: tuple[int, ...], axes: MatrixAxes) -> list[tuple[int, int, int]]:
    """Of each stack of matrices that `pieces` makes of a tensor: how many, and their rows and columns.

    Raises:
        ValueError: where the axes do not fit the shape; the message begins with the name.
    """
    count = math.prod(shape) // max(math.prod(fans(name, shape, axes)), 1)
    bands, strips = _runs(f"{name}: {axes} of a tensor of shape {shape}", fans(name, shape, axes), axes)
    return [(count * m * n, height, width) for m, height in bands for n, width in strips]


Runs = list[tuple[int, int]]
"""What an axis is cut into: runs of so many parts of one size, one after the other."""


def _runs(where: str, fans: tuple[int, int], axes: MatrixAxes) -> tuple[Runs, Runs]:
    """What the rows and the columns are cut into."""
    rows, columns = (
        _cut_into(where, side, size, split, axes.block_size)
        for side, size, split in zip(
            ("rows", "columns"), fans, (axes.reduction_split, axes.output_split), strict=True
        )
    )
    return rows, columns


def _cut_into(where: str, side: str, size: int, split: Split, block: int | None) -> Runs:
    widths = [size]
    if split is not None:
        widths = [size // max(split, 1)] * split if isinstance(split, int) else list(split)
        if not widths or sum(widths) != size or min(widths) < 1:
            parts = f"{split} equal parts" if isinstance(split, int) else f"parts of {split}"
            raise ValueError(f"{where}: {size} {side} cannot be cut into {parts}")
    if block is not None:
        widths = [min(block, width - at) for width in widths for at in range(0, max(width, 1), block)]
    return [(len(list(same)), width) for width, same in itertools.groupby(widths)]


def on_matrices(name: str, f: Callable[[Array], Array], x: Array, axes: MatrixAxes) -> Array:
    """f of a tensor as stacks of matrices, with shape (how many, rows, columns), and back again."""
    parts = list(map(f, pieces(name, whole(x), axes)))
    return sharded_like(x, joined(name, parts, x.shape, axes))


def pieces(name: str, x: Array, axes: MatrixAxes) -> list[Array]:
    """A tensor as stacks of matrices of one shape, (how many, rows, columns); see `sizes`."""
    stack = as_matrices(name, x, axes)
    rows, columns = stack.shape[-2:]
    stack = stack.reshape(math.prod(stack.shape[:-2]), rows, columns)
    heights, widths = _runs(name, (rows, columns), axes)
    bands = _cut(stack, heights)
    if widths == [(1, columns)]:
        return bands
    return [piece.mT for band in bands for piece in _cut(band.mT, widths)]


def joined(name: str, stacks: Sequence[Array], shape: tuple[int, ...], axes: MatrixAxes) -> Array:
    """The tensor of this shape of which `pieces` made the stacks."""
    rows, columns = fans(name, shape, axes)
    heights, widths = _runs(name, (rows, columns), axes)
    bands = list(stacks)
    if widths != [(1, columns)]:
        turned, runs = [stack.mT for stack in stacks], len(widths)
        bands = [_pasted(turned[i : i + runs], widths).mT for i in range(0, len(turned), runs)]
    return from_matrices(name, _pasted(bands, heights), shape, axes)


def _cut(stack: Array, runs: Runs) -> list[Array]:
    """Stacks of bands of rows, one for each run."""
    ends = list(itertools.accumulate(count * height for count, height in runs))
    bands = [stack] if len(runs) == 1 else jnp.split(stack, ends[:-1], axis=-2)
    return [
        band if count == 1 else band.reshape(band.shape[0] * count, height, band.shape[-1])
        for band, (count, height) in zip(bands, runs, strict=True)
    ]


def _pasted(bands: Sequence[Array], runs: Runs) -> Array:
    uncut = [
        band if count == 1 else band.reshape(band.shape[0] // count, count * height, band.shape[-1])
        for band, (count, height) in zip(bands, runs, strict=True)
    ]
    return uncut[0] if len(uncut) == 1 else jnp.concatenate(uncut, axis=-2)


def as_matrices(name: str, x: Array, axes: MatrixAxes) -> Array:
    """A tensor as uncut matrices on its last two axes; those that count matrices come first."""
    rows, columns = rows_and_columns(name, x.shape, axes)
    several = [axis for side in (rows, columns) if len(side) > 1 for axis in side]
    turned = whole(x, several).transpose(_order(name, x.shape, axes))
    return turned.reshape(*turned.shape[: x.ndim - len(rows + columns)], *fans(name, x.shape, axes))


def from_matrices(name: str, stack: Array, shape: tuple[int, ...], axes: MatrixAxes) -> Array:
    """The tensor of this shape that `as_matrices` made the stack of."""
    order = _order(name, shape, axes)
    turned = stack.reshape([shape[axis] for axis in order])
    return turned.transpose(sorted(range(len(shape)), key=order.__getitem__))


def _order(name: str, shape: tuple[int, ...], axes: MatrixAxes) -> tuple[int, ...]:
    rows, columns = rows_and_columns(name, shape, axes)
    return tuple(axis for axis in range(len(shape)) if axis not in rows + columns) + rows + columns

"""What `explain` returns: tables of stages, groups and bytes, for a terminal and for a notebook."""

import html
import math
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.select import leaf_paths
from gradtx.arrays.types import Params, Scalar, State
from gradtx.core.transformation import GradientTransformation, check_transformation
from gradtx.explaining.walk import ShareRow, StageRow, walk
from gradtx.state.accounting import Bytes, bytes_of
from gradtx.state.hyperparams import hyperparams

LINE = 96
"""How long a line of what is wrapped may be."""
SHOWN = 4
"""How many paths of a group are named."""


@dataclass(frozen=True)
class Group:
    """Params that an optimizer treats alike.

    Attributes:
        name: their labels, or "all".
        differs: what is particular about them, ``weight_decay=0.0``.
        paths: their paths.
        count: how many numbers they have.
        state_bytes: the bytes of state that belong to them.
    """

    name: str
    differs: str
    paths: tuple[str, ...]
    count: int
    state_bytes: int


@dataclass(frozen=True)
class Explanation:
    """What an optimizer does; it prints as tables, also in a notebook.

    Attributes:
        name: of the optimizer.
        stages: one row for each stage, in order, those within wrappers after the wrapper.
        numbers: the numbers in force at the next update, as `hyperparams` names them; empty without params.
        groups: the params by how they are treated; empty without params.
        bytes: the bytes of the state; None without params.
    """

    name: str
    stages: tuple[StageRow, ...]
    numbers: Mapping[str, Scalar]
    groups: tuple[Group, ...]
    bytes: Bytes | None
    paths: Mapping[int, str]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        own = sum("." not in row.number for row in self.stages)
        yield f"{self.name}: {own} stage{'s' * (own != 1)}"
        for row in self.stages:
            pad = "  " * row.number.count(".")
            name = f"{row.name} [{row.label}]" if row.label else row.name
            yield ""
            yield from textwrap.wrap(
                f"{pad}{row.number}. {name}: {row.docstring.summary}", LINE, subsequent_indent=f"{pad}     "
            )
            yield from (f"{pad}     {line}" for line in row.docstring.formula.splitlines())
            for what, text in self._told(row):
                hanging = f"{pad}          "
                first = f"{pad}   {what:5}  "
                yield from textwrap.wrap(text, LINE, initial_indent=first, subsequent_indent=hanging)
        if self.numbers:
            yield "\nin force at the next update"
            yield from _columns([(name, _number(x)) for name, x in self.numbers.items()])
        for title, rows in self._tables():
            yield ""
            yield from _columns([title, *rows])

    def _told(self, row: StageRow) -> Iterator[tuple[str, str]]:
        if row.numbers:
            yield "with", ", ".join(f"{name}={text}" for name, text in row.numbers.items())
        if row.keeps:
            yield "keeps", ", ".join(row.keeps)
        if row.needs:
            yield "needs", ", ".join(row.needs)
        if row.sees is not None and len(row.sees) < len(self.paths):
            seen = [path for leaf, path in self.paths.items() if leaf in row.sees]
            yield "sees", f"{len(seen)} of {len(self.paths)} params: {_listed(seen)}"

    def _tables(self) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
        """Those that there are with params: a head, and rows."""
        if self.bytes is None:
            return
        rows = [
            (
                group.name,
                group.differs,
                f"{group.count:,}",
                _share(group.state_bytes, group.count),
                _listed(group.paths),
            )
            for group in self.groups
        ]
        yield ("group", "differs", "numbers", "bytes each", "params"), rows
        slots = [
            (slot, f"{size:,}", _share(size, self.bytes.count)) for slot, size in self.bytes.by_slot.items()
        ]
        whole = ("state", f"{self.bytes.total:,}", _share(self.bytes.total, self.bytes.count))
        yield ("state", "bytes", "per parameter"), [*slots, whole]

    def _repr_html_(self) -> str:
        """The same, as a notebook shows it."""
        head = ("", "stage", "formula", "numbers", "keeps", "needs")
        rows = [
            (
                row.number,
                f"{row.name} [{row.label}]" if row.label else row.name,
                f"{row.docstring.summary}\n{row.docstring.formula}".strip(),
                "\n".join(f"{name}={text}" for name, text in row.numbers.items()),
                ", ".join(row.keeps),
                ", ".join(row.needs),
            )
            for row in self.stages
        ]
        tables: list[tuple[Sequence[str], Sequence[Sequence[str]]]] = [(head, rows)]
        if self.numbers:
            force = [(name, _number(x)) for name, x in self.numbers.items()]
            tables.append((("in force", "next update"), force))
        tables += [(title, found) for title, found in self._tables()]
        return f"<b>{html.escape(self.name)}</b>" + "".join(_html(title, found) for title, found in tables)


def explain(
    tx: GradientTransformation, params: Params | None = None, state: State | None = None
) -> Explanation:
    """What an optimizer does: its stages in order, with their formulas and numbers.

    Nothing is allocated: of params and states only shapes are looked at, and counts.

    Args:
        tx: the optimizer.
        params: the params, or their shapes as `jax.ShapeDtypeStruct`. With them there is a table of groups,
            of params that are treated alike, and one of the bytes of the state.
        state: its state, for the numbers in force at the next update. Default: at the first.

    Returns:
        Tables that print in a terminal and in a notebook. `stages`, `groups` and `bytes` are for programs.

    Raises:
        TypeError: if `tx` is no transformation.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.sgd(gradtx.linear_schedule(0.1, 0.0, 10), momentum=0.9)
        >>> print(gradtx.explain(tx, {"w": jnp.ones((4, 4)), "b": jnp.ones(4)}))
        sgd: 2 stages
        <BLANKLINE>
        1. trace: Classical momentum: the decaying sum of past updates.
             vₜ = gₜ + decay·vₜ₋₁; the update is vₜ, or gₜ + decay·vₜ with Nesterov's look-ahead.
           with   decay=0.9
           keeps  trace
        <BLANKLINE>
        2. scale_by_learning_rate: Multiply updates by −learning_rate: the last stage of an optimizer
             that descends.
           with   learning_rate=0.1 by linear_schedule(init_value=0.1, end_value=0.0, transi…,
                  flip_sign=True
           keeps  count
        <BLANKLINE>
        in force at the next update
           decay          0.9
           learning_rate  0.1
        <BLANKLINE>
           group  differs  numbers  bytes each  params
           all                  20        4.00  b, w
        <BLANKLINE>
           state                         bytes  per parameter
           trace/trace                      80           4.00
           scale_by_learning_rate/count      4           0.20
           state                            84           4.20
    """
    check_transformation("explain", "tx", tx)
    if params is None:
        stages = [row for row in walk(tx, state, None) if isinstance(row, StageRow)]
        return Explanation(tx.name, tuple(stages), {}, (), None, {})
    shapes = jax.tree.map(_shape, params)
    begun = jax.tree.map(_begun, tx.init(shapes)) if state is None else state
    leaves = jax.tree.leaves(shapes)
    paths = dict(zip(map(id, leaves), leaf_paths(shapes, is_leaf=None), strict=True))
    rows, size = list(walk(tx, begun, shapes)), bytes_of(tx, shapes)
    return Explanation(
        tx.name,
        tuple(row for row in rows if isinstance(row, StageRow)),
        hyperparams(tx, begun).next,
        tuple(_groups([row for row in rows if isinstance(row, ShareRow)], leaves, paths, size)),
        size,
        paths,
    )


def _groups(
    shares: Sequence[ShareRow], leaves: Sequence[Any], paths: Mapping[int, str], size: Bytes
) -> Iterator[Group]:
    """The params by the shares that they are in."""
    alike: dict[tuple[int, ...], list[Any]] = {}
    for leaf in leaves:
        mine = tuple(i for i, share in enumerate(shares) if id(leaf) in share.sees)
        alike.setdefault(mine, []).append(leaf)
    for mine, found in alike.items():
        own = [paths[id(leaf)] for leaf in found]
        labels = [shares[i].label for i in mine if shares[i].label not in ("True", "False")]
        differs = [shares[i].differs for i in mine if shares[i].differs]
        yield Group(
            " / ".join(labels)
            or ("masked out" if differs else "all others" if alike.keys() != {mine} else "all"),
            ", ".join(differs),
            tuple(own),
            sum(math.prod(leaf.shape) for leaf in found),
            sum(size.by_path.get(path, 0) for path in own),
        )


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    x = x if hasattr(x, "dtype") else jnp.asarray(x)
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _begun(x: jax.ShapeDtypeStruct) -> Any:
    """A leaf of a state before the first update, of which counts are looked at."""
    return np.zeros((), x.dtype) if x.shape == () and jnp.issubdtype(x.dtype, jnp.integer) else x


def _number(x: Any) -> str:
    return (
        f"{float(x):.6g}" if np.ndim(x) == 0 and not isinstance(x, jax.ShapeDtypeStruct) else "in the state"
    )


def _share(size: int, count: int) -> str:
    return f"{size / count:.2f}" if count else ""


def _listed(paths: Sequence[str]) -> str:
    left = f", and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + left


def _width(text: str) -> int:
    return sum(not unicodedata.combining(letter) for letter in text)


def _columns(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Rows as lines, with columns below each other; numbers to the right."""
    columns = list(zip(*rows, strict=True))
    padded = [
        _padded(column, i > 0 and all(map(NUMBER.match, column[1:]))) for i, column in enumerate(columns)
    ]
    yield from (("   " + "  ".join(row)).rstrip() for row in zip(*padded, strict=True))


NUMBER = re.compile(r"-?[\d.,]|$")


def _padded(column: Sequence[str], right: bool) -> list[str]:
    width = max(map(_width, column))
    spaces = [" " * (width - _width(cell)) for cell in column]
    pairs = zip(column, spaces, strict=True)
    return [space + cell if right else cell + space for cell, space in pairs]


def _html(title: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        style = "text-align:left;vertical-align:top;white-space:pre-line"
        return "".join(f'<{tag} style="{style}">{html.escape(cell)}</{tag}>' for cell in row)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', title)}</tr></thead><tbody>{body}</tbody></table>"

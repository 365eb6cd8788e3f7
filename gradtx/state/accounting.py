"""The bytes of a state: by slot and by parameter."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.select import leaf_paths
from gradtx.arrays.types import Params
from gradtx.core.transformation import GradientTransformation, check_transformation
from gradtx.state.state_dict import located

ROWS = 40
"""How many parameters a table shows."""


@dataclass(frozen=True)
class Bytes:
    """How many bytes a state takes; it prints as a table.

    Attributes:
        entries: bytes by slot and path, ``{("scale_by_adam/mu", "dense/kernel"): 1024}``. What belongs to no
            parameter, such as a count, has the path "".
        params: bytes of each parameter, by path.
        count: how many numbers the parameters have.
    """

    entries: Mapping[tuple[str, str], int]
    params: Mapping[str, int]
    count: int

    @property
    def total(self) -> int:
        """All bytes of the state."""
        return sum(self.entries.values())

    @property
    def per_parameter(self) -> float:
        """The bytes of the state for each number of the parameters; NaN if they have none."""
        return self._shared(self.total)

    @cached_property
    def by_slot(self) -> dict[str, int]:
        """Bytes of the state by slot, ``scale_by_adam/mu``."""
        return self._summed(0)

    @cached_property
    def by_path(self) -> dict[str, int]:
        """Bytes of the state by the path of the parameter."""
        return self._summed(1)

    def _summed(self, key: int) -> dict[str, int]:
        found: Counter[str] = Counter()
        for names, size in self.entries.items():
            found[names[key]] += size
        return dict(found)

    def _shared(self, size: int) -> float:
        return size / self.count if self.count else math.nan

    def __str__(self) -> str:
        paths = sorted(self.by_path.items(), key=lambda item: -item[1])
        largest = [(path or "(of none)", size) for path, size in paths[:ROWS]]
        if left := paths[ROWS:]:
            largest.append((f"({len(left)} more)", sum(size for _, size in left)))
        whole = [("state", self.total), ("params", sum(self.params.values()))]
        tables = {"slot": [*self.by_slot.items(), *whole], **({"parameter": largest} if largest else {})}
        width = max(len(name) for title, rows in tables.items() for name in (title, *dict(rows)))
        return "\n\n".join(
            "\n".join(
                [
                    f"{title:{width}} {'bytes':>16} {'per parameter':>14}",
                    *(f"{name:{width}} {size:16,} {self._shared(size):14.2f}" for name, size in rows),
                ]
            )
            for title, rows in tables.items()
        )


def bytes_of(tx: GradientTransformation, params: Params) -> Bytes:
    """The bytes that the state of a transformation takes, by slot and by parameter.

    Nothing is allocated: `init` is asked for shapes. On a mesh these are the bytes of all devices together,
    what is replicated counted once.

    Args:
        tx: the transformation.
        params: the params, or their shapes as `jax.ShapeDtypeStruct`.

    Returns:
        A table to print; its `per_parameter` is the number that papers give.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> params = {"w": jax.ShapeDtypeStruct((1024, 1024), jnp.float32)}
        >>> formats = {"mu": gradtx.formats.companded(), "nu": gradtx.formats.square_root()}
        >>> print(gradtx.bytes_of(gradtx.stored(gradtx.adamw(1e-3), formats), params))
        slot                           bytes  per parameter
        scale_by_adam/count                4           0.00
        scale_by_adam/mu           1,179,648           1.12
        scale_by_adam/nu           1,179,648           1.12
        state                      2,359,300           2.25
        params                     4,194,304           4.00
        <BLANKLINE>
        parameter                      bytes  per parameter
        w                          2,359,296           2.25
        (of none)                          4           0.00
    """
    check_transformation("bytes_of", "tx", tx)
    shapes = jax.tree.map(_shape, params)
    leaves, state = jax.tree.leaves(shapes), tx.init(shapes)
    sizes = dict(zip(leaf_paths(shapes, is_leaf=None), map(_bytes, leaves), strict=True))
    entries: Counter[tuple[str, str]] = Counter()
    for leaf, x in zip(located(tx, state), jax.tree.leaves(state), strict=True):
        entries[leaf.part, leaf.owner(sizes)] += _bytes(x)
    return Bytes(dict(entries), sizes, sum(math.prod(x.shape) for x in leaves))


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    x = x if hasattr(x, "dtype") else jnp.asarray(x)
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _bytes(x: Any) -> int:
    return math.prod(x.shape) * x.dtype.itemsize

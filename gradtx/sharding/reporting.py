"""What a sharded state takes on each device, and what stays whole."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding

from gradtx.arrays.types import Params, PyTree
from gradtx.core.transformation import GradientTransformation, check_transformation
from gradtx.sharding.placing import shape_of
from gradtx.state.state_dict import located

ROWS = 40
"""How many whole arrays a report names."""


class Placed(NamedTuple):
    """An array of a state: its slot and name, its bytes in all and on each device, and why it is whole; ""
    if it is cut."""

    slot: str
    name: str
    size: int
    on_each: int
    why_whole: str


@dataclass(frozen=True)
class Report:
    """Where the bytes of a state are; it prints as a table.

    Attributes:
        arrays: every array of the state.
        devices: how many devices the mesh has.
    """

    arrays: Sequence[Placed]
    devices: int

    @cached_property
    def total(self) -> int:
        """All bytes of the state, what is on several devices counted once."""
        return sum(x.size for x in self.arrays)

    @cached_property
    def per_device(self) -> int:
        """The bytes on each device."""
        return sum(x.on_each for x in self.arrays)

    @cached_property
    def whole(self) -> list[Placed]:
        """What every device has all of."""
        return [x for x in self.arrays if x.why_whole]

    def __str__(self) -> str:
        slots = {x.slot: [0, 0] for x in self.arrays}
        for x in self.arrays:
            slots[x.slot][0] += x.size
            slots[x.slot][1] += x.on_each
        rows = [*((slot, *sizes) for slot, sizes in slots.items()), ("state", self.total, self.per_device)]
        width = max(len(row[0]) for row in rows)
        lines = [f"{'slot':{width}} {'bytes':>16} {'on each of ' + str(self.devices):>16}"]
        lines += [f"{slot:{width}} {size:16,} {on_each:16,}" for slot, size, on_each in rows]
        shown = sorted(self.whole, key=lambda x: -x.size)
        if shown:
            lines += ["", "whole on every device:"]
            lines += [f"{x.name}: {x.size:,} bytes, {x.why_whole}" for x in shown[:ROWS]]
        if left := shown[ROWS:]:
            lines.append(f"and {len(left)} more: {sum(x.size for x in left):,} bytes")
        return "\n".join(lines)


def report(tx: GradientTransformation, params: Params, shardings: PyTree) -> Report:
    """What a state takes on each device under these shardings, and what stays whole there.

    Nothing is allocated, so it is for meshes of any size, `jax.sharding.AbstractMesh` among them.

    Args:
        tx: the transformation.
        params: the params, or their shapes.
        shardings: from `of_state`.

    Returns:
        A table to print; its `per_device` is what to plan with.

    Raises:
        ValueError: for the shardings of another state.
    """
    check_transformation("sharding.report", "tx", tx)
    state = jax.eval_shape(tx.init, jax.tree.map(shape_of, params))
    leaves, placed = jax.tree.leaves(state), jax.tree.leaves(shardings)
    if len(leaves) != len(placed):
        raise ValueError(
            f"sharding.report: a state of {tx.name} has {len(leaves)} arrays, and there are {len(placed)} "
            "shardings; make them by gradtx.sharding.of_state(tx, params, mesh, axis)"
        )
    arrays = [
        _placed(leaf.part, leaf.name, x, sharding)
        for leaf, x, sharding in zip(located(tx, state), leaves, placed, strict=True)
    ]
    return Report(arrays, math.prod(placed[0].mesh.shape.values()) if placed else 1)


def _placed(slot: str, name: str, x: Any, sharding: NamedSharding) -> Placed:
    item = x.dtype.itemsize
    size, on_each = math.prod(x.shape) * item, math.prod(sharding.shard_shape(x.shape)) * item
    sizes = Counter(sharding.mesh.shape.values())
    if on_each < size or max(sizes, default=1) == 1:
        why = ""
    elif math.prod(x.shape) == 1:
        why = "a number"
    elif not any(length % n == 0 for length in x.shape for n in sizes if n > 1):
        why = f"no dimension of {x.shape} is a multiple of {' or '.join(map(str, sorted(sizes)))}"
    else:
        why = f"of shape {x.shape}: too small, or so chosen"
    return Placed(slot, name, size, on_each, why)

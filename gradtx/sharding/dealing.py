"""Which device computes which matrices, so that each has as much to do."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

Shape: TypeAlias = tuple[int, ...]
Turns: TypeAlias = tuple[tuple[Shape, tuple[int, ...]], ...]


def fair_turns(shapes: Mapping[Shape, int], devices: int) -> Turns:
    """For each shape the devices in the order in which they take what is left over of its matrices.

    Those with the least to do come first, and the costliest shape is dealt before the others. A matrix
    counts as rows × columns × the lesser of them, which its products cost.

    Args:
        shapes: how many matrices there are of each shape. One that is alone in its shape is not shared out.
        devices: among how many.
    """
    cost = {shape: math.prod(shape) * min(shape[-2:], default=1) for shape in shapes}
    loads, turns = [0] * devices, []
    for shape, count in sorted(shapes.items(), key=lambda item: (-cost[item[0]], item[0])):
        if left := count % devices if count > 1 else 0:
            order = sorted(range(devices), key=loads.__getitem__)
            turns.append((shape, tuple(order)))
            for device in order[:left]:
                loads[device] += cost[shape]
    return tuple(turns)


@dataclass(frozen=True)
class Deal:
    """Which device computes which of so many matrices of one shape: as many each, and one more for some.

    Args:
        count: how many there are.
        turns: the devices, those that get one more first.
    """

    count: int
    turns: Sequence[int]

    @cached_property
    def each(self) -> int:
        """How many every device has."""
        return self.count // len(self.turns)

    @cached_property
    def owners(self) -> Sequence[int]:
        """The devices that have one more."""
        return self.turns[: self.count % len(self.turns)]

    @cached_property
    def places(self) -> int:
        """How many the devices with the most have."""
        return self.each + (len(self.owners) > 0)

    @cached_property
    def is_few(self) -> bool:
        """Whether most places are empty."""
        return self.places * len(self.turns) > 2 * self.count

    @cached_property
    def rows(self) -> list[list[int]]:
        """The matrices of each device; the first in a place that is empty."""
        extra = {device: self.each * len(self.turns) + i for i, device in enumerate(self.owners)}
        own = (range(device * self.each, (device + 1) * self.each) for device in range(len(self.turns)))
        return [[*some, *([extra.get(device, 0)] if self.owners else [])] for device, some in enumerate(own)]

    @cached_property
    def found_at(self) -> list[int]:
        """Where each matrix is, the places of all devices being counted through."""
        evenly = [device * self.places + i for device in range(len(self.turns)) for i in range(self.each)]
        return evenly + [device * self.places + self.each for device in self.owners]

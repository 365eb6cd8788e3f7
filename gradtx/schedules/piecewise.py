"""Schedules given by values at boundaries."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise
from operator import mul
from typing import Any

from gradtx.arrays.types import Array, Scalar
from gradtx.schedules.arithmetic import Weight, half_cosine, mix, remaining, straight
from gradtx.schedules.constant import constant_schedule
from gradtx.schedules.join import joined
from gradtx.values.domains import Number, Schedule, Static
from gradtx.values.parts import is_number
from gradtx.values.schedule import schedule

WEIGHTS: dict[str, Weight] = {"linear": straight, "cosine": half_cosine}


@schedule
def piecewise_constant_schedule(
    init_value: Number, boundaries_and_scales: Mapping[int, Any] | None = None
) -> Schedule:
    """A value that is multiplied by a factor at each boundary, and constant between.

    value(count) = init_value · the product of the scales of all boundaries ≤ count. After the last
    boundary it is constant.

    Args:
        init_value: the value before the first boundary.
        boundaries_and_scales: ``{boundary: scale}``, in any order; the scales are at least 0. The
            scales are numbers that may be traced, the boundaries are structure. Default: none.

    Example:
        >>> import gradtx
        >>> drops = gradtx.piecewise_constant_schedule(1.0, {100: 0.5, 200: 0.5})
        >>> [float(drops(count)) for count in (99, 100, 200)]
        [1.0, 0.5, 0.25]
    """
    boundaries, levels = _levels("piecewise_constant_schedule", init_value, boundaries_and_scales)
    return joined([constant_schedule(level) for level in levels], boundaries)


@schedule
def piecewise_interpolate_schedule(
    interpolate_type: Static[str],
    init_value: Number,
    boundaries_and_scales: Mapping[int, Any] | None = None,
) -> Schedule:
    """A value that reaches a multiple of itself at each boundary, and moves smoothly between.

    value(b) = init_value · the product of the scales of all boundaries ≤ b, at count 0 and at each
    boundary b; between two of them it is their interpolation. After the last boundary it is constant.

    Args:
        interpolate_type: ``"linear"``, a straight line, or ``"cosine"``, half a cosine wave.
        init_value: the value at count 0.
        boundaries_and_scales: ``{boundary: scale}``, in any order; the scales are at least 0. The
            scales are numbers that may be traced, the boundaries are structure. Default: none.

    Example:
        >>> import gradtx
        >>> path = gradtx.piecewise_interpolate_schedule("linear", 1.0, {10: 3.0, 20: 0.5})
        >>> [float(path(count)) for count in (0, 5, 10, 15, 20)]
        [1.0, 2.0, 3.0, 2.25, 1.5]
    """
    name = "piecewise_interpolate_schedule"
    if interpolate_type not in WEIGHTS:
        known = ", ".join(map(repr, WEIGHTS))
        raise ValueError(f"{name}: interpolate_type must be one of {known}, got {interpolate_type!r}")
    boundaries, levels = _levels(name, init_value, boundaries_and_scales)
    return through(levels, boundaries, WEIGHTS[interpolate_type])


def _levels(name: str, init_value: Any, boundaries_and_scales: Mapping[int, Any] | None) -> Any:
    """The boundaries in order, and the values before the first and from each on."""
    pairs = sorted((boundaries_and_scales or {}).items(), key=lambda pair: pair[0])
    for boundary, scale in pairs:
        if is_number(scale) and not scale >= 0:
            raise ValueError(f"{name}: the scale at {boundary!r} must lie in [0, inf], got {scale!r}")
    scales = [scale for _, scale in pairs]
    return [boundary for boundary, _ in pairs], list(accumulate([1.0 * init_value, *scales], mul))


def through(levels: Sequence[Any], boundaries: Sequence[Any], weight: Weight) -> Callable[[Any], Scalar]:
    """The first level at count 0, each other one at its boundary, and a way of this shape between two."""

    def way(start: Any, end: Any, steps: Any, count: Any) -> Array:
        return mix(start, end, weight(remaining(count, steps)))

    lengths = [after - before for before, after in pairwise([0, *boundaries])]
    ways = [
        partial(way, start, end, steps) for (start, end), steps in zip(pairwise(levels), lengths, strict=True)
    ]
    return joined([*ways, constant_schedule(levels[-1])], boundaries)

"""Schedules one after another."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax.numpy as jnp

from gradtx.arrays.types import Scalar
from gradtx.schedules.arithmetic import exact, since
from gradtx.values.counting import number_at
from gradtx.values.domains import Schedule
from gradtx.values.parts import is_number
from gradtx.values.schedule import schedule
from gradtx.values.value import Value


@schedule
def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """Schedules one after another, each counting from its own start.

    value(count) = sᵢ(count − bᵢ₋₁) from boundary bᵢ₋₁ up to bᵢ,
    where it is the next one's turn. The last one goes on for ever.

    Args:
        schedules: functions of the count, recorded or not; at least one. Each is called at every count,
            with 0 before its start.
        boundaries: the counts at which the second, third, … begin; none below the one before it.

    Raises:
        ValueError: unless there is one boundary fewer than schedules, and they do not decrease.

    Example:
        >>> import gradtx
        >>> up, down = gradtx.linear_schedule(0.0, 1.0, 10), gradtx.linear_schedule(1.0, 0.0, 40)
        >>> triangle = gradtx.join_schedules([up, down], [10])
        >>> [float(triangle(count)) for count in (0, 5, 10, 30, 50)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if not isinstance(schedules, list | tuple):
        raise TypeError(f"join_schedules: schedules must be a list or a tuple, got {schedules!r}")
    for i, part in enumerate(schedules):
        if hasattr(part, "factory") and not isinstance(part, Value):
            name = part.__name__
            raise TypeError(
                f"join_schedules: schedules[{i}] is the function {name}, not a schedule; call it: {name}(...)"
            )
        if not callable(part):
            raise TypeError(f"join_schedules: schedules[{i}] must be a function of the count, got {part!r}")
    if len(boundaries) != len(schedules) - 1:
        raise ValueError(
            f"join_schedules: {len(schedules)} schedules, {len(boundaries)} boundaries; "
            "there must be one boundary between each two schedules"
        )
    known = all(is_number(boundary) for boundary in boundaries)
    if known and any(after < before for before, after in pairwise(boundaries)):
        raise ValueError(f"join_schedules: boundaries must not decrease, got {boundaries!r}")
    return joined(schedules, boundaries)


def joined(schedules: Sequence[Schedule], boundaries: Sequence[Any]) -> Callable[[Any], Scalar]:
    """`join_schedules` for the bodies of other schedules: not recorded, not checked."""

    def value(count: Any) -> Scalar:
        current = number_at(schedules[0], count)
        for boundary, following in zip(boundaries, schedules[1:], strict=True):
            before = exact(count) < exact(boundary)
            current = jnp.where(before, current, number_at(following, since(count, boundary)))
        return current

    return value

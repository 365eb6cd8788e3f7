"""The constant schedule."""

from gradtx.values.domains import Number, Schedule
from gradtx.values.schedule import schedule


@schedule
def constant_schedule(value: Number) -> Schedule:
    """The same number at every count.

    value(count) = value. A transformation takes the number itself as well; this is for places that
    need a function, such as a part of `join_schedules`.

    Args:
        value: the number.
    """
    return lambda count: value

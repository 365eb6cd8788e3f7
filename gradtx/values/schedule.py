"""Schedules: values that are functions of the count of updates so far."""

from collections.abc import Callable
from typing import Any, ParamSpec

from jax.typing import ArrayLike

from gradtx.values.domains import Scalar
from gradtx.values.factory import register
from gradtx.values.value import Value

P = ParamSpec("P")


class Schedule(Value):
    """A recorded function of the count: ``linear_schedule(0.0, 1.0, 100)(50)`` is 0.5."""

    shown_as = "Schedule"

    def __call__(self, count: ArrayLike) -> Scalar:
        """The scheduled number for this count of updates so far (0 before the first)."""
        return self.factory.body(**self.numbers_at(count))(count)

    def validate(self) -> None:
        if not self.schedules:
            self.factory.body(**self.arguments)


def schedule(body: Callable[P, Callable[[Any], Any]]) -> Callable[P, Schedule]:
    """Make a factory of a schedule.

    The decorated function takes numbers and choices and returns a function of ``count``, the updates
    so far: an int or an integer scalar. Its values print, compare, pickle and map like any other.

    Example:
        >>> import gradtx
        >>> @gradtx.schedule
        ... def inverse_sqrt(init_value, warmup=100):
        ...     return lambda count: init_value * ((count + warmup) / warmup) ** -0.5
        >>> inverse_sqrt(0.1)(300)
        0.05
    """
    return register(body, Schedule)

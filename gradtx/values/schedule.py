"""Schedules: values that are functions of the count of updates so far."""

from collections.abc import Callable
from typing import Any, ParamSpec

from jax.typing import ArrayLike

from gradtx.values.domains import Scalar
from gradtx.values.factory import FACTORIES, register
from gradtx.values.parts import is_number
from gradtx.values.value import Value

P = ParamSpec("P")


class Schedule(Value):
    """A recorded function of the count: ``linear_schedule(0.0, 1.0, 100)(50)`` is 0.5."""

    shown_as = "Schedule"

    def __call__(self, count: ArrayLike) -> Scalar:
        """The scheduled number for this count of updates so far (0 before the first)."""
        return self.factory.body(**self.numbers_at(count))(count)

    def __mul__(self, other: object) -> "Schedule":
        """The product with a number or another schedule, a schedule too."""
        return _combined("product_schedule", "factors", self, other)

    def __rmul__(self, other: object) -> "Schedule":
        return _combined("product_schedule", "factors", other, self)

    def __add__(self, other: object) -> "Schedule":
        """The sum with a number or another schedule, a schedule too."""
        return _combined("sum_schedule", "terms", self, other)

    def __radd__(self, other: object) -> "Schedule":
        return _combined("sum_schedule", "terms", other, self)

    def __neg__(self) -> "Schedule":
        return -1 * self

    def __sub__(self, other: object) -> "Schedule":
        negative = -1 * other if isinstance(other, Schedule) else _negative(other)
        return NotImplemented if negative is NotImplemented else self + negative

    def __rsub__(self, other: object) -> "Schedule":
        return other + -self if _is_part(other) else NotImplemented

    def __truediv__(self, other: object) -> "Schedule":
        return self * (1 / other) if isinstance(other, int | float) else NotImplemented

    # Of an array times a schedule Python would ask the array first, which would make an array of it.
    __array_ufunc__ = None
    __array_priority__ = 1000

    def validate(self) -> None:
        if not self.schedules:
            self.factory.body(**self.arguments)


def _is_part(x: object) -> bool:
    return is_number(x) or callable(x) or hasattr(x, "shape")


def _negative(x: Any) -> Any:
    if callable(x):
        return FACTORIES["product_schedule"].public([-1, x])
    return -x if _is_part(x) else NotImplemented


def _combined(name: str, argument: str, first: object, second: object) -> Any:
    """A product or a sum; one of a product is of all its factors."""
    if not (_is_part(first) and _is_part(second)):
        return NotImplemented
    parts: list[object] = []
    for x in (first, second):
        same = isinstance(x, Schedule) and x.factory.name == name
        parts += x.arguments[argument] if same else [x]  # pyright: ignore[reportAttributeAccessIssue]  # a schedule
    return FACTORIES[name].public(parts)


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

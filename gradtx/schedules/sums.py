"""Products and sums of schedules."""

from collections.abc import Sequence
from typing import Any

from gradtx.values.counting import number_at
from gradtx.values.domains import ScalarOrSchedule, Schedule
from gradtx.values.parts import is_number
from gradtx.values.schedule import schedule
from gradtx.values.value import Value


@schedule
def product_schedule(factors: Sequence[ScalarOrSchedule]) -> Schedule:
    """The product of schedules and numbers; ``0.5 * schedule`` makes one.

    value(count) = Πᵢ fᵢ(count), where a number is the same at every count.

    Args:
        factors: schedules, functions of the count, or numbers; at least one.

    Example:
        >>> import gradtx
        >>> half = 0.5 * gradtx.linear_schedule(1.0, 0.0, 10)
        >>> float(half(5))
        0.25
    """
    _check("product_schedule", "factors", factors)

    def value(count: Any) -> Any:
        first, *rest = (_at(x, count) for x in factors)
        for x in rest:
            first = first * x
        return first

    return value


@schedule
def sum_schedule(terms: Sequence[ScalarOrSchedule]) -> Schedule:
    """The sum of schedules and numbers; ``schedule + 0.1`` makes one.

    value(count) = Σᵢ tᵢ(count), where a number is the same at every count.

    Args:
        terms: schedules, functions of the count, or numbers; at least one.

    Example:
        >>> import gradtx
        >>> float((gradtx.linear_schedule(1.0, 0.0, 10) + 0.25)(5))
        0.75
    """
    _check("sum_schedule", "terms", terms)

    def value(count: Any) -> Any:
        first, *rest = (_at(x, count) for x in terms)
        for x in rest:
            first = first + x
        return first

    return value


def _at(x: Any, count: Any) -> Any:
    return number_at(x, count) if callable(x) else x


def _check(name: str, what: str, parts: Any) -> None:
    if not isinstance(parts, list | tuple) or not parts:
        raise TypeError(f"{name}: {what} must be a list or a tuple of at least one, got {parts!r}")
    for i, x in enumerate(parts):
        if hasattr(x, "factory") and not isinstance(x, Value):
            raise TypeError(f"{name}: {what}[{i}] is the function {x.__name__}, not a schedule; call it")
        if not (callable(x) or is_number(x) or hasattr(x, "shape")):
            raise TypeError(f"{name}: {what}[{i}] must be a number or a function of the count, got {x!r}")

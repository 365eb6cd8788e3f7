"""Domains: what the annotations of a factory's arguments say of them, and are checked against."""

import math
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol, TypeAlias, TypeVar

import jax
from jax.typing import DTypeLike

T = TypeVar("T")

Array: TypeAlias = jax.Array
Scalar: TypeAlias = float | Array
"""A Python number, or a 0-d array where the number is traced or changes from step to step."""


class Interval(NamedTuple):
    """The domain of a numeric argument, as written in papers: ``Interval("[0, 1)")``.

    complaint: how an error about a number outside begins, with ``{}`` for the number;
    whole: whether only whole numbers lie in it.
    """

    text: str
    complaint: str = ""
    whole: bool = False

    @property
    def closed_bounds(self) -> tuple[float, float]:
        """The least and the largest float in it; none lies between them if only whole numbers lie in it."""
        low, high = map(float, self.text[1:-1].split(","))
        if self.whole:
            return math.inf, -math.inf
        return (
            math.nextafter(low, math.inf) if self.text[0] == "(" else low,
            math.nextafter(high, -math.inf) if self.text[-1] == ")" else high,
        )

    def holds(self, number: object) -> bool:
        """Whether a number lies in it."""
        if not isinstance(number, int if self.whole else int | float):
            return False
        low, high = self._replace(whole=False).closed_bounds
        return low <= number <= high

    def error(self, name: str, number: object) -> str:
        """What is said of a number outside, given as the argument of this name."""
        if self.whole and not isinstance(number, int):
            return f"{name} must be a whole number, got {number!r}"
        if self.complaint:
            return f"{self.complaint.format(number)}; {name} must lie in {self.text}"
        return f"{name} must lie in {self.text}, got {number!r}"


class Named(NamedTuple):
    """Marks what signatures show by this name."""

    name: str


class Mark(Enum):
    """What an annotation says of an argument that its type does not."""

    STATIC = "its number chooses structure and therefore cannot be traced"
    OFF_AT_ZERO = "its 0 leaves a part out: that 0 is a choice, every other value a number"
    DTYPE = "the name of a dtype of real or complex numbers, or None"


class Off(int):
    """The 0 that leaves a part out; it prints and computes as 0."""


OFF = Off(0)


class Vouched(float):
    """A number that is asked for no domain, for whoever gives it answers for it; it prints and computes as
    a float."""


if TYPE_CHECKING:

    class Scheduled(Any, Protocol):
        """A function of the count of updates so far, where a number may be one.

        Who calls a factory may give a function; its body is handed the number in force, and computes with it.
        One annotation says both: the protocol, what is taken, and `Any`, what the body sees.
        """

        def __call__(self, count: Any, /) -> Any: ...
else:
    Scheduled = Callable[[Any], Any]

ScalarOrSchedule: TypeAlias = float | Array | Scheduled
"""A number, or a schedule of it: a function of the count of updates so far."""
Number = Annotated[ScalarOrSchedule, Interval("[-inf, inf]")]
"""Any number, or a schedule of it."""
NonNegative = Annotated[ScalarOrSchedule, Interval("[0, inf]")]
"""A number of at least 0, or a schedule of it."""
Positive = Annotated[ScalarOrSchedule, Interval("(0, inf]")]
"""A number above 0, or a schedule of it."""
AtLeastOne = Annotated[ScalarOrSchedule, Interval("[1, inf]")]
"""A number of at least 1, or a schedule of it."""
Fraction = Annotated[ScalarOrSchedule, Interval("(0, 1)")]
"""A number above 0 and below 1, or a schedule of it."""
Decay = Annotated[ScalarOrSchedule, Interval("[0, 1)")]
"""The share of the old value that a moving average keeps, or a schedule of it."""
Static = Annotated[T, Mark.STATIC]
"""An argument that chooses structure: it stays a Python value, and a change of it recompiles."""
Count = Static[Annotated[int, Interval("[1, inf]", whole=True)]]
"""How many: a whole number of at least 1."""
DType = Annotated[DTypeLike | None, Mark.DTYPE]
"""A dtype of real or complex numbers, such as ``"bfloat16"`` or ``jax.numpy.bfloat16``; None chooses by
the params, and is at least float32."""
OffAtZero = Annotated[T, Mark.OFF_AT_ZERO]
"""A number that switches something on, momentum or weight decay: with 0 there is no such part, and no
state of it. The body is handed `OFF` then; traced numbers and schedules are always on."""

Schedule: TypeAlias = Callable[[Any], Scalar]
"""A function of the count of updates so far (0 for the first update)."""

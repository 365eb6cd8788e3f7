"""The numbers that PyTorch's optimizers take, with PyTorch's words about those they refuse."""

from typing import Annotated, Any

from gradtx.values.domains import Interval, OffAtZero, ScalarOrSchedule, Vouched
from gradtx.values.parts import is_number

LearningRate = Annotated[ScalarOrSchedule, Interval("[0, inf]", "Invalid learning rate: {}")]
Epsilon = Annotated[ScalarOrSchedule, Interval("[0, inf]", "Invalid epsilon value: {}")]
WeightDecay = OffAtZero[Annotated[ScalarOrSchedule, Interval("[0, inf]", "Invalid weight_decay value: {}")]]
Momentum = OffAtZero[Annotated[ScalarOrSchedule, Interval("[0, inf]", "Invalid momentum value: {}")]]

Betas = tuple[Any, Any]
"""The decays of the first and of the second moment: numbers in [0, 1), or schedules."""


def check_betas(name: str, betas: Betas) -> Betas:
    """The two betas, if they lie in their domain."""
    for i, beta in enumerate(betas):
        check(name, f"Invalid beta parameter at index {i}: {beta}", beta, "[0, 1)")
    return betas


def check(name: str, complaint: str, number: Any, domain: str) -> None:
    """Raise with PyTorch's complaint if this is a number outside of the domain."""
    if is_checked(number) and not Interval(domain).holds(number):
        raise ValueError(f"{name}: {complaint}; it must lie in {domain}")


def is_checked(x: Any) -> bool:
    """Whether this is a number that is known and that nobody has vouched for."""
    return is_number(x) and not isinstance(x, Vouched)


def vouched(x: Any) -> Any:
    """The numbers in an option, asked for no domain any more; what holds none as it is.

    PyTorch asks for the domains when an optimizer is made. What a group has of its own, what a scheduler
    or a user writes into it and what is loaded is taken as it is.
    """
    kind = type(x)
    if kind is float or kind is int:
        return Vouched(x)
    return tuple(map(vouched, x)) if kind is tuple or kind is list else x

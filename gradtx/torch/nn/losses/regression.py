"""Losses of real predictions against real targets."""

from dataclasses import KW_ONLY, dataclass

from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.torch.nn import functional
from gradtx.torch.nn.losses._loss import Loss


@dataclass(frozen=True, repr=False, eq=False)
class MSELoss(Loss):
    """The squared error, (x − y)²: `functional.mse_loss`.

    Args:
        reduction: 'none', 'mean' or 'sum'.
    """

    _: KW_ONLY
    reduction: str = "mean"

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of predictions x and targets y of one shape."""
        return functional.mse_loss(input, target, reduction=self.reduction)


@dataclass(frozen=True, repr=False, eq=False)
class L1Loss(Loss):
    """The absolute error, |x − y|: `functional.l1_loss`.

    Args:
        reduction: 'none', 'mean' or 'sum'.
    """

    _: KW_ONLY
    reduction: str = "mean"

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of predictions x and targets y of one shape."""
        return functional.l1_loss(input, target, reduction=self.reduction)


@dataclass(frozen=True, repr=False, eq=False)
class SmoothL1Loss(Loss):
    """The absolute error, rounded off near 0: `functional.smooth_l1_loss`.

    d² / (2·beta) where d = |x − y| < beta, and d − beta / 2 beyond.

    Args:
        reduction: 'none', 'mean' or 'sum'.
        beta: where the two pieces meet, at least 0; 0 is `L1Loss`.
    """

    _: KW_ONLY
    reduction: str = "mean"
    beta: float = 1.0

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of predictions x and targets y of one shape."""
        return functional.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


@dataclass(frozen=True, repr=False, eq=False)
class HuberLoss(Loss):
    """The squared error near 0 and the absolute error beyond: `functional.huber_loss`.

    d² / 2 where d = |x − y| ≤ delta, and delta·(d − delta / 2) beyond.

    Args:
        reduction: 'none', 'mean' or 'sum'.
        delta: where the two pieces meet, above 0.

    Raises:
        TypeError: if delta is not a number.
    """

    reduction: str = "mean"
    delta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.delta, float | int):
            raise TypeError(f"delta must be a float or int, got: {type(self.delta)}")

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of predictions x and targets y of one shape."""
        return functional.huber_loss(input, target, reduction=self.reduction, delta=self.delta)

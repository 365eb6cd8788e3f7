"""Hinges: losses that are 0 once a score is on the right side by a margin."""

from dataclasses import KW_ONLY, dataclass

import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.torch.nn import functional
from gradtx.torch.nn.losses._loss import Loss


@dataclass(frozen=True, repr=False, eq=False)
class MarginRankingLoss(Loss):
    """Which of two scores should be the larger, max(0, −y·(x₁ − x₂) + margin).

    It is `functional.margin_ranking_loss`.

    Args:
        margin: by how much.
        reduction: 'none', 'mean' or 'sum'.
    """

    margin: float = 0.0
    _: KW_ONLY
    reduction: str = "mean"

    def __call__(self, input1: ArrayLike, input2: ArrayLike, target: ArrayLike) -> Array:
        """The loss of scores x₁ and x₂; y is 1 if x₁ should be the larger and −1 if x₂."""
        return functional.margin_ranking_loss(input1, input2, target, self.margin, reduction=self.reduction)


@dataclass(frozen=True, repr=False, eq=False)
class HingeEmbeddingLoss(Loss):
    """A distance that should be small or large: x where y is 1, max(0, margin − x) where y is −1.

    It is `functional.hinge_embedding_loss`.

    Args:
        margin: the distance that is large enough.
        reduction: 'none', 'mean' or 'sum'.
    """

    margin: float = 1.0
    _: KW_ONLY
    reduction: str = "mean"

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of distances x and targets y of 1 or −1."""
        return functional.hinge_embedding_loss(input, target, self.margin, reduction=self.reduction)


@dataclass(frozen=True, repr=False, eq=False)
class SoftMarginLoss(Loss):
    """The logistic loss of a score and its sign, log(1 + exp(−y·x)): `functional.soft_margin_loss`.

    Args:
        reduction: 'none', 'mean' or 'sum'.
    """

    _: KW_ONLY
    reduction: str = "mean"

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of scores x and targets y of 1 or −1."""
        return functional.soft_margin_loss(input, target, reduction=self.reduction)


@dataclass(frozen=True, repr=False, eq=False)
class MultiLabelSoftMarginLoss(Loss):
    """The mean over classes of −w·(y·log σ(x) + (1 − y)·log σ(−x)).

    It is `functional.multilabel_soft_margin_loss`.

    Args:
        weight: w, of a shape that broadcasts to the scores', most often a number for each class.
        reduction: 'none', 'mean' or 'sum'.
    """

    weight: ArrayLike | None = None
    _: KW_ONLY
    reduction: str = "mean"

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of scores x and targets y of 0 or 1, both (N, C)."""
        return functional.multilabel_soft_margin_loss(input, target, self.weight, reduction=self.reduction)


@dataclass(frozen=True, repr=False, eq=False)
class MultiMarginLoss(Loss):
    """The true class should lead all others, w_y / C·Σ_{c ≠ y} max(0, margin − x_y + x_c)ᵖ.

    It is `functional.multi_margin_loss`.

    Args:
        p: 1 or 2.
        margin: by how much.
        weight: w, a number for each class. Default: 1.
        reduction: 'none', 'mean' or 'sum'.

    Raises:
        ValueError: for another p, or a weight that is not one-dimensional.
    """

    p: int = 1
    margin: float = 1.0
    weight: ArrayLike | None = None
    _: KW_ONLY
    reduction: str = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p not in (1, 2):
            raise ValueError("only p == 1 and p == 2 supported")
        if self.weight is not None and jnp.ndim(self.weight) != 1:
            raise ValueError(
                "MultiMarginLoss: expected weight to be None or 1D tensor, got "
                f"{jnp.ndim(self.weight)}D instead"
            )

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of scores (N, C) and labels (N,)."""
        return functional.multi_margin_loss(
            input, target, self.p, self.margin, self.weight, reduction=self.reduction
        )


@dataclass(frozen=True, repr=False, eq=False)
class MultiLabelMarginLoss(Loss):
    """All true classes should lead all others by 1, Σ_y Σ_c max(0, 1 − x_y + x_c) / C.

    It is `functional.multilabel_margin_loss`.

    Args:
        reduction: 'none', 'mean' or 'sum'.
    """

    _: KW_ONLY
    reduction: str = "mean"

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of scores (N, C) and the true classes of each sample, (N, C), ended by a −1."""
        return functional.multilabel_margin_loss(input, target, reduction=self.reduction)

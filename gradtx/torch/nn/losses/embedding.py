"""Losses of distances and angles between embeddings."""

from dataclasses import KW_ONLY, dataclass

from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.torch.nn import functional
from gradtx.torch.nn.losses._loss import Loss


@dataclass(frozen=True, repr=False, eq=False)
class CosineEmbeddingLoss(Loss):
    """Two vectors that should point the same way or not: 1 − cos where y is 1, max(0, cos − margin) where −1.

    It is `functional.cosine_embedding_loss`.

    Args:
        margin: the cosine that is small enough, in [−1, 1].
        reduction: 'none', 'mean' or 'sum'.
    """

    margin: float = 0.0
    _: KW_ONLY
    reduction: str = "mean"

    def __call__(self, input1: ArrayLike, input2: ArrayLike, target: ArrayLike) -> Array:
        """The loss of pairs of vectors (N, D) and targets (N,) of 1 or −1."""
        return functional.cosine_embedding_loss(input1, input2, target, self.margin, reduction=self.reduction)


@dataclass(frozen=True, repr=False, eq=False)
class TripletMarginLoss(Loss):
    """An anchor should be nearer to the positive than to the negative, max(0, margin + ‖a − q‖ₚ − ‖a − n‖ₚ).

    It is `functional.triplet_margin_loss`.

    Args:
        margin: by how much, above 0.
        p: of the norm.
        eps: added to each difference.
        swap: whether the positive may be in the anchor's place, if that is nearer to the negative.
        reduction: 'none', 'mean' or 'sum'.

    Raises:
        ValueError: for a margin that is not positive.
    """

    margin: float = 1.0
    p: float = 2.0
    eps: float = 1e-6
    swap: bool = False
    _: KW_ONLY
    reduction: str = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.margin <= 0:
            raise ValueError(
                f"TripletMarginLoss: expected margin to be greater than 0, got {self.margin} instead"
            )

    def __call__(self, anchor: ArrayLike, positive: ArrayLike, negative: ArrayLike) -> Array:
        """The loss of vectors of shape (N, D)."""
        return functional.triplet_margin_loss(
            anchor,
            positive,
            negative,
            self.margin,
            self.p,
            self.eps,
            self.swap,
            reduction=self.reduction,
        )

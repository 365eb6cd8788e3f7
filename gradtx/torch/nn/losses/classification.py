"""Losses of scores for classes of which one is true, or each has a probability."""

from dataclasses import KW_ONLY, dataclass

from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.torch.nn import functional
from gradtx.torch.nn.losses._loss import Loss


@dataclass(frozen=True, repr=False, eq=False)
class CrossEntropyLoss(Loss):
    """The cross entropy of true classes and the softmax of scores: `functional.cross_entropy`.

    −w_y·log softmax(x)_y for a class y, −Σ_c w_c·p_c·log softmax(x)_c for probabilities p.

    Args:
        weight: w, a number for each class. Default: 1.
        ignore_index: a label that does not count; labels only.
        reduction: 'none', 'mean' or 'sum'. The mean of labels divides by the sum of their w_y.
        label_smoothing: ε, in [0, 1]: (1 − ε)·p + ε / C takes the place of p.
    """

    weight: ArrayLike | None = None
    _: KW_ONLY
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of scores (N, C, …) and labels (N, …), or probabilities of the shape of the scores."""
        return functional.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


@dataclass(frozen=True, repr=False, eq=False)
class NLLLoss(Loss):
    """The negative log-likelihood of true classes, −w_y·x_y: `functional.nll_loss`.

    Args:
        weight: w, a number for each class. Default: 1.
        ignore_index: a label that does not count.
        reduction: 'none', 'mean' or 'sum'. The mean divides by the sum of w_y.
    """

    weight: ArrayLike | None = None
    _: KW_ONLY
    ignore_index: int = -100
    reduction: str = "mean"

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of log-probabilities (N, C, …) and labels (N, …)."""
        return functional.nll_loss(
            input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction
        )


@dataclass(frozen=True, repr=False, eq=False)
class BCELoss(Loss):
    """The cross entropy of probabilities of yes, −w·(y·log x + (1 − y)·log(1 − x)).

    The logarithms are at least −100: `functional.binary_cross_entropy`.

    Args:
        weight: w, of a shape that broadcasts to the predictions'. Default: 1.
        reduction: 'none', 'mean' or 'sum'.
    """

    weight: ArrayLike | None = None
    _: KW_ONLY
    reduction: str = "mean"

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of predicted probabilities x and true ones y, of one shape."""
        return functional.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


@dataclass(frozen=True, repr=False, eq=False)
class BCEWithLogitsLoss(Loss):
    """The cross entropy of yes and the sigmoid of scores, −w·(p·y·log σ(x) + (1 − y)·log(1 − σ(x))).

    It is accurate for any score: `functional.binary_cross_entropy_with_logits`.

    Args:
        weight: w, of a shape that broadcasts to the scores'. Default: 1.
        reduction: 'none', 'mean' or 'sum'.
        pos_weight: p, how much more a yes counts than a no, of a shape that broadcasts to the scores'.
    """

    weight: ArrayLike | None = None
    _: KW_ONLY
    reduction: str = "mean"
    pos_weight: ArrayLike | None = None

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of scores x and true probabilities y, of one shape."""
        return functional.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )

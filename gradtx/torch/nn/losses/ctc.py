"""Connectionist temporal classification: a sequence of labels without their times."""

from dataclasses import dataclass
from typing import Any

from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.torch.nn import functional
from gradtx.torch.nn.losses._loss import Loss


@dataclass(frozen=True, repr=False, eq=False)
class CTCLoss(Loss):
    """The negative log-likelihood of a sequence of labels, over all its ways through time.

    It is `functional.ctc_loss`.

    Args:
        blank: the class that stands for no label.
        reduction: 'none', 'mean' or 'sum'. The mean first divides each loss by its number of labels.
        zero_infinity: whether a sample that its labels do not fit into counts as 0, not as infinite.
    """

    blank: int = 0
    reduction: str = "mean"
    zero_infinity: bool = False

    def __call__(
        self, log_probs: ArrayLike, targets: ArrayLike, input_lengths: Any, target_lengths: Any
    ) -> Array:
        """The loss of log-probabilities (T, N, C) and labels (N, S), or of all samples in one dimension."""
        return functional.ctc_loss(
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            self.blank,
            self.reduction,
            self.zero_infinity,
        )

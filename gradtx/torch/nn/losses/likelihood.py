"""Negative log-likelihoods of counts and real numbers, and the divergence of two distributions."""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.torch.nn import functional
from gradtx.torch.nn.losses._loss import Loss


@dataclass(frozen=True, repr=False, eq=False)
class PoissonNLLLoss(Loss):
    """The negative log-likelihood of a count under a Poisson distribution: `functional.poisson_nll_loss`.

    eˣ − y·x if the prediction x is the logarithm of the rate, x − y·log(x + eps) if it is the rate.

    Args:
        log_input: whether x is the logarithm of the rate.
        full: whether to add Stirling's approximation of log y!.
        eps: keeps the logarithm of a rate of 0 finite.
        reduction: 'none', 'mean' or 'sum'.
    """

    log_input: bool = True
    full: bool = False
    _: KW_ONLY
    eps: float = 1e-8
    reduction: str = "mean"

    def __call__(self, log_input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of predictions x and counts y."""
        return functional.poisson_nll_loss(
            log_input, target, self.log_input, self.full, eps=self.eps, reduction=self.reduction
        )


@dataclass(frozen=True, repr=False, eq=False)
class GaussianNLLLoss(Loss):
    """The negative log-likelihood under a normal distribution: `functional.gaussian_nll_loss`.

    ½·(log v + (x − y)² / v) with v = max(var, eps).

    Args:
        full: whether to add ½·log 2π.
        eps: the least variance, above 0.
        reduction: 'none', 'mean' or 'sum'.
    """

    _: KW_ONLY
    full: bool = False
    eps: float = 1e-6
    reduction: str = "mean"

    def __call__(self, input: ArrayLike, target: ArrayLike, var: ArrayLike) -> Array:
        """The loss of means x, targets y and variances."""
        return functional.gaussian_nll_loss(input, target, var, self.full, self.eps, self.reduction)


@dataclass(frozen=True, repr=False, eq=False)
class KLDivLoss(Loss):
    """The Kullback–Leibler divergence, p·(log p − log q): `functional.kl_div`.

    Args:
        reduction: 'none', 'sum', 'batchmean', which is the divergence itself, or 'mean', which divides
            by the number of elements.
        log_target: whether the target is log p.
    """

    reductions: ClassVar[tuple[str, ...]] = (*Loss.reductions, "batchmean")

    _: KW_ONLY
    reduction: str = "mean"
    log_target: bool = False

    def __call__(self, input: ArrayLike, target: ArrayLike) -> Array:
        """The loss of predictions log q and targets p."""
        return functional.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)

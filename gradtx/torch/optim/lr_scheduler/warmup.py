"""Schedulers for the first epochs: a smaller rate, then the optimizer's own."""

from gradtx.torch.optim._optimizer import Optimizer
from gradtx.torch.optim.lr_scheduler.arguments import check_constant, check_linear
from gradtx.torch.optim.lr_scheduler.base import Chainable
from gradtx.torch.optim.lr_scheduler.formulas import held, linear


class ConstantLR(Chainable):
    """A share of the learning rate for the first epochs.

    lr ← lr·factor at the start, and lr ← lr·(1 / factor) when last_epoch is total_iters.

    Args:
        optimizer: whose learning rates it sets.
        factor: the share, in [0, 1]. Default: 1/3.
        total_iters: the number of epochs at that share. With 0 it lasts for ever, as in PyTorch: the end is
            looked for after the first epoch only. Default: 5.
        last_epoch: the last epoch seen, -1 for none. Default: -1.

    Raises:
        ValueError: if factor is not in [0, 1].
        ZeroDivisionError: at total_iters, if factor is 0, which cannot be undone.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        check_constant(factor)
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        if self.last_epoch == 0:
            return self.factor
        return 1.0 / self.factor if self.last_epoch == self.total_iters else 1.0

    def _closed_form(self, lr: float) -> float:
        return held(lr, self.last_epoch, self.factor, self.total_iters)


class LinearLR(Chainable):
    """From one share of the learning rate to another along a straight line.

    With f(t) = start_factor + (end_factor − start_factor)·t / total_iters and t = last_epoch:
    lr ← lr·f(0) at the start and lr ← lr·f(t) / f(t−1) until total_iters, where it stays.

    Args:
        optimizer: whose learning rates it sets.
        start_factor: the first share, in (0, 1]. Default: 1/3.
        end_factor: the last share, in [0, 1]. Default: 1.
        total_iters: the number of epochs that it takes; with 0 the rate stays at the first share. Default: 5.
        last_epoch: the last epoch seen, -1 for none. Default: -1.

    Raises:
        ValueError: if a factor is outside its domain.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        check_linear(start_factor, end_factor)
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        if self.last_epoch == 0:
            return self.start_factor
        if self._is_initial or self.last_epoch > self.total_iters:
            return 1.0
        rise = self.end_factor - self.start_factor
        return 1.0 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise)

    def _closed_form(self, lr: float) -> float:
        return linear(lr, self.last_epoch, self.start_factor, self.end_factor, self.total_iters)

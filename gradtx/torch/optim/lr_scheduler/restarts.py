"""The scheduler of warm restarts."""

import math

from gradtx.torch.optim._optimizer import Optimizer
from gradtx.torch.optim.lr_scheduler.arguments import check_restarts
from gradtx.torch.optim.lr_scheduler.base import LRScheduler
from gradtx.torch.optim.lr_scheduler.formulas import cosine


class CosineAnnealingWarmRestarts(LRScheduler):
    """Down along half a cosine wave, and again from the top.

    lr ← eta_min + (base_lr − eta_min)·½(1 + cos(π·T_cur / T_i)), where T_cur is the number of epochs since
    the last restart and T_i the length of the period: T_0, and each T_mult times the one before. It sets
    the rate, whatever it was: changes by hand last one step.

    Args:
        optimizer: whose learning rates it sets.
        T_0: the epochs of the first period, a positive integer.
        T_mult: each period is so many times the one before; an integer of at least 1. Default: 1.
        eta_min: the lowest rate. Default: 0.
        last_epoch: the last epoch seen, -1 for none. Default: -1.

    Attributes:
        T_cur, T_i: epochs since the last restart, and the length of the present period.

    Raises:
        ValueError: if an argument is outside its domain.

    Source: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, arXiv:1608.03983.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        check_restarts(T_0, T_mult)
        if not isinstance(eta_min, float | int):
            raise ValueError(f"Expected float or int eta_min, but got {eta_min} of type {type(eta_min)}")
        self.T_0 = T_0
        self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def step(self, epoch: float | None = None) -> None:
        """Set the learning rate of the next epoch, or that of any moment.

        Args:
            epoch: jump to this one, which may be a fraction: ``scheduler.step(epoch + i / batches)`` after
                the i-th batch of an epoch. Default: one after the last.

        Raises:
            ValueError: if epoch is negative.
        """
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        elif epoch < 0:
            raise ValueError(f"Expected non-negative epoch, but got {epoch}")
        else:
            self._jump(epoch)
        self.last_epoch = math.floor(epoch)
        self._write(self.get_lr)

    def _jump(self, epoch: float) -> None:
        if self.T_mult == 1:
            self.T_cur = epoch % self.T_0
            return
        # As in PyTorch: near a restart the logarithm may be rounded to the wrong side.
        periods = math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult)
        growth = self.T_mult ** int(periods) if epoch >= self.T_0 else 1
        self.T_cur = epoch - self.T_0 * (growth - 1) / (self.T_mult - 1)
        self.T_i = self.T_0 * growth

    def _next_lrs(self) -> list[float]:
        return [cosine(lr, self.T_cur, self.T_i, self.eta_min) for lr in self.base_lrs]

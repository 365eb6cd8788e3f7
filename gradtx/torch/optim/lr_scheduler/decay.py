"""Schedulers that go one way, by a factor per step or at given steps; and half a cosine wave."""

import math
from collections import Counter
from collections.abc import Iterable

from gradtx.torch.optim._optimizer import Optimizer
from gradtx.torch.optim.lr_scheduler.base import Chainable, LRScheduler
from gradtx.torch.optim.lr_scheduler.formulas import cosine, polynomial, power, stepped, stepped_at


class StepLR(Chainable):
    """By a factor every so many epochs.

    lr ← lr·gamma when last_epoch is a multiple of step_size, so that alone it is
    base_lr·gammaᵏ with k = ⌊last_epoch / step_size⌋.

    Args:
        optimizer: whose learning rates it sets.
        step_size: the number of epochs between two changes.
        gamma: the factor. Default: 0.1.
        last_epoch: the last epoch seen, -1 for none. Default: -1.
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        changes = self.last_epoch != 0 and self.last_epoch % self.step_size == 0
        return self.gamma if changes else 1.0

    def _closed_form(self, lr: float) -> float:
        return stepped(lr, self.last_epoch, self.step_size, self.gamma)


class MultiStepLR(Chainable):
    """By a factor at each milestone.

    lr ← lr·gamma when last_epoch is a milestone, once for each time it is in the list, so that alone it is
    base_lr·gammaᵏ with k the number of milestones ≤ last_epoch.

    Args:
        optimizer: whose learning rates it sets.
        milestones: the epochs at which the rate changes, in any order.
        gamma: the factor. Default: 0.1.
        last_epoch: the last epoch seen, -1 for none. Default: -1.
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = Counter(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        return self.gamma ** self.milestones.get(self.last_epoch, 0)

    def _closed_form(self, lr: float) -> float:
        return stepped_at(lr, self.last_epoch, list(Counter(self.milestones).elements()), self.gamma)


class ExponentialLR(Chainable):
    """By a factor every epoch.

    lr ← lr·gamma, so that alone it is base_lr·gammaᵗ with t = last_epoch.

    Args:
        optimizer: whose learning rates it sets.
        gamma: the factor.
        last_epoch: the last epoch seen, -1 for none. Default: -1.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        return 1.0 if self._is_initial else self.gamma

    def _closed_form(self, lr: float) -> float:
        return lr * power(self.gamma, self.last_epoch)


class PolynomialLR(Chainable):
    """Down to 0 along a power of the share of epochs still to go.

    lr ← lr·((1 − t/T) / (1 − (t−1)/T))ᵖᵒʷᵉʳ with t = last_epoch ≤ T = total_iters, so that alone it is
    base_lr·(1 − t/T)ᵖᵒʷᵉʳ. After total_iters nothing changes.

    Args:
        optimizer: whose learning rates it sets.
        total_iters: the number of epochs that it takes; with 0 nothing ever changes. Default: 5.
        power: of the polynomial. Default: 1.
        last_epoch: the last epoch seen, -1 for none. Default: -1.
    """

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        if self._is_initial or self.last_epoch > self.total_iters:
            return 1.0
        now, before = (1.0 - epoch / self.total_iters for epoch in (self.last_epoch, self.last_epoch - 1))
        return (now / before) ** self.power

    def _closed_form(self, lr: float) -> float:
        return polynomial(lr, self.last_epoch, self.total_iters, self.power)


class CosineAnnealingLR(LRScheduler):
    """Between the first learning rate and a last one along a cosine wave, down and up again.

    With w(t) = ½(1 + cos(π·t / T_max)) and t = last_epoch, the distance to eta_min is multiplied:
    lr ← eta_min + (lr − eta_min)·w(t) / w(t−1), so that alone it is eta_min + (base_lr − eta_min)·w(t).
    It does not end at T_max: the wave goes up again to base_lr at 2·T_max. On the first epoch up, where
    w(t−1) is 0, lr ← lr + (base_lr − eta_min)·w(t).

    Args:
        optimizer: whose learning rates it sets.
        T_max: the epochs of half a wave.
        eta_min: the lowest rate. Default: 0.
        last_epoch: the last epoch seen, -1 for none. Default: -1.

    Source: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, arXiv:1608.03983;
    without the restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def _next_lrs(self) -> list[float]:
        groups = self.optimizer.param_groups
        if self._is_initial:
            return [group["lr"] for group in groups]
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            rise = 1 - math.cos(math.pi / self.T_max)
            return [
                group["lr"] + (lr - self.eta_min) * rise / 2
                for lr, group in zip(self.base_lrs, groups, strict=True)
            ]
        now, before = (
            1 + math.cos(math.pi * epoch / self.T_max) for epoch in (self.last_epoch, self.last_epoch - 1)
        )
        return [now / before * (group["lr"] - self.eta_min) + self.eta_min for group in groups]

    def _get_closed_form_lr(self) -> list[float]:
        return [cosine(lr, self.last_epoch, self.T_max, self.eta_min) for lr in self.base_lrs]

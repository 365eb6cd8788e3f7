"""The scheduler of stochastic weight averaging; its public place is `swa_utils`."""

import math
from collections.abc import Sequence
from typing import Any

from gradtx.torch.optim._optimizer import Optimizer
from gradtx.torch.optim.lr_scheduler.arguments import check_anneal, check_anneal_epochs
from gradtx.torch.optim.lr_scheduler.base import LRScheduler, checked_optimizer, per_group


class SWALR(LRScheduler):
    """From the present learning rate to that of stochastic weight averaging, where it stays.

    With a(t) = ½(1 − cos(π·t)) ("cos") or t ("linear"), t = min(last_epoch / anneal_epochs, 1):
    lr ← swa_lr·a(t) + l·(1 − a(t)), where l is the rate from which the present one came by a(t−1): alone,
    the first rate. A change by hand on the way so leads to swa_lr all the same.

    Args:
        optimizer: whose learning rates it sets; each group gets its "swa_lr".
        swa_lr: the last rate, or a list of one for each group.
        anneal_epochs: the number of epochs that it takes, an integer of at least 0. Default: 10.
        anneal_strategy: "cos" or "linear". Default: "cos".
        last_epoch: the last epoch seen, -1 for none. Default: -1.

    Raises:
        ValueError: if an argument is outside its domain, or a list has another length than there are groups.

    Source: Izmailov et al., Averaging weights leads to wider optima and better generalization,
    arXiv:1803.05407.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | Sequence[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        swa_lrs = per_group("swa_lr", checked_optimizer(optimizer), swa_lr)
        check_anneal(anneal_strategy)
        check_anneal_epochs(anneal_epochs)
        for group, lr in zip(optimizer.param_groups, swa_lrs, strict=True):
            group["swa_lr"] = lr
        self._anneal_strategy = anneal_strategy
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _next_lrs(self) -> list[float]:
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._way(step - 1), self._way(step)
        return [_onwards(group, before, now) for group in self.optimizer.param_groups]

    def _way(self, step: int) -> float:
        done = max(0, min(1, step / max(1, self.anneal_epochs)))
        return (1 - math.cos(math.pi * done)) / 2 if self._anneal_strategy == "cos" else done


def _onwards(group: dict[str, Any], before: float, now: float) -> float:
    lr, target = group["lr"], group["swa_lr"]
    first = target if before == 1 else (lr - before * target) / (1 - before)
    return target * now + first * (1 - now)

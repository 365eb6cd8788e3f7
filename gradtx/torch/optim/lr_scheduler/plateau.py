"""The scheduler that looks at a metric."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

from gradtx.torch.optim._optimizer import Optimizer
from gradtx.torch.optim.lr_scheduler.base import EPOCH_GIVEN, LRScheduler, checked_optimizer, values

WORST = {"min": math.inf, "max": -math.inf}


class ReduceLROnPlateau(LRScheduler):
    """By a factor when a metric no longer gets better.

    A value m is better than the best so far, b, if m < b·(1 − threshold) (mode "min", threshold_mode
    "rel"), m < b − threshold ("min", "abs"), m > b·(1 + threshold) ("max", "rel") or m > b + threshold
    ("max", "abs"). After more than `patience` epochs in a row that are not better,
    lr ← max(lr·factor, min_lr), unless that changes it by eps or less; the next `cooldown` epochs do not
    count as bad.

    Args:
        optimizer: whose learning rates it sets.
        mode: "min" if smaller metrics are better, or "max". Default: "min".
        factor: below 1. Default: 0.1.
        patience: how many bad epochs in a row are suffered. Default: 10.
        threshold: by how much a better metric must be better. Default: 10⁻⁴.
        threshold_mode: whether threshold is a share of the best ("rel") or a difference ("abs"). Default:
            "rel".
        cooldown: how many epochs after a reduction do not count as bad. Default: 0.
        min_lr: the lowest rate, or a list of one for each group. Default: 0.
        eps: smaller changes are not made. Default: 10⁻⁸.

    Raises:
        ValueError: if factor is not below 1, a mode is unknown or min_lr has another length.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1.0:
            raise ValueError("Factor should be < 1.0.")
        groups = checked_optimizer(optimizer).param_groups
        min_lrs = list(min_lr) if isinstance(min_lr, list | tuple) else [min_lr] * len(groups)
        if len(min_lrs) != len(groups):
            raise ValueError(f"expected {len(groups)} min_lrs, got {len(min_lrs)}")
        check_modes(mode, threshold_mode)
        self.optimizer = optimizer
        self.factor = factor
        self.default_min_lr: Any = None if isinstance(min_lr, list | tuple) else min_lr
        self.min_lrs: list[Any] = min_lrs
        self.patience = patience
        self.cooldown = cooldown
        self.eps = eps
        self.last_epoch = 0
        self._last_lr = values(optimizer, "lr")
        self.mode_worse = WORST[mode]
        self.mode = mode
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.best = self.mode_worse
        self.cooldown_counter = 0
        self.num_bad_epochs = 0

    def step(self, metrics: SupportsFloat, epoch: int | None = None) -> None:  # type: ignore[override]  # torch's
        """Look at the metric of an epoch, and reduce the learning rates if it is time.

        Args:
            metrics: a number, or an array of one.
            epoch: deprecated: the number of the epoch.
        """
        metric = float(metrics)
        if epoch is not None:
            warnings.warn(EPOCH_GIVEN, UserWarning, stacklevel=2)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(metric, self.best):
            self.best = metric
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = values(self.optimizer, "lr")

    @property
    def in_cooldown(self) -> bool:
        """Whether bad epochs do not count at present."""
        return self.cooldown_counter > 0

    def _check_state(self, state_dict: Mapping[str, Any]) -> None:
        super()._check_state(state_dict)
        check_modes(state_dict.get("mode", self.mode), state_dict.get("threshold_mode", self.threshold_mode))

    def _is_better(self, metric: float, best: float) -> bool:
        margin = self.threshold if self.mode == "max" else -self.threshold
        bar = best * (1.0 + margin) if self.threshold_mode == "rel" else best + margin
        return metric > bar if self.mode == "max" else metric < bar

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise RuntimeError(
                    f"The number of param groups in the `optimizer` ({len(groups)}) differs from when "
                    f"`ReduceLROnPlateau` was initialized ({len(self.min_lrs)}); "
                    "set `scheduler.min_lrs` to a list of one for each group"
                )
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, min_lr in zip(groups, self.min_lrs, strict=True):
            lr = float(group["lr"])
            reduced = max(lr * self.factor, min_lr)
            if lr - reduced > self.eps:
                group["lr"] = reduced


def check_modes(mode: str, threshold_mode: str) -> None:
    """The two modes, in PyTorch's words."""
    if mode not in WORST:
        raise ValueError(f"mode {mode} is unknown!")
    if threshold_mode not in ("rel", "abs"):
        raise ValueError(f"threshold mode {threshold_mode} is unknown!")

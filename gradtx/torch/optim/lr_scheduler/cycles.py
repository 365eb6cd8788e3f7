"""Schedulers that go up and down, and the momentum against them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradtx.torch.optim._optimizer import Optimizer
from gradtx.torch.optim.lr_scheduler.arguments import (
    check_anneal,
    check_cycle,
    check_pct_start,
    steps_of_one_cycle,
)
from gradtx.torch.optim.lr_scheduler.base import LRScheduler, checked_optimizer, per_group
from gradtx.torch.optim.lr_scheduler.formulas import ANNEALS, SCALES, phase_ends, phased, triangle
from gradtx.torch.optim.lr_scheduler.lambdas import attributes

PerGroup = float | Sequence[float]


class _Momentum(LRScheduler):
    """A scheduler that moves the momentum too: ``momentum``, or the first of ``betas``."""

    use_beta1: bool

    def _begin_momentum(self, base_momentum: PerGroup, max_momentum: PerGroup, last_epoch: int) -> Any:
        defaults = self.optimizer.defaults
        if "momentum" not in defaults and "betas" not in defaults:
            raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
        self.use_beta1 = "betas" in defaults
        lows = per_group("base_momentum", self.optimizer, base_momentum)
        highs = per_group("max_momentum", self.optimizer, max_momentum)
        if last_epoch == -1:
            for group, low, high in zip(self.optimizer.param_groups, lows, highs, strict=True):
                self._set_momentum(group, high)
                group["max_momentum"] = high
                group["base_momentum"] = low
        return lows, highs

    def _set_momentum(self, group: dict[str, Any], momentum: float) -> None:
        if self.use_beta1:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


class CyclicLR(_Momentum):
    """Straight up and down again between two learning rates, for ever, the momentum the other way.

    With c = ⌊1 + t / (up + down)⌋ the number of the cycle, x = 1 + t / (up + down) − c, r = up / (up + down),
    h = x / r if x ≤ r, else (x − 1) / (r − 1), and t = last_epoch:
    lr ← base_lr + (max_lr − base_lr)·h·s, momentum ← max_momentum − (max_momentum − base_momentum)·h·s,
    where the scale s is 1 ("triangular"), ½ᶜ⁻¹ ("triangular2"), gammaᵗ ("exp_range"), or
    scale_fn(c) or scale_fn(t).

    Args:
        optimizer: whose learning rates it sets.
        base_lr: the lower rate, or a list of one for each group; the first rate.
        max_lr: the upper rate, or a list of one for each group.
        step_size_up: the epochs from base_lr up to max_lr. Default: 2000.
        step_size_down: the epochs back. Default: step_size_up.
        mode: "triangular", "triangular2" or "exp_range"; without effect if there is a scale_fn. Default:
            "triangular".
        gamma: of "exp_range". Default: 1.
        scale_fn: the scale of the height, called once for each rate and each momentum. Default: that of the
            mode.
        scale_mode: whether scale_fn is one of the "cycle" or of the "iterations". Default: "cycle".
        cycle_momentum: whether the momentum moves, or beta1 if the optimizer has betas. Default: yes.
        base_momentum: the lower momentum, or a list of one for each group. Default: 0.8.
        max_momentum: the upper momentum, or a list of one for each group; the first. Default: 0.9.
        last_epoch: the last epoch seen, -1 for none. Default: -1.

    Raises:
        ValueError: if the mode is unknown and there is no scale_fn, a list has another length than there
            are groups, or momentum should move and the optimizer has none.

    Source: Smith, Cyclical learning rates for training neural networks, arXiv:1506.01186.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: PerGroup,
        max_lr: PerGroup,
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: PerGroup = 0.8,
        max_momentum: PerGroup = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = checked_optimizer(optimizer)
        check_cycle(mode, scale_fn, SCALES)
        base_lrs = per_group("base_lr", optimizer, base_lr)
        self.max_lrs = per_group("max_lr", optimizer, max_lr)
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        self.step_ratio = up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self._scale_fn_custom = scale_fn
        self.scale_mode = SCALES[mode][0] if scale_fn is None else scale_mode
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            moments = self._begin_momentum(base_momentum, max_momentum, last_epoch)
            self.base_momentums, self.max_momentums = moments
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = lr
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """The scale of the height in this cycle, or at this epoch."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        return SCALES[self.mode][1](self.gamma, x)

    def _next_lrs(self) -> list[float]:
        cycle, height = triangle(self.last_epoch, self.total_size, self.step_ratio)
        at = cycle if self.scale_mode == "cycle" else self.last_epoch
        # PyTorch calls the function anew for each number; one with a memory may answer otherwise.
        pairs = zip(self.base_lrs, self.max_lrs, strict=True)
        lrs = [low + (high - low) * height * self.scale_fn(at) for low, high in pairs]
        if self.cycle_momentum:
            pairs = zip(self.base_momentums, self.max_momentums, strict=True)
            momenta = [high - (high - low) * height * self.scale_fn(at) for low, high in pairs]
            for group, momentum in zip(self.optimizer.param_groups, momenta, strict=True):
                self._set_momentum(group, momentum)
        return lrs

    def state_dict(self) -> dict[str, Any]:
        """All that it remembers; of scale_fn the attributes of an object, and nothing of a function."""
        return {**super().state_dict(), "_scale_fn_custom": attributes(self._scale_fn_custom)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; the scale_fn is the one that this scheduler was made with."""
        super().load_state_dict({name: x for name, x in state_dict.items() if name != "_scale_fn_custom"})
        saved = state_dict.get("_scale_fn_custom")
        if saved is not None and self._scale_fn_custom is not None:
            self._scale_fn_custom.__dict__.update(saved)


class OneCycleLR(_Momentum):
    """One cycle: up to a high learning rate, and down to almost nothing; the momentum the other way.

    With initial = max_lr / div_factor and min = initial / final_div_factor, the rate goes from initial to
    max_lr at t = pct_start·total_steps − 1 and from there to min at t = total_steps − 1, along half a cosine
    wave or a straight line, t = last_epoch; the momentum from max_momentum to base_momentum and back. With
    three phases the second one leads to initial at t = 2·pct_start·total_steps − 2, and the third to min, at
    max_momentum. These counts are not rounded. One more step is allowed, as in PyTorch, and goes on past the
    end of the curve. It sets the rate, whatever it was: changes by hand last one step.

    Args:
        optimizer: whose learning rates it sets.
        max_lr: the highest rate, or a list of one for each group.
        total_steps: the number of steps. Default: epochs · steps_per_epoch.
        epochs, steps_per_epoch: instead of total_steps.
        pct_start: the share of the steps on the way up, a float in [0, 1]. Default: 0.3.
        anneal_strategy: "cos" or "linear". Default: "cos".
        cycle_momentum: whether the momentum moves, or beta1 if the optimizer has betas. Default: yes.
        base_momentum: the lower momentum, or a list of one for each group. Default: 0.85.
        max_momentum: the upper momentum, or a list of one for each group; the first. Default: 0.95.
        div_factor: max_lr is so many times the first rate. Default: 25.
        final_div_factor: the first rate is so many times the last. Default: 10⁴.
        three_phase: whether the way down has two parts. Default: no.
        last_epoch: the last step seen, -1 for none. Default: -1.

    Raises:
        ValueError: if an argument is outside its domain, a list has another length than there are groups,
            or momentum should move and the optimizer has none; by `step`, after total_steps + 1 steps.

    Where a phase has no steps (pct_start·total_steps is 1) PyTorch divides by zero; here it is passed over.

    Source: Smith and Topin, Super-convergence: very fast training of neural networks using large learning
    rates, arXiv:1708.07120.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: PerGroup,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: PerGroup = 0.85,
        max_momentum: PerGroup = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = checked_optimizer(optimizer)
        self.total_steps = steps_of_one_cycle(total_steps, epochs, steps_per_epoch)
        check_pct_start(pct_start)
        check_anneal(anneal_strategy)
        max_lrs = per_group("max_lr", optimizer, max_lr)
        ends = phase_ends(self.total_steps, pct_start, three_phase)
        names = THREE_PHASES if three_phase else TWO_PHASES
        self._schedule_phases = [{"end_step": end, **phase} for end, phase in zip(ends, names, strict=True)]
        self._anneal_func_type = anneal_strategy
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._begin_momentum(base_momentum, max_momentum, last_epoch)
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, max_lrs, strict=True):
                group["initial_lr"] = lr / div_factor
                group["max_lr"] = lr
                group["min_lr"] = group["initial_lr"] / final_div_factor
        super().__init__(optimizer, last_epoch)

    def _next_lrs(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"Tried to step {self.last_epoch} times. "
                f"The specified number of total steps is {self.total_steps}"
            )
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                self._set_momentum(group, self._along("momentum", group))
        return [self._along("lr", group) for group in self.optimizer.param_groups]

    def _along(self, what: str, group: dict[str, Any]) -> Any:
        phases = self._schedule_phases
        levels = [(group[phase[f"start_{what}"]], group[phase[f"end_{what}"]]) for phase in phases]
        ends = [phase["end_step"] for phase in phases]
        return phased(self.last_epoch, ends, levels, ANNEALS[self._anneal_func_type])


def _phase(*names: str) -> dict[str, Any]:
    return dict(zip(("start_lr", "end_lr", "start_momentum", "end_momentum"), names, strict=True))


TWO_PHASES = [
    _phase("initial_lr", "max_lr", "max_momentum", "base_momentum"),
    _phase("max_lr", "min_lr", "base_momentum", "max_momentum"),
]
THREE_PHASES = [
    _phase("initial_lr", "max_lr", "max_momentum", "base_momentum"),
    _phase("max_lr", "initial_lr", "base_momentum", "max_momentum"),
    _phase("initial_lr", "min_lr", "max_momentum", "max_momentum"),
]
"""The levels between which the phases of one cycle lead, by their names in a group."""

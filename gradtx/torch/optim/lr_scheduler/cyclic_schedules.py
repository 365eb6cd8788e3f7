"""The cyclic schedulers as schedules, of the learning rate and of the momentum; see `schedules`."""

from collections.abc import Callable
from typing import Any

from gradtx.arrays.types import Scalar
from gradtx.schedules.arithmetic import exact
from gradtx.torch.optim.lr_scheduler.arguments import (
    check_anneal,
    check_cycle,
    check_pct_start,
    steps_of_one_cycle,
)
from gradtx.torch.optim.lr_scheduler.formulas import ANNEALS, SCALES, phase_ends, phased, triangle, where
from gradtx.torch.optim.lr_scheduler.schedules import Steps
from gradtx.values.domains import Number, Schedule, Static
from gradtx.values.schedule import schedule

Scale = Callable[[Any], Any]


@schedule
def cyclic_lr(
    base_lr: Number,
    max_lr: Number,
    step_size_up: Steps = 2000,
    step_size_down: Steps | None = None,
    mode: Static[str] = "triangular",
    gamma: Number = 1.0,
    scale_fn: Static[Scale | None] = None,
    scale_mode: Static[str] = "cycle",
) -> Schedule:
    """Straight up and down again between two rates, for ever: `CyclicLR`.

    value(count) = base_lr + (max_lr − base_lr)·h·s with the height h from 0 to 1 in step_size_up steps and
    back in step_size_down, and the scale s: 1 ("triangular"), ½ᶜ⁻¹ in the c-th cycle ("triangular2"),
    gammaᶜᵒᵘⁿᵗ ("exp_range"), or scale_fn of c or of the count.

    Args:
        base_lr: the value at count 0 and between cycles.
        max_lr: the value at the top, where s is 1.
        step_size_up: the steps up, above 0. Default: 2000.
        step_size_down: the steps down, above 0. Default: step_size_up.
        mode: "triangular", "triangular2" or "exp_range"; without effect if there is a scale_fn. Default:
            "triangular".
        gamma: of "exp_range". Default: 1.
        scale_fn: the scale, a function that JAX can trace. Default: that of the mode.
        scale_mode: whether scale_fn is one of the number of the "cycle", from 1, or of the count
            ("iterations"). Default: "cycle".

    Raises:
        ValueError: if the mode is unknown and there is no scale_fn.

    Source: Smith, Cyclical learning rates for training neural networks, arXiv:1506.01186.
    """
    height = _height(step_size_up, step_size_down, mode, gamma, scale_fn, scale_mode)

    def value(count: Any) -> Scalar:
        up, scale = height(exact(count))
        return base_lr + (max_lr - base_lr) * up * scale

    return value


@schedule
def cyclic_momentum(
    step_size_up: Steps = 2000,
    step_size_down: Steps | None = None,
    mode: Static[str] = "triangular",
    gamma: Number = 1.0,
    scale_fn: Static[Scale | None] = None,
    scale_mode: Static[str] = "cycle",
    base_momentum: Number = 0.8,
    max_momentum: Number = 0.9,
) -> Schedule:
    """The momentum, or beta1, that `CyclicLR` sets against the learning rate.

    value(count) = max_momentum − (max_momentum − base_momentum)·h·s, h and s as in `cyclic_lr`.

    Args:
        step_size_up, step_size_down, mode, gamma, scale_fn, scale_mode: as in `cyclic_lr`.
        base_momentum: the value where the rate is highest. Default: 0.8.
        max_momentum: the value where the rate is lowest. Default: 0.9.
    """
    height = _height(step_size_up, step_size_down, mode, gamma, scale_fn, scale_mode)

    def value(count: Any) -> Scalar:
        up, scale = height(exact(count))
        return max_momentum - (max_momentum - base_momentum) * up * scale

    return value


@schedule
def one_cycle_lr(
    max_lr: Number,
    total_steps: Static[int | None] = None,
    epochs: Static[int | None] = None,
    steps_per_epoch: Static[int | None] = None,
    pct_start: Number = 0.3,
    anneal_strategy: Static[str] = "cos",
    div_factor: Number = 25.0,
    final_div_factor: Number = 1e4,
    three_phase: Static[bool] = False,
) -> Schedule:
    """One cycle: up to a high rate, and down to almost nothing: `OneCycleLR`.

    With initial = max_lr / div_factor and min = initial / final_div_factor, the value is initial at count 0,
    max_lr at pct_start·total_steps − 1 and min at total_steps − 1, along half a cosine wave or a straight
    line between; with three phases it is initial again at 2·pct_start·total_steps − 2. At total_steps, one
    step too far, it is PyTorch's, past the end of the curve; after that, where PyTorch raises, it is min.

    Args:
        max_lr: the highest value.
        total_steps: the number of steps. Default: epochs · steps_per_epoch.
        epochs, steps_per_epoch: instead of total_steps.
        pct_start: the share of the steps on the way up, a float in [0, 1]. Default: 0.3.
        anneal_strategy: "cos" or "linear". Default: "cos".
        div_factor: max_lr is so many times the first value. Default: 25.
        final_div_factor: the first value is so many times the last. Default: 10⁴.
        three_phase: whether the way down has two parts. Default: no.

    Raises:
        ValueError: if an argument is outside its domain.

    Source: Smith and Topin, Super-convergence: very fast training of neural networks using large learning
    rates, arXiv:1708.07120.
    """
    first = max_lr / div_factor
    last = first / final_div_factor
    levels = [first, max_lr, first, last] if three_phase else [first, max_lr, last]
    return _one_cycle(levels, total_steps, epochs, steps_per_epoch, pct_start, anneal_strategy)


@schedule
def one_cycle_momentum(
    total_steps: Static[int | None] = None,
    epochs: Static[int | None] = None,
    steps_per_epoch: Static[int | None] = None,
    pct_start: Number = 0.3,
    anneal_strategy: Static[str] = "cos",
    base_momentum: Number = 0.85,
    max_momentum: Number = 0.95,
    three_phase: Static[bool] = False,
) -> Schedule:
    """The momentum, or beta1, that `OneCycleLR` sets against the learning rate.

    It is max_momentum at count 0, base_momentum where the rate of `one_cycle_lr` is highest, and
    max_momentum at the end of the next phase, where it stays in a third one.

    Args:
        total_steps, epochs, steps_per_epoch, pct_start, anneal_strategy, three_phase: as in `one_cycle_lr`.
        base_momentum: the value where the rate is highest. Default: 0.85.
        max_momentum: the value where the rate is lowest. Default: 0.95.
    """
    levels = [max_momentum, base_momentum, max_momentum] + [max_momentum] * three_phase
    return _one_cycle(levels, total_steps, epochs, steps_per_epoch, pct_start, anneal_strategy)


def _height(up: Any, down: Any, mode: str, gamma: Any, scale_fn: Scale | None, scale_mode: str) -> Any:
    check_cycle(mode, scale_fn, SCALES)
    up = exact(up)
    total = up + (up if down is None else exact(down))
    scale_mode, scale_of = SCALES[mode] if scale_fn is None else (scale_mode, lambda gamma, x: scale_fn(x))

    def height(count: Any) -> tuple[Any, Any]:
        cycle, share = triangle(count, total, up / total)
        return share, scale_of(gamma, cycle if scale_mode == "cycle" else count)

    return height


def _one_cycle(
    levels: list[Any], total_steps: Any, epochs: Any, steps_per_epoch: Any, pct_start: Any, anneal: str
) -> Callable[[Any], Scalar]:
    total = steps_of_one_cycle(total_steps, epochs, steps_per_epoch)
    check_pct_start(pct_start)
    check_anneal(anneal)
    ways = list(zip(levels, levels[1:], strict=False))
    ends = phase_ends(total, pct_start, len(ways) == 3)

    def value(count: Any) -> Scalar:
        count = exact(count)
        return phased(where(count > total, total - 1, count), ends, ways, ANNEALS[anneal])

    return value

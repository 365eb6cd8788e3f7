"""The schedulers as schedules: the learning rate as a function of the count, to be the `lr` of a function.

``value(count)`` is the rate that PyTorch's scheduler, alone and stepped after each optimizer step, has in
force for the optimizer step number count + 1. Python numbers and counts give Python numbers, in double
precision; arrays and tracers give arrays.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from gradtx.arrays.types import Scalar
from gradtx.schedules.arithmetic import exact
from gradtx.schedules.join import join_schedules
from gradtx.torch.optim.lr_scheduler.arguments import (
    check_anneal,
    check_anneal_epochs,
    check_constant,
    check_linear,
    check_number_of_parts,
    check_restarts,
)
from gradtx.torch.optim.lr_scheduler.formulas import (
    ANNEALS,
    cosine,
    held,
    linear,
    on_host,
    polynomial,
    power,
    restart,
    stepped,
    stepped_at,
    where,
)
from gradtx.values.domains import Interval, NonNegative, Number, Positive, ScalarOrSchedule, Schedule, Static
from gradtx.values.schedule import schedule

Steps = Annotated[ScalarOrSchedule, Interval("(0, inf)")]
"""The length of what is repeated."""


@schedule
def lambda_lr(lr: Number, lr_lambda: Static[Callable[[Any], Any]]) -> Schedule:
    """A rate times a function of the count: `LambdaLR`.

    value(count) = lr·lr_lambda(count).

    Args:
        lr: the rate.
        lr_lambda: a function from the count to the factor. Under ``jit`` the count is traced, so it must be
            one that JAX can trace: ``jnp.where`` instead of ``if``.

    Raises:
        TypeError: if lr_lambda is no function.
    """
    if not callable(lr_lambda):
        raise TypeError(f"lr_lambda should be a function, but got {type(lr_lambda).__name__}")
    return lambda count: lr * lr_lambda(count)


@schedule
def step_lr(lr: Number, step_size: Positive, gamma: Number = 0.1) -> Schedule:
    """By a factor every so many steps: `StepLR`.

    value(count) = lr·gammaᵏ with k = ⌊count / step_size⌋.

    Args:
        lr: the value at count 0.
        step_size: the number of steps between two changes, above 0.
        gamma: the factor. Default: 0.1.

    Example:
        >>> from gradtx.torch.optim.lr_scheduler import step_lr
        >>> [step_lr(1.0, step_size=30, gamma=0.5)(count) for count in (29, 30, 60)]
        [1.0, 0.5, 0.25]
    """
    return lambda count: stepped(lr, exact(count), exact(step_size), gamma)


@schedule
def multi_step_lr(lr: Number, milestones: Sequence[int], gamma: Number = 0.1) -> Schedule:
    """By a factor at each milestone: `MultiStepLR`.

    value(count) = lr·gammaᵏ with k the number of milestones ≤ count, a repeated one counted each time.

    Args:
        lr: the value before the first milestone.
        milestones: counts, in any order.
        gamma: the factor. Default: 0.1.
    """
    return lambda count: stepped_at(lr, exact(count), [exact(milestone) for milestone in milestones], gamma)


@schedule
def constant_lr(lr: Number, factor: Number = 1.0 / 3, total_iters: NonNegative = 5) -> Schedule:
    """A share of the rate for the first steps: `ConstantLR`.

    value(count) = lr·factor for count < total_iters, then lr.

    Args:
        lr: the value after total_iters.
        factor: the share, in [0, 1]; 0 is no error here. Default: 1/3.
        total_iters: the number of steps at that share; with 0 it lasts for ever, as in PyTorch. Default: 5.

    Raises:
        ValueError: if factor is not in [0, 1].
    """
    check_constant(factor)
    return lambda count: held(lr, exact(count), factor, _never_if_0(total_iters))


@schedule
def linear_lr(
    lr: Number, start_factor: Number = 1.0 / 3, end_factor: Number = 1.0, total_iters: NonNegative = 5
) -> Schedule:
    """From one share of the rate to another along a straight line: `LinearLR`.

    value(count) = lr·(start_factor + (end_factor − start_factor)·min(count / total_iters, 1)).

    Args:
        lr: what the factors are shares of.
        start_factor: the first share, in (0, 1]. Default: 1/3.
        end_factor: the last share, in [0, 1]. Default: 1.
        total_iters: the number of steps that it takes; with 0 the value stays at the first share, as in
            PyTorch. Default: 5.

    Raises:
        ValueError: if a factor is outside its domain.
    """
    check_linear(start_factor, end_factor)
    return lambda count: linear(lr, exact(count), start_factor, end_factor, _never_if_0(total_iters))


@schedule
def exponential_lr(lr: Number, gamma: Number) -> Schedule:
    """By a factor every step: `ExponentialLR`.

    value(count) = lr·gammaᶜᵒᵘⁿᵗ.

    Args:
        lr: the value at count 0.
        gamma: the factor.
    """
    return lambda count: lr * power(gamma, exact(count))


@schedule
def polynomial_lr(lr: Number, total_iters: NonNegative = 5, power: NonNegative = 1.0) -> Schedule:
    """Down to 0 along a power of the share of steps still to go: `PolynomialLR`.

    value(count) = lr·(1 − min(count / total_iters, 1))ᵖᵒʷᵉʳ.

    Args:
        lr: the value at count 0.
        total_iters: the number of steps that it takes; with 0 the value stays lr, as in PyTorch. Default: 5.
        power: of the polynomial, at least 0. Default: 1.
    """
    return lambda count: polynomial(lr, exact(count), _never_if_0(total_iters), power)


@schedule
def cosine_annealing_lr(lr: Number, T_max: Steps, eta_min: Number = 0.0) -> Schedule:
    """Between two rates along a cosine wave, down and up again: `CosineAnnealingLR`.

    value(count) = eta_min + (lr − eta_min)·½(1 + cos(π·count / T_max)). It does not end at T_max: the wave
    goes up again to lr at 2·T_max. `gradtx.cosine_decay_schedule` ends.

    Args:
        lr: the value at count 0.
        T_max: the steps of half a wave, above 0.
        eta_min: the value at T_max. Default: 0.
    """
    return lambda count: cosine(lr, exact(count), exact(T_max), eta_min)


@schedule
def cosine_annealing_warm_restarts(
    lr: Number, T_0: Static[int], T_mult: Static[int] = 1, eta_min: Number = 0.0
) -> Schedule:
    """Down along half a cosine wave, and again from the top: `CosineAnnealingWarmRestarts`.

    value(count) = eta_min + (lr − eta_min)·½(1 + cos(π·c / p)) with c the count since the last restart and
    p the length of the period.

    Args:
        lr: the value at each restart.
        T_0: the length of the first period, a positive integer.
        T_mult: each period is so many times the one before; an integer of at least 1. Default: 1.
        eta_min: what it comes down to. Default: 0.

    Raises:
        ValueError: if a period is outside its domain.
    """
    check_restarts(T_0, T_mult)
    return lambda count: cosine(lr, *restart(exact(count), T_0, T_mult), eta_min)


@schedule
def swa_lr(
    lr: Number, swa_lr: Number, anneal_epochs: Static[int] = 10, anneal_strategy: Static[str] = "cos"
) -> Schedule:
    """From one rate to that of stochastic weight averaging, where it stays: `SWALR`.

    value(count) = swa_lr + (lr − swa_lr)·w(min(count / anneal_epochs, 1)) with w(s) = ½(1 + cos(π·s))
    ("cos") or 1 − s ("linear").

    Args:
        lr: the value at count 0.
        swa_lr: the value from anneal_epochs on.
        anneal_epochs: the number of steps that it takes, an integer of at least 0. Default: 10.
        anneal_strategy: "cos" or "linear". Default: "cos".

    Raises:
        ValueError: if anneal_epochs or anneal_strategy is outside its domain.
    """
    check_anneal(anneal_strategy)
    check_anneal_epochs(anneal_epochs)
    anneal, steps = ANNEALS[anneal_strategy], max(1, anneal_epochs)

    def value(count: Any) -> Scalar:
        count = exact(count) if anneal_epochs else 1
        return anneal(lr, swa_lr, where(count < steps, 1.0 * count / steps, 1.0))

    return value


@schedule
def sequential_lr(schedulers: Sequence[Schedule], milestones: Sequence[int]) -> Schedule:
    """Schedules one after another, each counting from its own start: `SequentialLR`.

    value(count) = sᵢ(count − mᵢ₋₁) from milestone mᵢ₋₁ up to mᵢ, where it is the next one's turn. It is
    `gradtx.join_schedules` with PyTorch's words, and nests as it should.

    Args:
        schedulers: functions of the count: `linear_lr(0.1)`, `cosine_annealing_lr(0.1, 100)`, ...; at least
            one.
        milestones: the counts at which the second, third, ... begin; none below the one before it.

    Raises:
        ValueError: if there is no schedule, or not one milestone between each two.
    """
    if not schedulers:
        raise ValueError("sequential_lr expects at least one scheduler, but got no scheduler.")
    check_number_of_parts(schedulers, milestones)
    joint = join_schedules(schedulers, milestones)

    def value(count: Any) -> Scalar:
        count = exact(count)
        if not on_host(count, *milestones):
            return joint(count)
        i = bisect_right(milestones, count)
        return schedulers[i](count - milestones[i - 1] if i else count)

    return value


def _never_if_0(total_iters: Any) -> Any:
    # PyTorch looks for the end after the first step only, so that one at count 0 is never met.
    return where(exact(total_iters) > 0, exact(total_iters), math.inf)

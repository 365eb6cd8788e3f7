"""Schedules that begin with a straight line up."""

from typing import Any

import jax.numpy as jnp

from gradtx.schedules.decay import cosine_decay_schedule, exponential_decay, linear_schedule
from gradtx.schedules.join import joined
from gradtx.values.domains import NonNegative, Number, Positive, Schedule, Static
from gradtx.values.parts import is_number
from gradtx.values.schedule import schedule


@schedule
def warmup_constant_schedule(init_value: Number, peak_value: Number, warmup_steps: NonNegative) -> Schedule:
    """A straight line up, then constant: `linear_schedule` with the words of a warm-up.

    value(count) = init_value + (peak_value − init_value)·min(count / warmup_steps, 1).
    After warmup_steps it stays at peak_value.

    Args:
        init_value: the value at count 0.
        peak_value: the value after the warm-up.
        warmup_steps: the length of the warm-up; if it is 0, the value stays init_value.
    """
    return linear_schedule(init_value, peak_value, warmup_steps)


@schedule
def warmup_cosine_decay_schedule(
    init_value: Number,
    peak_value: Number,
    warmup_steps: NonNegative,
    decay_steps: Positive,
    end_value: Number = 0.0,
    exponent: NonNegative = 1.0,
) -> Schedule:
    """A straight line up, then half a cosine wave down.

    For count < warmup_steps: `linear_schedule` from init_value to peak_value. From there, with
    w = ½(1 + cos(π·(count − warmup_steps) / (decay_steps − warmup_steps))):
    value(count) = end_value + (peak_value − end_value)·wᵉˣᵖᵒⁿᵉⁿᵗ.
    After decay_steps it stays at end_value.

    Args:
        init_value: the value at count 0.
        peak_value: the value after the warm-up. If it is 0, the value stays 0 from there on, whatever
            end_value is.
        warmup_steps: the length of the warm-up, at least 0.
        decay_steps: the length of the whole, the warm-up included; above warmup_steps.
        end_value: the value at the end. Default: 0.
        exponent: of the wave, at least 0. Default: 1.

    Example:
        >>> import gradtx
        >>> lr = gradtx.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps=10, decay_steps=30, end_value=0.5)
        >>> [round(float(lr(count)), 3) for count in (0, 5, 10, 20, 30)]
        [0.0, 0.5, 1.0, 0.75, 0.5]
    """
    if is_number(warmup_steps) and is_number(decay_steps) and decay_steps <= warmup_steps:
        raise ValueError(
            "warmup_cosine_decay_schedule: decay_steps, which includes the warm-up, must be above "
            f"warmup_steps, got decay_steps={decay_steps!r}, warmup_steps={warmup_steps!r}"
        )
    alpha = _share_of(peak_value, end_value)
    decay = cosine_decay_schedule(peak_value, decay_steps - warmup_steps, alpha, exponent)
    return joined([linear_schedule(init_value, peak_value, warmup_steps), decay], [warmup_steps])


@schedule
def warmup_exponential_decay_schedule(
    init_value: Number,
    peak_value: Number,
    warmup_steps: NonNegative,
    transition_steps: Number,
    decay_rate: NonNegative,
    transition_begin: Number = 0,
    staircase: Static[bool] = False,
    end_value: Number | None = None,
) -> Schedule:
    """A straight line up, then a constant factor per period.

    For count < warmup_steps: `linear_schedule` from init_value to peak_value. From there
    `exponential_decay` from peak_value, counted from the end of the warm-up; it goes on without end,
    unless end_value bounds it.

    Args:
        init_value: the value at count 0.
        peak_value: the value after the warm-up.
        warmup_steps: the length of the warm-up, at least 0.
        transition_steps, decay_rate, transition_begin, staircase, end_value: as in `exponential_decay`.
    """
    warmup = linear_schedule(init_value, peak_value, warmup_steps)
    decay = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return joined([warmup, decay], [warmup_steps])


def _share_of(whole: Any, part: Any) -> Any:
    """part / whole; where the whole is 0, any finite number will do, for it is multiplied by the whole."""
    return part / (whole or 1) if is_number(whole) else part / jnp.where(whole == 0, 1, whole)

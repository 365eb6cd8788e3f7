"""Schedules that go up and down: one cycle, or restarts."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any

import jax.numpy as jnp

from gradtx.arrays.types import Scalar
from gradtx.schedules.arithmetic import half_cosine, straight
from gradtx.schedules.join import joined
from gradtx.schedules.piecewise import through
from gradtx.schedules.warmup import warmup_cosine_decay_schedule
from gradtx.values.domains import Interval, Number, Positive, Schedule
from gradtx.values.parts import is_number
from gradtx.values.schedule import schedule

Share = Annotated[Scalar, Interval("[0, 1]")]


@schedule
def linear_onecycle_schedule(
    transition_steps: Positive,
    peak_value: Number,
    pct_start: Share = 0.3,
    pct_final: Share = 0.85,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
) -> Schedule:
    """One cycle of straight lines: up, down by the same amount, and down to almost nothing.

    With init = peak_value / div_factor, the value is init at count 0, peak_value at
    ⌊pct_start·transition_steps⌋, init again at ⌊pct_final·transition_steps⌋ and
    init / final_div_factor at transition_steps, on straight lines between. There it stays.

    Args:
        transition_steps: the length of the whole, above 0.
        peak_value: the highest value.
        pct_start: where the peak is, as a share of the whole: in [0, 1]. Default: 0.3.
        pct_final: where the last part begins, as a share of the whole: in [pct_start, 1]. Default: 0.85.
        div_factor: peak_value is so many times the first value; above 0. Default: 25.
        final_div_factor: the first value is so many times the last one; above 0. Default: 10⁴.

    Boundaries are rounded down in double precision. Where pct_start, pct_final or transition_steps is
    traced, they are rounded in its precision: a product within rounding of a whole number can move one by a
    step.

    Source: Smith and Topin, Super-convergence: very fast training of neural networks using large learning
    rates, arXiv:1708.07120.
    """
    if is_number(pct_start) and is_number(pct_final) and pct_final < pct_start:
        raise ValueError(
            "linear_onecycle_schedule: pct_final must be at least pct_start, "
            f"got pct_final={pct_final!r}, pct_start={pct_start!r}"
        )
    init_value = peak_value / div_factor
    levels = [init_value, peak_value, init_value, init_value / final_div_factor]
    top, foot = _floor(pct_start * transition_steps), _floor(pct_final * transition_steps)
    return through(levels, [top, foot, transition_steps], straight)


@schedule
def cosine_onecycle_schedule(
    transition_steps: Positive,
    peak_value: Number,
    pct_start: Share = 0.3,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
) -> Schedule:
    """One cycle of half cosine waves: up, and down to almost nothing.

    With init = peak_value / div_factor, the value is init at count 0, peak_value at
    ⌊pct_start·transition_steps⌋ and init / final_div_factor at transition_steps, on half cosine waves
    between. There it stays. Traced boundaries are rounded as in `linear_onecycle_schedule`.

    Args:
        transition_steps: the length of the whole, above 0.
        peak_value: the highest value.
        pct_start: where the peak is, as a share of the whole: in [0, 1]. Default: 0.3.
        div_factor: peak_value is so many times the first value; above 0. Default: 25.
        final_div_factor: the first value is so many times the last one; above 0. Default: 10⁴.

    Source: Smith and Topin, Super-convergence: very fast training of neural networks using large learning
    rates, arXiv:1708.07120.
    """
    init_value = peak_value / div_factor
    levels = [init_value, peak_value, init_value / final_div_factor]
    return through(levels, [_floor(pct_start * transition_steps), transition_steps], half_cosine)


@schedule
def sgdr_schedule(cosine_kwargs: Sequence[Mapping[str, Any]]) -> Schedule:
    """Warm restarts: cycles of warm-up and cosine decay, one after another.

    Each cycle is a `warmup_cosine_decay_schedule` counted from its own start; it ends after its
    decay_steps. After the last cycle the value stays at its end_value.

    Args:
        cosine_kwargs: for each cycle the arguments of `warmup_cosine_decay_schedule`, as a dict.

    Example:
        >>> import gradtx
        >>> cycle = dict(init_value=0.0, peak_value=1.0, warmup_steps=2, decay_steps=10)
        >>> restarts = gradtx.sgdr_schedule([cycle, {**cycle, "peak_value": 0.5}])
        >>> [round(float(restarts(count)), 3) for count in (0, 2, 6, 10, 12, 16, 20)]
        [0.0, 1.0, 0.5, 0.0, 0.5, 0.25, 0.0]

    Source: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, arXiv:1608.03983.
    """
    if not isinstance(cosine_kwargs, list | tuple) or not cosine_kwargs:
        raise TypeError(
            f"sgdr_schedule: cosine_kwargs must be a list of dicts, one per cycle, got {cosine_kwargs!r}"
        )
    cycles = [warmup_cosine_decay_schedule(**kwargs) for kwargs in cosine_kwargs]
    ends = list(accumulate(kwargs["decay_steps"] for kwargs in cosine_kwargs))
    return joined(cycles, ends[:-1])


def _floor(x: Any) -> Any:
    return int(x) if is_number(x) else jnp.floor(x)

"""Schedules that go one way: along a power, along half a cosine wave, or by a factor per period."""

from typing import Any

import jax.numpy as jnp

from gradtx.arrays.types import Array, Scalar
from gradtx.schedules.arithmetic import at_least_0, exact, half_cosine, mix, raised, remaining, since
from gradtx.values.domains import NonNegative, Number, Positive, Schedule, Static
from gradtx.values.schedule import schedule


@schedule
def polynomial_schedule(
    init_value: Number,
    end_value: Number,
    power: NonNegative,
    transition_steps: Number,
    transition_begin: Number = 0,
) -> Schedule:
    """From one value to another along a power of the share of steps still to go.

    With s = 1 − (count − transition_begin) / transition_steps, kept within [0, 1]:
    value(count) = end_value + (init_value − end_value)·sᵖᵒʷᵉʳ.
    Before transition_begin it is init_value; after transition_steps more it stays at end_value.

    Args:
        init_value: the value at the start.
        end_value: the value at the end; it may be the larger one.
        power: of the polynomial, at least 0: 1 is a straight line, above 1 falls fast first.
        transition_steps: how many steps it takes; if it is not positive, the value stays init_value.
        transition_begin: how many steps init_value is held first; negative counts as 0. Default: 0.

    Example:
        >>> import gradtx
        >>> decay = gradtx.polynomial_schedule(1.0, 0.0, power=2, transition_steps=4)
        >>> [float(decay(count)) for count in (0, 2, 4, 100)]
        [1.0, 0.25, 0.0, 0.0]
    """
    begin = at_least_0(transition_begin)

    def value(count: Any) -> Array:
        share = remaining(since(count, begin), transition_steps)
        return mix(init_value, end_value, raised(share, power))

    return value


@schedule
def linear_schedule(
    init_value: Number, end_value: Number, transition_steps: Number, transition_begin: Number = 0
) -> Schedule:
    """From one value to another along a straight line: `polynomial_schedule` of power 1.

    value(count) = init_value + (end_value − init_value)·(count − transition_begin) / transition_steps,
    between transition_begin and transition_steps more; init_value before it, end_value after.

    Args:
        init_value: the value at the start.
        end_value: the value at the end.
        transition_steps: how many steps it takes; if it is not positive, the value stays init_value.
        transition_begin: how many steps init_value is held first; negative counts as 0. Default: 0.

    Example:
        >>> import gradtx
        >>> warmup = gradtx.linear_schedule(0.0, 1.0, transition_steps=100)
        >>> [float(warmup(count)) for count in (0, 50, 100, 200)]
        [0.0, 0.5, 1.0, 1.0]
    """
    return polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


@schedule
def cosine_decay_schedule(
    init_value: Number, decay_steps: Positive, alpha: Number = 0.0, exponent: NonNegative = 1.0
) -> Schedule:
    """From a value down to a share of it along half a cosine wave.

    With w = ½(1 + cos(π·min(count, decay_steps) / decay_steps)):
    value(count) = init_value·((1 − alpha)·wᵉˣᵖᵒⁿᵉⁿᵗ + alpha).
    After decay_steps it stays at alpha·init_value.

    Args:
        init_value: the value at count 0.
        decay_steps: how many steps it takes, above 0.
        alpha: the last value as a share of init_value. Default: 0.
        exponent: of the wave, at least 0: above 1 falls faster. Default: 1.

    Source: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, arXiv:1608.03983.
    """

    def value(count: Any) -> Array:
        weight = half_cosine(remaining(count, decay_steps))
        return mix(init_value, alpha * init_value, raised(weight, exponent))

    return value


@schedule
def exponential_decay(
    init_value: Number,
    transition_steps: Number,
    decay_rate: NonNegative,
    transition_begin: Number = 0,
    staircase: Static[bool] = False,
    end_value: Number | None = None,
) -> Schedule:
    """By a constant factor per period, smoothly or in stairs.

    value(count) = init_value·decay_rateᵗ with t = (count − transition_begin) / transition_steps,
    rounded down for a staircase, and at least 0. It goes on without end, unless end_value bounds it.

    Args:
        init_value: the value at the start.
        transition_steps: the length of a period; if it is not positive, the value stays init_value.
        decay_rate: the factor per period, at least 0; if it is 0, the value stays init_value.
        transition_begin: how many steps init_value is held first; negative counts as 0. Default: 0.
        staircase: whether the value changes only at whole periods. Default: no.
        end_value: never passed: a lower bound if decay_rate is below 1, an upper bound otherwise, from
            count 0 on. Default: none.

    Example:
        >>> import gradtx
        >>> decay = gradtx.exponential_decay(1.0, 10, 0.5, staircase=True, end_value=0.2)
        >>> [round(float(decay(count)), 3) for count in (9, 10, 20, 30)]
        [1.0, 0.5, 0.25, 0.2]
    """
    begin = at_least_0(transition_begin)

    def value(count: Any) -> Array:
        decays = (exact(transition_steps) > 0) & (decay_rate != 0)
        # Where it does not decay, other numbers stand in, so that no branch of `where` divides by 0.
        rate, steps = jnp.where(decays, decay_rate, 1), jnp.where(decays, exact(transition_steps), 1)
        elapsed = since(count, begin)
        decayed = _after(init_value, rate, elapsed // steps if staircase else 1.0 * elapsed / steps)
        if end_value is None:
            return decayed
        bounded = jnp.where(decay_rate < 1, jnp.maximum(decayed, end_value), jnp.minimum(decayed, end_value))
        return jnp.where(decays, bounded, decayed)

    return value


@schedule
def step_lr(init_value: Number, step_size: Positive, gamma: Number = 0.1) -> Schedule:
    """By a factor every so many steps: PyTorch's ``StepLR``.

    value(count) = init_value·gammaᵏ with k = ⌊count / step_size⌋. It goes on without end.

    Args:
        init_value: the value at count 0.
        step_size: the number of steps between two changes, above 0.
        gamma: the factor. Default: 0.1.

    Example:
        >>> import gradtx
        >>> gradtx.step_lr(1.0, step_size=30, gamma=0.5)
        step_lr(init_value=1.0, step_size=30, gamma=0.5)
        >>> [float(gradtx.step_lr(1.0, step_size=30, gamma=0.5)(count)) for count in (29, 30, 60)]
        [1.0, 0.5, 0.25]
    """
    return lambda count: _after(init_value, gamma, exact(count) // exact(step_size))


def _after(init_value: Scalar, rate: Scalar, periods: Any) -> Array:
    return init_value * rate ** (1.0 * jnp.asarray(periods))

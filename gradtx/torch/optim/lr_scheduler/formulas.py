"""The learning rate at a count, each formula once: for Python numbers and for traced ones.

Python numbers are computed in double precision by PyTorch's own operations, so that a scheduler has its
numbers to the last bit. Arrays take the way that keeps the digits in single precision: integers are
subtracted and divided as integers, and nothing is lost to ``1 + cos`` near −1. Their results are weakly
typed, as Python numbers are.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from gradtx.schedules.arithmetic import LARGEST, exact, half_cosine, raised, remaining

Anneal = Callable[[Any, Any, Any], Any]
"""From start, end and the share of the way that is done, to the number there."""


# --- arithmetic of Python numbers and of arrays -----------------------------------------------------


def on_host(*xs: Any) -> bool:
    """Whether all of these are Python numbers."""
    return all(isinstance(x, int | float) for x in xs)


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, y elsewhere."""
    return (x if condition else y) if isinstance(condition, bool) else jnp.where(condition, x, y)


def power(base: Any, exponent: Any) -> Any:
    """base to a whole power."""
    if on_host(base, exponent):
        return base**exponent
    log = math.log(base) if on_host(base) and base > 0 else math.inf
    # A base near 1 is rounded before it is raised, and its error with it: 0.999 to the power of 10000 is
    # 3e-4 off in single precision. Its logarithm keeps the digits.
    if abs(log) < 1:
        return jnp.exp(exponent * log)
    # JAX cannot differentiate 0⁰.
    return jnp.where(exponent == 0, 1.0, base ** jnp.where(exponent == 0, 1.0, exponent))


def left(count: Any, steps: Any) -> Any:
    """The share of the way that is still to go: 1 at count 0, 0 from count `steps` on."""
    return 1.0 - min(steps, count) / steps if on_host(count, steps) else remaining(count, steps)


def half_wave(count: Any, period: Any = 1.0) -> Any:
    """½(1 + cos(π·count / period)): 1 at count 0, 0 at count `period`, and back."""
    if on_host(count, period):
        return (1 + math.cos(math.pi * count / period)) / 2
    return half_cosine(1.0 * abs(period - count % exact(2 * period)) / period)


def nonzero(length: Any) -> Any:
    """A length to divide by; 1 in place of 0, for a phase of no steps, whose start is its end."""
    return where(length == 0, 1.0, length)


# --- one way ----------------------------------------------------------------------------------------


def stepped(lr: Any, count: Any, step_size: Any, gamma: Any) -> Any:
    """lr·gammaᵏ with k = ⌊count / step_size⌋."""
    return lr * power(gamma, count // step_size)


def stepped_at(lr: Any, count: Any, milestones: Sequence[Any], gamma: Any) -> Any:
    """lr·gammaᵏ with k milestones at or before the count."""
    return lr * power(gamma, sum(count >= milestone for milestone in milestones))


def held(lr: Any, count: Any, factor: Any, total_iters: Any) -> Any:
    """lr·factor before total_iters, then lr."""
    return lr * where(count >= total_iters, 1.0, factor)


def linear(lr: Any, count: Any, start_factor: Any, end_factor: Any, total_iters: Any) -> Any:
    """lr times a factor on a straight line from start_factor to end_factor, where it stays."""
    return lr * (start_factor + (end_factor - start_factor) * (1 - left(count, total_iters)))


def polynomial(lr: Any, count: Any, total_iters: Any, exponent: Any) -> Any:
    """lr·(1 − count / total_iters)ᵉ, and 0 from total_iters on."""
    share = left(count, total_iters)
    return lr * (share**exponent if on_host(share, exponent) else raised(share, exponent))


def cosine(lr: Any, count: Any, period: Any, eta_min: Any) -> Any:
    """eta_min + (lr − eta_min)·½(1 + cos(π·count / period))."""
    return eta_min + (lr - eta_min) * half_wave(count, period)


# --- cycles -----------------------------------------------------------------------------------------


def restart(count: Any, first: int, growth: int) -> tuple[Any, Any]:
    """The count since the last restart and the length of its period; each is `growth` times the last."""
    if growth == 1:
        return count % first, first
    since, length = count, first
    begin, following = first, first * growth
    while begin <= LARGEST:
        later = count >= begin
        since, length = where(later, count - begin, since), where(later, exact(following), length)
        begin, following = begin + following, following * growth
    return since, length


def triangle(count: Any, total_size: Any, step_ratio: Any) -> tuple[Any, Any]:
    """The number of the cycle, from 1, and the height in it: from 0 to 1 at its step_ratio, and back."""
    if on_host(count, total_size):
        cycle = math.floor(1 + count / total_size)
        x = 1.0 + count / total_size - cycle
    else:
        cycle, x = 1 + count // total_size, 1.0 * (count % total_size) / total_size
    rising = x <= step_ratio
    return cycle, where(rising, x, x - 1) / where(rising, step_ratio, step_ratio - 1)


SCALES: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "triangular": ("cycle", lambda gamma, cycle: 1.0),
    "triangular2": ("cycle", lambda gamma, cycle: power(2.0, 1 - cycle)),
    "exp_range": ("iterations", power),
}
"""By mode: what the scale of a cycle's height is a function of, and that function of gamma and it."""


def annealed_cosine(start: Any, end: Any, done: Any) -> Any:
    """Half a cosine wave from start to end."""
    return end + (start - end) * half_wave(done)


def annealed_linear(start: Any, end: Any, done: Any) -> Any:
    """A straight line from start to end."""
    return (end - start) * done + start


ANNEALS: dict[str, Anneal] = {"cos": annealed_cosine, "linear": annealed_linear}
"""By anneal_strategy: the way between the levels of a cycle."""


def phase_ends(total_steps: Any, pct_start: Any, three_phase: bool) -> list[Any]:
    """The counts at which the phases of one cycle end; PyTorch does not round them."""
    middle = [2 * pct_start * total_steps - 2] if three_phase else []
    return [pct_start * total_steps - 1, *middle, total_steps - 1]


def phased(count: Any, ends: Sequence[Any], levels: Sequence[tuple[Any, Any]], anneal: Anneal) -> Any:
    """Phases one after another, each from one level to another; the last one goes on past its end."""
    values = [
        anneal(start, end, (count - begin) / nonzero(stop - begin))
        for begin, stop, (start, end) in zip([0.0, *ends], ends, levels, strict=False)
    ]
    value = values.pop()
    for stop, earlier in reversed(list(zip(ends, values, strict=False))):
        value = where(count <= stop, earlier, value)
    return value

"""The end of a chain for params of few digits: rounding by chance, or keeping what was rounded off.

Both hand out updates in at least float32, target − param, so that ``apply_updates`` arrives at the target
exactly, as long as it adds in float32 and then rounds: gradtx's and Optax's do.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.types import Array, Params
from gradtx.core.leafwise import leafwise
from gradtx.formats.noise import random_bits
from gradtx.formats.rounding import by_chance, inverse, rounded_to, spacing
from gradtx.values.domains import Static


class RoundStochasticallyState(NamedTuple):
    """count: int32 scalar, updates so far; seed: uint32 scalar."""

    count: Array
    seed: Array


@leafwise(state=RoundStochasticallyState, wide=True)
def round_stochastically(seed: int = 0):
    """Round params + update up or down by chance, so that the mean is right.

    A bfloat16 param does not move by a step below half its last digit, if that is rounded to the nearest; by
    chance it moves as often as is right on average. No master weights in float32 are needed.

    It is the last of a chain, and gives ``target - param`` in float32. Params of float32 stay as they are.

    Args:
        seed: where the random bits begin. They are those of the param's path and the step: the same in
            `jit` or out and over any devices. Over a `vmap` of states, each needs a seed of its own.

    Source: Zamirai et al., Revisiting BFloat16 training, arXiv:2010.06192.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.round_stochastically())
        >>> params = {"w": jnp.ones(10_000, jnp.bfloat16)}
        >>> updates, _ = tx.update({"w": jnp.full(10_000, -0.001, jnp.bfloat16)}, tx.init(params), params)
        >>> print(round(float(updates["w"].mean()), 4))
        0.001
    """

    def update(grad, param, dtype, key):
        target = rounded_to(param + grad, dtype, random_bits_of(key, grad.shape))
        return target - param

    return update


class CompensatedState(NamedTuple):
    """count: int32 scalar, updates so far; seed: uint32 scalar; residual: a tree like the params, what
    rounding has left behind so far, or its codes."""

    count: Array
    seed: Array
    residual: Params


@leafwise(state=CompensatedState, wide=True)
def compensated(bits: Static[int] = 16, seed: int = 0):
    """Keep what rounding the params takes off, and add it to the next update (Kahan's summation).

    With u the update and r the residual: y = u + r; target = param + y, rounded; r ← y − (target − param).

    It is the last of a chain, and gives ``target - param`` in float32. The residual itself is rounded by
    chance: to the nearest, small updates would lose the same share of each.

    Args:
        bits: of a residual: 32 for float32; 16 for bfloat16; 8 for a byte, in 127ths of half the distance of
            the numbers about the param. Default: 16.
        seed: where the random bits begin, as in `round_stochastically`.

    Source: W. Kahan, Further remarks on reducing truncation errors (1965); for 8 bits FlashOptim,
    arXiv:2602.23349.
    """
    if bits not in (8, 16, 32):
        raise ValueError(f"compensated: bits must be 8, 16 or 32, got {bits!r}")
    kept_as = {8: jnp.int8, 16: jnp.bfloat16, 32: jnp.float32}[bits]

    def init(param):
        return dict(residual=jnp.zeros_like(param, dtype=kept_as))

    def update(grad, param, dtype, residual, key):
        y = grad + residual.astype(grad.dtype) * (spacing(param, dtype) / 254 if bits == 8 else 1)
        step = rounded_to(param + y, dtype) - param
        left, chance = y - step, random_bits_of(key, grad.shape)
        if bits == 16:
            left = rounded_to(left, jnp.bfloat16, chance)
        if bits == 8:
            left = by_chance(left * (254 * inverse(spacing(param + step, dtype))), chance)
            left = jnp.where(jnp.isfinite(left), jnp.clip(left, -127, 127), 0).astype(jnp.int8)
        return step, dict(residual=left)

    return init, update


def random_bits_of(key: Array, shape: Sequence[int]) -> Array:
    """32 random bits for each number of a tensor, by a key that stands for this tensor and step."""
    words = jax.random.key_data(key)
    return random_bits(words[0] ^ words[-1], shape)

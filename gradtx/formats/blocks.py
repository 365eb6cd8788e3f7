"""Blocks along the last axis, each with the largest magnitude in it.

Codes have the shape of the tensor and blocks lie along its last axis, so a tensor that is sharded is coded
where it is: over any other axis, and over the last one where a block is not cut.
"""

import math

import jax.numpy as jnp
import numpy as np

from gradtx.arrays.numerics import extreme
from gradtx.arrays.types import Array


def in_blocks(x: Array, size: int) -> Array:
    """x with its last axis cut into blocks, (..., blocks, size); zeros fill up the last one."""
    length = x.shape[-1]
    missing = -length % size
    if missing:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
    return x.reshape(*x.shape[:-1], (length + missing) // size, size)


def scaled(x: Array, size: int) -> tuple[Array, Array]:
    """x divided by the largest magnitude of its block, from -1 to 1, and these magnitudes, (..., blocks).

    A block of zeros stays zero. A NaN or an infinity makes its whole block NaN: the magnitude is NaN then.
    """
    blocks = in_blocks(x, size)
    largest = extreme(jnp.max, jnp.abs(blocks), axis=-1, initial=0)
    scales = jnp.where(jnp.isfinite(largest), largest, jnp.nan)
    # XLA may multiply by 1/scale, which above 2¹²⁶ is a subnormal number of single precision, or 0.
    smaller = jnp.where(scales > 1, np.asarray(2.0**-4, x.dtype), 1)
    safe = jnp.where(scales == 0, 1, scales * smaller)
    z = (blocks * smaller[..., None]) / safe[..., None]
    whole = z.reshape(*x.shape[:-1], math.prod(blocks.shape[-2:]))
    return whole[..., : x.shape[-1]], scales


def unscaled(z: Array, scales: Array, size: int) -> Array:
    """z times the magnitude of its block."""
    blocks = in_blocks(z, size) * scales[..., None]
    return blocks.reshape(*z.shape[:-1], math.prod(blocks.shape[-2:]))[..., : z.shape[-1]]

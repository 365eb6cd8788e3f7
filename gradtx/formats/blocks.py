"""Blocks along the last axis, each with the largest magnitude in it.

Codes have the shape of the tensor and blocks lie along its last axis, so a tensor that is sharded is coded
where it is: over any other axis, and over the last one where a block is not cut.
"""

import math

import jax.numpy as jnp
import numpy as np

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

    A block of zeros stays zero. Where x is NaN or infinite this is NaN, and the rest of its block is as
    without it.
    """
    blocks = in_blocks(x, size)
    finite = jnp.isfinite(blocks)
    scales = jnp.max(jnp.where(finite, jnp.abs(blocks), 0), axis=-1, initial=0)
    # XLA may multiply by 1/scale, which above 2¹²⁶ is a subnormal number of single precision, or 0.
    smaller = jnp.where(scales > 1, np.asarray(2.0**-4, x.dtype), 1)
    safe = jnp.where(scales == 0, 1, scales * smaller)
    z = jnp.where(finite, (blocks * smaller[..., None]) / safe[..., None], jnp.nan)
    return _as_before(z, x.shape[-1]), scales


def with_nan(scales: Array, z: Array, size: int) -> Array:
    """The magnitudes of blocks, NaN for those that z has a NaN in: for codes that have none for NaN."""
    return jnp.where(jnp.any(jnp.isnan(in_blocks(z, size)), axis=-1), jnp.nan, scales)


def unscaled(z: Array, scales: Array, size: int) -> Array:
    """z times the magnitude of its block."""
    return _as_before(in_blocks(z, size) * scales[..., None], z.shape[-1])


def _as_before(blocks: Array, length: int) -> Array:
    """Blocks in a row again, without what filled up the last one."""
    whole = blocks.reshape(*blocks.shape[:-2], math.prod(blocks.shape[-2:]))
    return whole if whole.shape[-1] == length else whole[..., :length]

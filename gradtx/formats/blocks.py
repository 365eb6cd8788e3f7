"""Blocks along the last axis, each with the largest magnitude in it.

Codes have the shape of the tensor and blocks lie along its last axis, so a tensor that is sharded is coded
where it is: over any other axis, and over the last one where a block is not cut.
"""

import math

import jax
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

    A block of zeros stays zero. A NaN or an infinity makes its whole block NaN: the magnitude is NaN then.
    """
    blocks = in_blocks(x, size)
    scales = largest(blocks)
    # 1/scale above 2¹²⁶ is a subnormal number of single precision, or 0.
    smaller = jnp.where(scales > 1, np.asarray(2.0**-4, x.dtype), 1)
    inverse = 1 / jnp.where(scales == 0, 1, scales * smaller)
    return _as_before((blocks * smaller[..., None]) * inverse[..., None], x.shape[-1]), scales


def scaled_beside_nan(x: Array, size: int) -> tuple[Array, Array]:
    """`scaled` with NaN where x is not finite, and the rest of its block as without it: for codes of NaN."""
    finite = jnp.isfinite(x)
    z, scales = scaled(jnp.where(finite, x, 0), size)
    return jnp.where(finite, z, jnp.nan), scales


def largest(blocks: Array) -> Array:
    """The largest magnitude in each block, and NaN where there is a NaN or an infinity.

    It is found among the bits, as whole numbers, in whose order both come last. XLA on a CPU takes their
    maximum in the loop that computes the numbers, where it would write down all floating-point ones first.
    """
    bits = jax.lax.bitcast_convert_type(jnp.abs(blocks), np.dtype(f"uint{8 * blocks.dtype.itemsize}"))
    found = jax.lax.bitcast_convert_type(jnp.max(bits, axis=-1, initial=0), blocks.dtype)
    return jnp.where(jnp.isfinite(found), found, jnp.nan)


def unscaled(z: Array, scales: Array, size: int) -> Array:
    """z times the magnitude of its block."""
    return _as_before(in_blocks(z, size) * scales[..., None], z.shape[-1])


def _as_before(blocks: Array, length: int) -> Array:
    """Blocks in a row again, without what filled up the last one."""
    whole = blocks.reshape(*blocks.shape[:-2], math.prod(blocks.shape[-2:]))
    return whole if whole.shape[-1] == length else whole[..., :length]

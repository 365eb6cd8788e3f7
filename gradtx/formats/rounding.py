"""Rounding to a narrower dtype: to the nearest, or by chance."""

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.types import Array, DType


def rounded_to(x: Array, dtype: DType, bits: Array | None = None) -> Array:
    """x as numbers of another floating dtype hold it, in x's own dtype; NaN and infinity stay.

    With q the distance of the numbers of that dtype about x, it is q·round(x/q), ties to even; or by chance
    q·⌊x/q + u⌋ with u from [0, 1), whose mean is x.

    Args:
        x: real tensor.
        dtype: of fewer digits than x's, or of as many: then it is x.
        bits: random bits, uint32, for each number; for rounding by chance.
    """
    q = spacing(x, dtype)
    y = x * inverse(q)
    whole = jnp.round(y) if bits is None else by_chance(y, bits)
    return jnp.where(jnp.isfinite(x), whole * q, x)


def by_chance(x: Array, bits: Array) -> Array:
    """The whole number below x or above, such that the mean is x: ⌊x + u⌋ with u from [0, 1), of 16 bits.

    A number of single precision that lies between two of bfloat16 has, counted in their distance, 16 bits
    after the point at most: then the sum is exact.
    """
    return jnp.floor(x + (bits >> 16).astype(x.dtype) * np.asarray(2.0**-16, x.dtype))


def spacing(x: Array, dtype: DType) -> Array:
    """How far apart the numbers of a floating dtype are at x's size, a power of 2 in x's dtype.

    Numbers so small that x's dtype has no normal number for it are taken to be as far apart as its smallest.
    """
    own, other = jnp.finfo(x.dtype), jnp.finfo(dtype)
    words = np.dtype(f"uint{own.bits}")
    exponent = jax.lax.bitcast_convert_type(x, words) & words.type(((1 << own.nexp) - 1) << own.nmant)
    size = jnp.maximum(jax.lax.bitcast_convert_type(exponent, x.dtype), float(other.smallest_normal))
    return jnp.maximum(size * 2.0**-other.nmant, float(own.smallest_normal))


def inverse(q: Array) -> Array:
    """1/q exactly, for a power of 2 as `spacing` gives it; by its bits, for it is quicker than a division."""
    info = jnp.finfo(q.dtype)
    words = np.dtype(f"uint{info.bits}")
    twice_bias = words.type((2**info.nexp - 2) << info.nmant)
    return jax.lax.bitcast_convert_type(twice_bias - jax.lax.bitcast_convert_type(q, words), q.dtype)

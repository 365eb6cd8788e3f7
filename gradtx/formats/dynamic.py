"""Dynamic codes: seven decades, with twice as many codes in each as in the one below."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.types import Array
from gradtx.formats.blocks import scaled, unscaled
from gradtx.formats.format import format, unsigned
from gradtx.values.domains import Count

DECADES = 7


@format
def dynamic(signed: bool = True, block_size: Count = 256):
    """8 bits in a code whose steps grow with the number, for moments of any kind.

    Of x / max |x| of a block, each decade from 1e-7 to 1 has codes in the middles of equal parts: 1, 2, 4, …
    64 of them for signed numbers, twice as many for numbers of at least 0. There are codes for 0 and 1 too.
    x becomes the nearest; where it is not signed and not 0, never 0. The bytes are those of bitsandbytes.

    Args:
        signed: for numbers of either sign; otherwise for numbers of at least 0.
        block_size: how many numbers along the last axis share a scale, of 4 bytes.

    A NaN or an infinity makes its block NaN, and so does a number below 0 that must not be.

    Source: Dettmers et al., 8-bit optimizers via block-wise quantization, arXiv:2110.02861.
    """
    # A code without its sign, plus the shift, is the number of parts of its decade plus the place among them.
    shift, last = (0, 128) if signed else (1, 255)

    def encode(x):
        z, scales = scaled(x if signed else jnp.where(x < 0, jnp.nan, x), block_size)
        size = jnp.abs(z)
        code = nearest(size, shift, last)
        if not signed:
            code = jnp.where(x > 0, jnp.maximum(code, 1), code)
        signed_code = jnp.where(z < 0, -jnp.minimum(code, 127), code) + 127 if signed else code
        return dict(codes=signed_code.astype(jnp.uint8), scales=scales)

    def decode(codes, scales):
        whole = codes.astype(jnp.int32) - (127 if signed else 0)
        size = magnitude(jnp.abs(whole), shift, last, scales.dtype)
        return unscaled(jnp.where(whole < 0, -size, size), scales, block_size)

    return encode if signed else unsigned(encode), decode


def middle(decade: int, place: int, shift: int) -> float:
    """The magnitude of one part of a decade."""
    return 10.0 ** (decade - DECADES + 1) * (0.1 + 0.9 * (place + 0.5) / 2 ** (decade + shift))


def magnitude(code: Array, shift: int, last: int, dtype: Any) -> Array:
    """The magnitude of each code; see `middle`."""
    shifted = jnp.maximum(code + shift, 1 << shift).astype(jnp.uint32)
    decade = 31 - jax.lax.clz(shifted).astype(jnp.int32) - shift
    parts = jnp.left_shift(1 << shift, decade).astype(dtype)
    size = by_decade(decade, dtype) * (0.1 + 0.9 * (shifted.astype(dtype) - parts + 0.5) / parts)
    return jnp.where(code == 0, 0, jnp.where(code == last, 1, size)).astype(dtype)


def nearest(size: Array, shift: int, last: int) -> Array:
    """The code whose magnitude is nearest to each number from 0 to 1; NaN has any."""
    decade = jnp.zeros(size.shape, jnp.int32)
    for i in range(1, DECADES):
        decade = decade + (size >= (middle(i - 1, 2 ** (i - 1 + shift) - 1, shift) + middle(i, 0, shift)) / 2)
    parts = jnp.left_shift(1 << shift, decade)
    within = (size / by_decade(decade, size.dtype) - 0.1) / 0.9 * parts.astype(size.dtype)
    place = jnp.clip(jnp.nan_to_num(jnp.floor(within)).astype(jnp.int32), 0, parts - 1)
    highest = middle(DECADES - 1, 2 ** (DECADES - 1 + shift) - 1, shift)
    code = jnp.where(size >= (1 + highest) / 2, last, parts - shift + place)
    return jnp.where(size < middle(0, 0, shift) / 2, 0, code)


def by_decade(decade: Array, dtype: Any) -> Array:
    """10^(i−6) for each decade i; by selections, for looking up in a table is slow on a CPU."""
    found = jnp.ones(decade.shape, dtype)
    for i in range(DECADES - 1):
        found = jnp.where(decade == i, np.asarray(10.0 ** (i - DECADES + 1), dtype), found)
    return found

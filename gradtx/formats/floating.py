"""Floating-point numbers of fewer bits."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.formats.blocks import scaled_beside_nan, unscaled
from gradtx.formats.format import format
from gradtx.formats.rounding import rounded_to
from gradtx.values.domains import Count


@format
def floating(dtype: Any, *, stochastic: bool = False):
    """Numbers in another floating-point dtype, ``"bfloat16"`` for instance.

    Args:
        dtype: bfloat16, float16 or float32.
        stochastic: whether to round by chance, so that the mean of many roundings of a number is the number.
            An average that moves by less than half a digit at a time then moves; to the nearest it stays.

    float16 holds nothing above 65504: larger numbers become infinite. NaN and infinity stay.
    """
    dtype = jnp.dtype(dtype)

    def encode(x):
        return dict(codes=x.astype(dtype))

    def encode_by_chance(x, bits):
        return dict(codes=rounded_to(x, dtype, bits).astype(dtype))

    return encode_by_chance if stochastic else encode, lambda codes: codes


@format
def float8(dtype: Any = "float8_e4m3fn", block_size: Count = 128, *, stochastic: bool = False):
    """Floating-point numbers of 8 bits, with a scale for each block.

    The largest magnitude of a block becomes the largest number of the dtype. A number that is not 0 never
    becomes 0, but the smallest one.

    Args:
        dtype: ``"float8_e4m3fn"``, 3 bits after the point and 5 decades, for first moments; or
            ``"float8_e5m2"``, 2 bits and 9 decades, for second ones.
        block_size: how many numbers along the last axis share a scale, of 4 bytes.
        stochastic: whether to round by chance.

    NaN stays NaN, and an infinity becomes NaN.

    Source: Micikevicius et al., FP8 formats for deep learning, arXiv:2209.05433.
    """
    dtype = jnp.dtype(dtype)
    info = jnp.finfo(dtype)

    def kept(x, bits=None):
        z, scales = scaled_beside_nan(x, block_size)
        smallest = float(info.smallest_subnormal)
        near = rounded_to(z * float(info.max), dtype, bits)
        # Of x, for z may be 0 where a block has a much larger number.
        near = jnp.where((near == 0) & (x != 0), jnp.copysign(smallest, x).astype(x.dtype), near)
        # As bytes, which every library of checkpoints can write.
        return dict(codes=jax.lax.bitcast_convert_type(near.astype(dtype), jnp.uint8), scales=scales)

    def encode(x):
        return kept(x)

    def encode_by_chance(x, bits):
        return kept(x, bits)

    def decode(codes, scales):
        numbers = jax.lax.bitcast_convert_type(codes, dtype).astype(scales.dtype)
        return unscaled(numbers / float(info.max), scales, block_size)

    return encode_by_chance if stochastic else encode, decode

"""Companded codes: evenly spaced after a curve that gives small numbers more of them."""

from typing import Any

import jax.numpy as jnp

from gradtx.arrays.types import Array
from gradtx.formats.blocks import scaled, scaled_beside_nan, unscaled
from gradtx.formats.format import format, unsigned
from gradtx.formats.packing import packed, unpacked
from gradtx.formats.rounding import by_chance
from gradtx.values.domains import Count, Static


@format
def companded(bits: Static[int] = 8, block_size: Count = 32, *, stochastic: bool = False):
    """Signed numbers in whole codes, for first moments: with z = x / max |x| of a block,

    code = round(127 · 2z / (1 + |z|)), x = max |x| · y / (2 − |y|) for y = code / 127.

    A number is off by at most 0.8 % of the largest in its block, and one near 0 by half as much.

    Args:
        bits: of a code, 8 or 4. With 4 (from -7 to 7, two in a byte) trainings end at a higher loss.
        block_size: how many numbers along the last axis share a scale, of 4 bytes.
        stochastic: whether to round by chance, so that the mean of many codes of a number is its curve.

    NaN stays NaN, and an infinity becomes NaN; they have a code of their own, the lowest or the highest.

    Source: FlashOptim, arXiv:2602.23349.
    """
    check_bits("formats.companded", bits)
    levels, of_nan = (127, -128) if bits == 8 else (7, 8)

    def curve(x: Array) -> tuple[Array, Array]:
        z, scales = scaled_beside_nan(x, block_size)
        return levels * (2 * z / (1 + jnp.abs(z))), scales

    def kept(y: Array, scales: Array) -> dict[str, Array]:
        whole = jnp.where(jnp.isnan(y), of_nan, y)
        return dict(codes=whole.astype(jnp.int8) if bits == 8 else packed(whole + levels), scales=scales)

    def encode(x):
        y, scales = curve(x)
        return kept(jnp.round(y), scales)

    def encode_by_chance(x, bits):
        y, scales = curve(x)
        return kept(by_chance(y, bits), scales)

    def decode(codes, scales):
        whole = codes.astype(scales.dtype) if bits == 8 else unpacked(codes, scales.dtype) - levels
        y = jnp.where(whole == of_nan, jnp.nan, whole / levels)
        return unscaled(y * reciprocal(2 - jnp.abs(y)), scales, block_size)

    return encode_by_chance if stochastic else encode, decode


@format
def square_root(bits: Static[int] = 8, block_size: Count = 32, *, stochastic: bool = False):
    """Numbers of at least 0 in whole codes, for second moments: with z = x / max x of a block,

    code = round(255 · √z), and at least 1 where x > 0; x = max x · (code / 255)².

    A number is off by at most 0.4 % of the largest in its block; a small one that is not 0 never becomes 0,
    for the steps of such a number would have no bound.

    Args:
        bits: of a code, 8 or 4. With 4 (from 0 to 15, two in a byte) trainings end at a higher loss.
        block_size: how many numbers along the last axis share a scale, of 4 bytes.
        stochastic: whether to round by chance.

    A NaN or an infinity makes its block NaN, and so does a number below 0.

    Source: FlashOptim, arXiv:2602.23349.
    """
    check_bits("formats.square_root", bits)
    levels = 2**bits - 1

    def kept(x: Array, whole: Array, scales: Array) -> dict[str, Array]:
        # Rounded up where it would be 0; z itself may be 0, where a block has a much larger number.
        whole = jnp.where(x > 0, jnp.maximum(whole, 1), whole)
        codes = jnp.nan_to_num(whole).astype(jnp.uint8)
        return dict(codes=codes if bits == 8 else packed(codes), scales=scales)

    def curve(x: Array) -> tuple[Array, Array]:
        z, scales = scaled(jnp.where(x < 0, jnp.nan, x), block_size)
        return levels * jnp.sqrt(z), scales

    def encode(x):
        y, scales = curve(x)
        return kept(x, jnp.round(y), scales)

    def encode_by_chance(x, bits):
        y, scales = curve(x)
        return kept(x, by_chance(y, bits), scales)

    def decode(codes, scales):
        whole = codes.astype(scales.dtype) if bits == 8 else unpacked(codes, scales.dtype)
        return unscaled(jnp.square(whole / levels), scales, block_size)

    return unsigned(encode_by_chance if stochastic else encode), decode


def reciprocal(x: Array) -> Array:
    """1/x for x from 1 to 2, by Newton's iteration: off by 5e-8 at most, and exact at both ends.

    What was computed by a division XLA keeps for each place that needs it, at 4 bytes a number; the rest it
    computes again there.
    """
    r = 1.5 - 0.5 * x
    for _ in range(3):
        r = r * (2 - x * r)
    return r


def check_bits(name: str, bits: Any) -> None:
    """Raise unless there are codes of so many bits."""
    if bits not in (4, 8):
        raise ValueError(f"{name}: bits must be 8 or 4, got {bits!r}")

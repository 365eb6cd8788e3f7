"""Codes of 4 bits, two in a byte."""

import jax.numpy as jnp

from gradtx.arrays.types import Array, DType


def packed(codes: Array) -> Array:
    """Whole numbers from 0 to 15 two in a byte along the last axis; an odd one out has a byte alone."""
    if codes.shape[-1] % 2:
        codes = jnp.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, 1)])
    pairs = codes.astype(jnp.uint8).reshape(*codes.shape[:-1], -1, 2)
    return pairs[..., 0] | (pairs[..., 1] << 4)


def unpacked(codes: Array, dtype: DType) -> Array:
    """The whole numbers; for an odd number of them one too many."""
    pairs = jnp.stack([codes & 15, codes >> 4], axis=-1)
    return pairs.reshape(*codes.shape[:-1], 2 * codes.shape[-1]).astype(dtype)

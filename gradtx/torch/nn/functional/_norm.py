"""Magnitudes and norms, with PyTorch's derivatives where they have none."""

import math

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, extreme, sqrt
from gradtx.arrays.types import Array


def magnitude(x: Array) -> Array:
    """|x|, whose derivative is 0 at 0, where that of `jnp.abs` is 1, and at NaN."""
    if jnp.iscomplexobj(x):
        return sqrt(abs_sq(x))
    return x * jax.lax.stop_gradient(jnp.where(jnp.isnan(x), 0, jnp.sign(x)))


def vector_norm(x: Array, p: float, axis: int | None = None) -> Array:
    """(Σ|xᵢ|ᵖ)^(1/p) along an axis, or of all entries.

    For p = ∞ the largest |xᵢ|, for −∞ the smallest, for 0 the number of entries that are not 0. An
    empty sum is 0, and so is its norm. An entry of 0, and a norm of 0, have derivative 0; at p = ±∞,
    entries that tie share it.
    """
    size = magnitude(x)
    if p == math.inf:
        return extreme("max", size, axis, initial=0)
    if p == -math.inf:
        return extreme("min", size, axis, initial=jnp.inf)
    if p == 0:
        return jnp.sum(size != 0, axis).astype(size.dtype)
    return root(power_sum(x, p, axis), p)


def power_sum(x: Array, p: float, axis: int | None = None) -> Array:
    """Σ|xᵢ|ᵖ along an axis, or of all entries, for a p that is neither 0 nor infinite."""
    if p == 2:
        return jnp.sum(abs_sq(x), axis)
    size = magnitude(x)
    if p == 1:
        return jnp.sum(size, axis)
    zero = size == 0
    return jnp.sum(jnp.where(zero, 0 if p > 0 else jnp.inf, jnp.where(zero, 1, size) ** p), axis)


def root(total: Array, p: float) -> Array:
    """The p-norm of which this is the `power_sum`."""
    if p == 2:
        return sqrt(total)
    if p == 1:
        return total
    degenerate = (total == 0) | (jnp.isinf(total) & (p < 0))
    return jnp.where(degenerate, total if p > 0 else 1 / total, jnp.where(degenerate, 1, total) ** (1 / p))

"""Orthogonal updates: matrices whose singular values are all made alike."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from gradtx.arrays.types import Array


def newton_schulz(x: Array, coefficients: Sequence[Any], steps: int, eps: Any) -> Array:
    """The orthogonal matrix near x, by an odd polynomial that drives the singular values to about 1.

    X ← X / max(‖X‖, eps), then `steps` times X ← (a·I + b·A + c·A²)·X with A = X·Xᵀ. Products are summed
    in at least float32 and rounded to the dtype of x, as matrix units do.

    Args:
        x: a matrix; it is transposed meanwhile if it is tall, so that A is the smaller product.
        coefficients: a, b, c of the polynomial.
        steps: how often it is applied.
        eps: lower bound of the norm.

    Source: Jordan et al., Muon, 2024; Bernstein and Newhouse, Old optimizer, new norm, arXiv:2409.20325.
    """
    dtype, wide = x.dtype, jnp.promote_types(x.dtype, jnp.float32)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    size = jnp.sqrt(jnp.sum(jnp.square(x.astype(wide)))).astype(dtype)
    x = x / jnp.maximum(size, jnp.asarray(eps, dtype))
    for _ in range(steps):
        x = quintic(x, *coefficients)
    return x.mT if tall else x


def quintic(x: Array, a: Any, b: Any, c: Any) -> Array:
    """(a·I + b·A + c·A²)·X with A = X·Xᴴ: one step of Newton–Schulz, on the last two axes."""
    dtype, wide = x.dtype, jnp.promote_types(x.dtype, jnp.float32)
    outer = gram(x).astype(dtype)
    squared = jnp.matmul(outer, outer, preferred_element_type=wide)
    # With a inside the parenthesis the pass over X, the larger matrix, is the product alone.
    factor = a * jnp.eye(x.shape[-2], dtype=wide) + b * outer.astype(wide) + c * squared
    return jnp.matmul(factor.astype(dtype), x, preferred_element_type=wide).astype(dtype)


def gram(x: Array) -> Array:
    """X·Xᴴ, on the last two axes, summed in at least float32."""
    # XLA would copy a transposed operand; an einsum names the axes to contract instead.
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.einsum("...ij,...kj->...ik", x, x.conj(), preferred_element_type=wide)

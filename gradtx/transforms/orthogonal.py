"""Orthogonal updates: matrices whose singular values are all made alike."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from gradtx.core.types import Array


def newton_schulz(x: Array, coefficients: Sequence[Any], steps: int, eps: Any) -> Array:
    """The orthogonal matrix near x, by an odd polynomial that drives the singular values to about 1.

    X ← X / max(‖X‖, eps), then `steps` times X ← a·X + (b·A + c·A²)·X with A = X·Xᵀ. Products are summed
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
    """a·X + (b·A + c·A²)·X with A = X·Xᴴ: one step of Newton–Schulz, on the last two axes."""
    dtype, wide = x.dtype, jnp.promote_types(x.dtype, jnp.float32)
    gram = jnp.matmul(x, x.mT.conj(), preferred_element_type=wide).astype(dtype)
    square = jnp.matmul(gram, gram, preferred_element_type=wide)
    factor = (b * gram.astype(wide) + c * square).astype(dtype)
    return (a * x.astype(wide) + jnp.matmul(factor, x, preferred_element_type=wide)).astype(dtype)

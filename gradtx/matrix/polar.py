"""The orthogonal factor of a matrix: exactly, or nearly, by polynomials, with products alone."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, cast, sqrt
from gradtx.arrays.types import Array, DType
from gradtx.matrix.polynomials import gram, quintic


def frobenius(x: Array) -> Array:
    """The norm of each matrix of a stack, with axes of size 1 in its place."""
    return sqrt(jnp.sum(abs_sq(x), axis=(-2, -1), keepdims=True))


# What makes the largest singular value about 1, for matrices with no more rows than columns.
PRECONDITIONINGS = {
    "frobenius": lambda x, eps: x / (frobenius(x) + eps),
    "spectral": lambda x, eps: x / (jnp.linalg.norm(x, ord=2, axis=(-2, -1), keepdims=True) + eps),
    "aol": lambda x, eps: x / sqrt(jnp.maximum(jnp.sum(jnp.abs(gram(x)), axis=-1, keepdims=True), eps)),
    "schatten": lambda x, eps: x / sqrt(jnp.maximum(frobenius(gram(x)), eps)),
}


def by_polynomials(x: Array, triples: Any, preconditioning: str, eps: Any, dtype: DType = None) -> Array:
    """The orthogonal matrices near the matrices x, shape (…, rows, columns): one quintic step per triple.

    Args:
        x: the matrices.
        triples: the coefficients of every step.
        preconditioning: what they are divided by first; see `PRECONDITIONINGS`.
        eps: keeps divisors above 0.
        dtype: that of the products. Default: that of x.
    """
    tall = x.shape[-2] > x.shape[-1]
    y = PRECONDITIONINGS[preconditioning](x.mT if tall else x, eps)
    y = y if dtype is None else y.astype(dtype)
    for triple in triples:
        y = quintic(y, *triple)
    return cast(y.mT if tall else y, x.dtype)


def by_singular_vectors(x: Array) -> Array:
    """U·Vᴴ of the singular value decomposition U·Σ·Vᴴ; what Σ is 0 for stays 0, as in polynomials."""
    if not x.size:
        return x
    u, s, vh = jnp.linalg.svd(x, full_matrices=False)
    rounding = s[..., :1] * max(x.shape[-2:]) * jnp.finfo(s.dtype).eps
    return (u * (s > rounding)[..., None, :]) @ vh


def by_halley(x: Array) -> Array:
    """The orthogonal factor by Halley's iteration with dynamic weights, of matrices of full rank."""
    if not x.size:
        return x
    tall = x.shape[-2] >= x.shape[-1]
    matrices = (x if tall else x.mT.conj()).reshape(-1, *(x if tall else x.mT).shape[-2:])
    nothing = frobenius(matrices) == 0
    safe = jnp.where(nothing, jnp.eye(*matrices.shape[-2:], dtype=x.dtype), matrices)
    factors = jax.lax.map(lambda one: jax.lax.linalg.qdwh(one)[0], safe)
    factors = jnp.where(nothing, 0, factors)
    return (factors if tall else factors.mT.conj()).reshape(x.shape)


EXACTLY = {"svd": by_singular_vectors, "qdwh": by_halley}
"""Exact factors by the name of the method, beside ``"newton_schulz"``."""

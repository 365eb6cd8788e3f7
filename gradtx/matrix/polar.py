"""The orthogonal factor of a matrix: exactly, or nearly, by polynomials, with products alone."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, cast, quotient, sqrt
from gradtx.arrays.types import Array, DType
from gradtx.linear_algebra.singular import singular_vectors
from gradtx.matrix.polynomials import STANDARD, gram, quintic, triples_of


def frobenius(x: Array) -> Array:
    """The norm of each matrix of a stack, with axes of size 1 in its place."""
    return sqrt(jnp.sum(abs_sq(x), axis=(-2, -1), keepdims=True))


def unit(x: Array) -> Array:
    """Matrices of norm 1; 0 stays 0."""
    return x * quotient(1, frobenius(x))


# What makes the largest singular value about 1, for matrices with no more rows than columns.
PRECONDITIONINGS = {
    "frobenius": lambda x, eps: unit(x) if eps is None else x / (frobenius(x) + eps),
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
        eps: keeps divisors above 0; of the norm, None leaves it away where that is not 0.
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
    u, s, vh = singular_vectors(x)
    rounding = s[..., :1] * max(x.shape[-2:]) * jnp.finfo(s.dtype).eps
    return (u * (s > rounding)[..., None, :]) @ vh


def by_halley(x: Array) -> Array:
    """The orthogonal factor by Halley's iteration with dynamic weights, of matrices of full rank."""
    if not x.size:
        return x
    tall = x.shape[-2] >= x.shape[-1]
    matrices = (x if tall else x.mT.conj()).reshape(-1, *(x if tall else x.mT).shape[-2:])
    size = frobenius(matrices)
    nothing = (size == 0) | ~jnp.isfinite(size)
    safe = jnp.where(nothing, jnp.eye(*matrices.shape[-2:], dtype=x.dtype), matrices)
    factors = jax.lax.map(lambda one: jax.lax.linalg.qdwh(one)[0], safe)
    factors = jnp.where(nothing, size, factors)  # 0, or what is not finite
    return (factors if tall else factors.mT.conj()).reshape(x.shape)


METHODS = {"svd": by_singular_vectors, "qdwh": by_halley}
"""Exact factors by the name of the method, beside ``"newton_schulz"``."""


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def exactly(x: Array, method: str) -> Array:
    """The orthogonal factor by one of the exact `METHODS`, with its derivative, which is 0 at 0."""
    return METHODS[method](x)


@exactly.defjvp
def _exactly_jvp(method: str, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    if not x.size:
        return x, dx
    # Singular vectors have infinite derivatives where values coincide, their product has none.
    u, s, vh = singular_vectors(x)
    uh, v = u.mT.conj(), vh.mT.conj()
    turned = uh @ dx @ v
    turned = (turned - turned.mT.conj()) * quotient(1, s[..., None] + s[..., None, :])
    inverse = quotient(1, s)
    beside_rows = (dx - u @ (uh @ dx)) @ (v * inverse[..., None, :]) @ vh
    beside_columns = (u * inverse[..., None, :]) @ (uh @ (dx - (dx @ v) @ vh))
    return exactly(x, method), u @ turned @ vh + beside_rows + beside_columns


def orthogonalizer(
    name: str,
    *,
    ns_coeffs: Any = STANDARD,
    ns_steps: int = 5,
    ns_beyond: str | None = None,
    ns_dtype: DType = None,
    eps: Any = None,
    preconditioning: str = "frobenius",
    method: str = "newton_schulz",
) -> Callable[[Array], Array]:
    """The function that makes matrices orthogonal, on the last two axes; its arguments are those of Muon.

    Raises:
        ValueError: for arguments that name nothing, or are no coefficients.
    """
    if preconditioning not in PRECONDITIONINGS:
        raise ValueError(
            f"{name}: preconditioning must be one of {', '.join(PRECONDITIONINGS)}, got {preconditioning!r}"
        )
    triples = triples_of(name, ns_coeffs, ns_steps, ns_beyond)
    if method in METHODS:
        return lambda x: exactly(x, method)
    if method != "newton_schulz":
        raise ValueError(f"{name}: method must be one of newton_schulz, {', '.join(METHODS)}, got {method!r}")
    return lambda x: by_polynomials(x, triples, preconditioning, eps, ns_dtype)

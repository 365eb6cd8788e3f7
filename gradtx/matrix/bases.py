"""Bases of eigenvectors that follow a matrix as it changes."""

import jax
import jax.numpy as jnp

from gradtx.arrays.types import Array


def eigenbasis(cov: Array) -> Array:
    """The eigenvectors of symmetric matrices, as columns, those of the largest eigenvalues first."""
    # LAPACK may never come back from what is not finite.
    finite = jnp.all(jnp.isfinite(cov), axis=(-2, -1), keepdims=True)
    _, vectors = jnp.linalg.eigh(jnp.where(finite, cov, 0))
    return jnp.where(finite, vectors[..., ::-1], jnp.nan)


def power_step(cov: Array, basis: Array, method: str) -> tuple[Array, Array]:
    """A step of orthogonal iteration from a basis, and which of its old columns each new one continues.

    Columns are put in the order of their Rayleigh quotients first, for the first ones disturb the later.
    """
    product = cov @ basis
    order = jnp.argsort(-jnp.sum(basis * product, axis=-2), axis=-1)
    product = jnp.take_along_axis(product, order[..., None, :], axis=-1)
    return ORTHONORMAL[method](product), order


def _by_householder(x: Array) -> Array:
    return jnp.linalg.qr(x)[0]


def _by_cholesky(x: Array) -> Array:
    """Twice: once leaves an error of the square of the condition. Columns of norm 1 make that small."""
    size = jnp.linalg.norm(x, axis=-2, keepdims=True)
    x = x / jnp.where(size == 0, 1, size)
    for _ in range(2):
        lower = jnp.linalg.cholesky(x.mT @ x, symmetrize_input=False)
        x = jax.lax.linalg.triangular_solve(lower, x, left_side=False, lower=True, transpose_a=True)
    return x


ORTHONORMAL = {"qr": _by_householder, "cholesky_qr": _by_cholesky}
"""How the columns of a matrix are made orthonormal, by name."""

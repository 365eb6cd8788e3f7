"""Singular vectors of matrices that may not be finite."""

import jax.numpy as jnp

from gradtx.arrays.types import Array


def singular_vectors(x: Array) -> tuple[Array, Array, Array]:
    """U, the diagonal of Σ and Vᴴ of the matrices U·Σ·Vᴴ, shape (…, rows, columns), all with as many
    columns or rows as the shorter side; vectors are NaN where a matrix is not finite."""
    # LAPACK may never come back from what is not finite.
    finite = jnp.all(jnp.isfinite(x), axis=(-2, -1), keepdims=True)
    u, s, vh = jnp.linalg.svd(jnp.where(finite, x, 0), full_matrices=False)
    return jnp.where(finite, u, jnp.nan), s, jnp.where(finite, vh, jnp.nan)

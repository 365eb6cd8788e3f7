"""Inverse roots of stacks of statistics, renewed now and then."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.types import Array, Scalar
from gradtx.linear_algebra.roots import matrix_inverse_pth_root
from gradtx.matrix.bases import ORTHONORMAL, column_products, eigenbasis, renewed

METHODS = ("eigh", "newton", *ORTHONORMAL)
"""How roots are computed: by eigenvalues, by the coupled Newton iteration, in a basis that is tracked."""


class Root(NamedTuple):
    """Inverse roots; the bases of eigenvectors that they were computed in, of methods that track them; and
    whether they are finite and right."""

    root: Array
    basis: Array
    good: Array


def inverse_root(
    cov: Array, basis: Array, exponent: float, eps: Scalar, method: str, *, from_nothing: bool
) -> Root:
    """(A + eps·I) to the power −exponent, of positive semidefinite matrices A.

    Args:
        cov: the matrices.
        basis: those that are tracked; else anything, which is handed back.
        exponent: above 0.
        eps: added to eigenvalues.
        method: one of `METHODS`.
        from_nothing: whether a tracked basis may be 0, and begins with the eigenvectors then.
    """
    if method == "newton":
        return _by_newton(cov, basis, exponent, eps)
    if method == "eigh":
        vectors, eigenvalues = eigenbasis(cov)
    else:
        vectors, _, signs = renewed(cov, basis, method, from_nothing=from_nothing)
        basis, eigenvalues = vectors, column_products(vectors, cov @ vectors)
        eigenvalues = jnp.where(jnp.isfinite(signs), eigenvalues, jnp.nan)
    powers = (jnp.maximum(eigenvalues, 0) + eps) ** -exponent
    return Root((vectors * powers[..., None, :]) @ vectors.mT, basis, jnp.all(jnp.isfinite(powers)))


def _by_newton(cov: Array, basis: Array, exponent: float, eps: Scalar) -> Root:
    identity = jnp.eye(cov.shape[-1], dtype=cov.dtype)
    tolerance = 16 * float(jnp.finfo(cov.dtype).eps)
    one = partial(matrix_inverse_pth_root, p=round(1 / exponent), error_tolerance=tolerance)
    for _ in range(cov.ndim - 2):
        one = jax.vmap(one)
    root, error = one(cov + eps * identity)
    # The error of M, which tends to I, is that of the root.
    return Root(root, basis, jnp.all(jnp.isfinite(root)) & jnp.all(error < 0.1))


def check_root(name: str, method: str, exponent: Any) -> None:
    """Raise for an unknown method, or an exponent that it has no root of."""
    if method not in METHODS:
        raise ValueError(f"{name}: method must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "newton" and exponent is not None and abs(round(1 / exponent) - 1 / exponent) > 1e-6:
        raise ValueError(
            f"{name}: by Newton's iteration the exponent must be 1 over a whole number, got {exponent}"
        )

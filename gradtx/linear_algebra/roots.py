"""Roots of matrices."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.loops import while_loop
from gradtx.arrays.numerics import at_least_float32, cast, largest
from gradtx.arrays.types import Array, Scalar
from gradtx.linear_algebra.eigenvalues import power_iteration


def matrix_inverse_pth_root(
    matrix: Array,
    p: int,
    num_iters: Scalar = 100,
    ridge_epsilon: Scalar = 1e-6,
    error_tolerance: Scalar = 1e-6,
    precision: Any = jax.lax.Precision.HIGHEST,
) -> tuple[Array, Array]:
    """A⁻¹ᐟᵖ of a symmetric positive semidefinite matrix, by the coupled Newton iteration.

    With α = −1/p and M₀ = zA, H₀ = z¹ᐟᵖ·I for z = (1 + p) / (2‖A‖), the factor T = (1 − α)·I + α·M gives
    M ← Tᵖ·M and H ← H·T, and M tends to I as H tends to the root. A is damped before: A + ridge_epsilon·
    λ·I, with the largest eigenvalue λ.

    Args:
        matrix: A, symmetric.
        p: which root, an integer of at least 1.
        num_iters: the largest number of steps.
        ridge_epsilon: the damping, relative to λ.
        error_tolerance: the error max |M − I| at which it stops.
        precision: of the products.

    Returns:
        The root, in the dtype of the matrix (half precision is computed in float32), and the error, a
        scalar.

    Raises:
        ValueError: for a matrix that is not square, or p below 1.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> root, error = gradtx.matrix_inverse_pth_root(jnp.diag(jnp.array([4.0, 16.0])), 2)
        >>> print(jnp.diag(root).round(3))
        [0.5  0.25]

    Source: Higham, Functions of Matrices, 2008, equation 7.18.
    """
    if p < 1:
        raise ValueError(f"matrix_inverse_pth_root: p must be at least 1, got {p}")
    wide = cast(jnp.asarray(matrix), at_least_float32(jnp.result_type(matrix)))
    eigenvalue, _ = power_iteration(wide, precision=precision)
    identity = jnp.eye(len(wide), dtype=wide.dtype)
    damped = wide + ridge_epsilon * jnp.maximum(eigenvalue, 1e-16) * identity
    alpha = -1.0 / p

    def error_of(m: Array) -> Array:
        return largest(m - identity)

    def step(carry: Any) -> Any:
        i, m, h, _, error, _ = carry
        t = (1 - alpha) * identity + alpha * m
        m = jnp.matmul(_power(t, p, precision), m, precision=precision)
        after = error_of(m)
        # Rounding ends the decrease; a little of an increase is allowed on the way to it. At first any is:
        # the eigenvalues of M are in (0, (1 + p)/2], and those near 0 grow before they are near 1.
        goes_well = (after < error * 1.2) | ((error > 0.1) & (after < max(1.0, (p - 1) / 2)))
        return i + 1, m, jnp.matmul(h, t, precision=precision), h, after, goes_well

    def goes_on(carry: Any) -> Array:
        i, _, _, _, error, decreases = carry
        return (i < num_iters) & (error > error_tolerance) & decreases

    z = (1 + p) / (2 * jnp.linalg.norm(damped))
    m, h = damped * z, identity * z ** (1 / p)
    _, m, h, before, error, decreases = while_loop(
        goes_on, step, (jnp.int32(0), m, h, h, error_of(m), jnp.array(True))
    )
    return cast(jnp.where(decreases, h, before), jnp.result_type(matrix)), error


def _power(matrix: Array, exponent: int, precision: Any) -> Array:
    """A power of a matrix, by squaring."""
    if exponent == 1:
        return matrix
    half = _power(matrix, exponent // 2, precision)
    square = jnp.matmul(half, half, precision=precision)
    return jnp.matmul(square, matrix, precision=precision) if exponent % 2 else square

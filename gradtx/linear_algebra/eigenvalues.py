"""Eigenvalues by products with the matrix alone."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx import tree
from gradtx.arrays.loops import while_loop
from gradtx.arrays.types import Array, Scalar


def power_iteration(
    matrix: Array | Callable[[Any], Any],
    *,
    v0: Any = None,
    num_iters: Scalar = 100,
    error_tolerance: Scalar = 1e-6,
    precision: Any = jax.lax.Precision.HIGHEST,
    key: Array | None = None,
) -> tuple[Array, Any]:
    """The eigenvalue of largest magnitude, and its eigenvector.

    v ← Av / ‖Av‖ and λ = v̄·Av, until ‖Av − λv‖ ≤ error_tolerance·|λ|. It converges if that eigenvalue is
    the only one of its magnitude, the faster the further it is above the others.

    Args:
        matrix: a square matrix A, or a function v ↦ Av of trees.
        v0: where it begins, not orthogonal to the eigenvector: a vector, or a tree for a function.
            Default: uniform random numbers in [−1, 1]; a function needs one.
        num_iters: the largest number of steps.
        error_tolerance: the relative residual at which it stops.
        precision: of the products with a matrix.
        key: a key of `jax.random` for the default of `v0`. Default: that of seed 0.

    Returns:
        The eigenvalue, a scalar, and the eigenvector of norm 1, a vector or a tree like `v0`.

    Raises:
        ValueError: for a function without `v0`, or a matrix that is not square.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> eigenvalue, eigenvector = gradtx.power_iteration(jnp.array([[2.0, 0.0], [0.0, 1.0]]))
        >>> print(round(float(eigenvalue), 3))
        2.0

    Source: Mises and Pollaczek-Geiringer, Praktische Verfahren der Gleichungsauflösung, 1929.
    """
    if callable(matrix):
        if v0 is None:
            raise ValueError("power_iteration: a function needs v0=, a tree that it can be called with")
        product = matrix
    else:
        product, v0 = _of_matrix(matrix, v0, precision, key)

    def step(carry: Any) -> Any:
        v, av, _, i = carry
        v = _normalized(av, otherwise=v)
        av = product(v)
        return v, av, tree.vdot(v, av), i + 1

    def goes_on(carry: Any) -> Array:
        v, av, eigenvalue, i = carry
        residual = tree.norm(tree.sub(av, tree.scale(eigenvalue, v)))
        return (i < num_iters) & ((i == 0) | ~(residual <= error_tolerance * jnp.abs(eigenvalue)))

    v0 = _normalized(v0, otherwise=v0)
    start = product(v0)
    nothing = jnp.zeros_like(tree.vdot(v0, start))
    v, av, eigenvalue, _ = while_loop(goes_on, step, (v0, start, nothing, jnp.int32(0)))
    return eigenvalue, _normalized(av, otherwise=v)


def _of_matrix(matrix: Array, v0: Any, precision: Any, key: Array | None) -> tuple[Callable[[Any], Any], Any]:
    """The product with a matrix, and where to begin."""
    if jnp.ndim(matrix) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"power_iteration: the matrix must be square, got shape {jnp.shape(matrix)}")
    if v0 is None:
        key = jax.random.key(0) if key is None else key
        v0 = jax.random.uniform(key, matrix.shape[-1:], jnp.finfo(matrix.dtype).dtype, -1.0, 1.0)
    v0 = jnp.asarray(v0, matrix.dtype)
    return lambda v: jnp.matmul(matrix, v, precision=precision), v0


def _normalized(v: Any, otherwise: Any) -> Any:
    """v / ‖v‖, in its dtypes; where v is 0 there is no direction, and `otherwise` is returned."""
    size = tree.norm(v)
    unit = tree.cast_like(tree.scale(1 / jnp.where(size > 0, size, 1), v), v)
    return tree.where(size == 0, otherwise, unit)

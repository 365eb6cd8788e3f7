"""Least squares with constraints."""

import jax.numpy as jnp

from gradtx.arrays.loops import scan
from gradtx.arrays.numerics import at_least_float32, cast
from gradtx.arrays.types import Array, Scalar


def nnls(A: Array, b: Array, iters: int, unroll: int | bool = 1, L: Scalar | None = None) -> Array:
    """Non-negative least squares: the x ≥ 0 that minimises ‖Ax − b‖, by the fast projected gradient.

    With Q = AᵀA and q = Aᵀb: x₊ = max(0, y − (Qy − q)/L), and y = x₊ + (c − 1)/c₊·(x₊ − x) with
    c₊ = (1 + √(1 + 4c²))/2. The error of the squared norm falls at least as 1/iters².

    Args:
        A: a real matrix of shape (m, n).
        b: a vector of shape (m,), or (m, k) for k problems at once.
        iters: how many steps.
        unroll: how many steps a pass of the compiled loop makes.
        L: an upper bound of the largest eigenvalue of Q. Default: the smaller of two norms of Q.

    Returns:
        x, of shape (n,) or (n, k), in the promoted dtype; half precision is computed in float32.

    Raises:
        ValueError: for other shapes.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> print(gradtx.nnls(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([5.0, 6.0]), 1000).round(3))
        [0.  1.7]

    Source: R. A. Polyak, Projected gradient method for non-negative least squares, 2015.
    """
    if jnp.ndim(A) != 2 or jnp.ndim(b) not in (1, 2) or jnp.shape(A)[0] != jnp.shape(b)[0]:
        raise ValueError(
            "nnls: A must have shape (m, n) and b shape (m,) or (m, k), "
            f"got {jnp.shape(A)} and {jnp.shape(b)}"
        )
    dtype = jnp.result_type(A, b, 1.0)
    A, b = (cast(jnp.asarray(x), at_least_float32(dtype)) for x in (A, b))
    Q, q = A.T @ A, A.T @ b
    bound = (
        jnp.minimum(jnp.linalg.norm(Q), jnp.max(jnp.sum(jnp.abs(Q), axis=0), initial=0)) if L is None else L
    )
    bound = jnp.where(bound == 0, 1, bound)

    def step(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        x, y, c = carry
        further = (1 + jnp.sqrt(1 + 4 * c**2)) / 2
        best = jnp.maximum(0, y - (Q @ y - q) / bound)
        return (best, best + (c - 1) / further * (best - x), further), None

    x = jnp.zeros_like(q)
    (x, _, _), _ = scan(step, (x, x, jnp.ones([], x.dtype)), length=iters, unroll=unroll)
    return cast(x, dtype)

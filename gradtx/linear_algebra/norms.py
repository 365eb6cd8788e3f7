"""Norms with a lower bound, below which they have no slope."""

from typing import Any

import jax.numpy as jnp

from gradtx.arrays.numerics import at_least_float32, cast, rms
from gradtx.arrays.types import Array, Scalar


def safe_norm(
    x: Array,
    min_norm: Scalar,
    ord: Any = None,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
) -> Array:
    """max(‖x‖, min_norm), with derivative 0 where the norm is at most min_norm: at 0 too, not NaN.

    Args:
        x: an array.
        min_norm: the least value of the norm.
        ord, axis, keepdims: as in `jax.numpy.linalg.norm`.

    Returns:
        The norm, in the real dtype of x; half precision is computed in float32.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> print(jax.grad(gradtx.safe_norm)(jnp.zeros(2), 1e-3))
        [0. 0.]
    """
    wide = cast(jnp.asarray(x), at_least_float32(jnp.result_type(x)))
    below = jnp.linalg.norm(wide, ord, axis, keepdims=True) <= min_norm
    size = jnp.linalg.norm(jnp.where(below, 1, wide), ord, axis, keepdims)
    bounded = jnp.where(below.reshape(size.shape), min_norm, size)
    return cast(bounded, jnp.real(x).dtype)


def safe_root_mean_squares(x: Array, min_rms: Scalar) -> Array:
    """max(√(Σ|x|²/n), min_rms), with derivative 0 below the bound and at 0.

    Args:
        x: an array of n numbers.
        min_rms: the least value of the root mean square.

    Returns:
        A scalar in the real dtype of x; half precision is computed in float32.
    """
    wide = cast(jnp.asarray(x), at_least_float32(jnp.result_type(x)))
    return cast(jnp.maximum(rms(wide), min_rms), jnp.real(x).dtype)

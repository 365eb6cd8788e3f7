"""Trees like another, filled."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.types import Array, Scalar


def zeros_like(tree: Any, dtype: Any = None) -> Any:
    """A tree of zeros.

    Args:
        tree: a tree of tensors, or of their shapes (ShapeDtypeStructs).
        dtype: of the zeros. Default: each tensor's.
    """
    return jax.tree.map(lambda x: jnp.zeros_like(x, dtype=dtype), tree)


def ones_like(tree: Any, dtype: Any = None) -> Any:
    """A tree of ones.

    Args:
        tree: a tree of tensors, or of their shapes (ShapeDtypeStructs).
        dtype: of the ones. Default: each tensor's.
    """
    return jax.tree.map(lambda x: jnp.ones_like(x, dtype=dtype), tree)


def full_like(tree: Any, fill_value: Scalar, dtype: Any = None) -> Any:
    """A tree filled with one number.

    Args:
        tree: a tree of tensors, or of their shapes (ShapeDtypeStructs).
        fill_value: the number, or an array that broadcasts to each tensor.
        dtype: of the result. Default: each tensor's.
    """
    return jax.tree.map(lambda x: jnp.full_like(x, fill_value, dtype=dtype), tree)


def batch_shape(tree: Any, shape: tuple[int, ...] = ()) -> Any:
    """Copies of a tree along new first axes.

    Args:
        tree: a tree of tensors.
        shape: the lengths of the new axes.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> gradtx.tree.batch_shape({"w": jnp.zeros(2)}, (3,))["w"].shape
        (3, 2)
    """

    def repeated(x: Any) -> Array:
        return jnp.broadcast_to(x, (*shape, *jnp.shape(x)))

    return jax.tree.map(repeated, tree)

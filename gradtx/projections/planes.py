"""Lines, hyperplanes and half-spaces, given by one vector."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import cast
from gradtx.arrays.trees import dot
from gradtx.arrays.types import Array, Scalar
from gradtx.projections.trees import real_tree, same_tree


def projection_vector(x: Any, a: Any) -> Any:
    """The nearest multiple of a vector: a·(a·x) / (a·a). Of a = 0 the only multiple is 0.

    Args:
        x: a tree of floating tensors, taken as one vector.
        a: a tree like it.

    Returns:
        A tree like x, in its dtypes.

    Raises:
        TypeError: for tensors that are not real floating numbers.
        ValueError: for trees of other structures or shapes.
    """
    x, a = _pair("projection_vector", x, a)
    factor = _over(dot(x, a), dot(a, a))
    return jax.tree.map(lambda p, q: cast(factor * q, p.dtype), x, a)


def projection_hyperplane(x: Any, a: Any, b: Scalar) -> Any:
    """The nearest point with a·x = b: x + a·(b − a·x) / (a·a).

    For a = 0 that is x itself if b = 0, and otherwise there is no such point, which gives NaN.

    Args:
        x: a tree of floating tensors, taken as one vector.
        a: a tree like it: the normal of the plane.
        b: a number.

    Returns:
        A tree like x, in its dtypes.

    Raises:
        TypeError: for tensors that are not real floating numbers.
        ValueError: for trees of other structures or shapes.
    """
    x, a = _pair("projection_hyperplane", x, a)
    return _moved(x, _over(b - dot(x, a), dot(a, a)), a)


def projection_halfspace(x: Any, a: Any, b: Scalar) -> Any:
    """The nearest point with a·x ≤ b: x + a·min(0, b − a·x) / (a·a).

    For a = 0 that is x itself if b ≥ 0, and otherwise there is no such point, which gives NaN.

    Args:
        x: a tree of floating tensors, taken as one vector.
        a: a tree like it: the outward normal.
        b: a number.

    Returns:
        A tree like x, in its dtypes.

    Raises:
        TypeError: for tensors that are not real floating numbers.
        ValueError: for trees of other structures or shapes.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> nearest = gradtx.projections.projection_halfspace
        >>> print(nearest(jnp.array([2.0, 2.0]), jnp.array([1.0, 1.0]), 2.0))
        [1. 1.]
    """
    x, a = _pair("projection_halfspace", x, a)
    return _moved(x, _over(jnp.minimum(b - dot(x, a), 0), dot(a, a)), a)


def _pair(name: str, x: Any, a: Any) -> tuple[Any, Any]:
    x, a = real_tree(name, x), real_tree(name, a)
    same_tree(name, x, a)
    return x, a


def _over(distance: Array, square: Array) -> Array:
    """distance / square, and 0 for 0 / 0."""
    nothing = (distance == 0) & (square == 0)
    return jnp.where(nothing, 0, distance) / jnp.where(nothing, 1, square)


def _moved(x: Any, factor: Array, a: Any) -> Any:
    return jax.tree.map(lambda p, q: cast(p + factor * q, p.dtype), x, a)

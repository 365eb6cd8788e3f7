"""Bounds on the Euclidean norm of all numbers together."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import bounding_factor, norm
from gradtx.arrays.trees import global_norm, scale_tree
from gradtx.arrays.types import Scalar
from gradtx.projections.trees import as_vector, check_at_least_0, real_tree


def projection_l2_sphere(tree: Any, scale: Scalar = 1) -> Any:
    """The nearest tree whose Euclidean norm is scale: x·scale / ‖x‖.

    All points of the sphere are equally near to 0; the one with equal positive entries is taken, and the
    derivative there is 0.

    Args:
        tree: a tree of floating tensors, taken as one vector.
        scale: the norm, at least 0. Default: 1.

    Returns:
        A tree like it, in its dtypes.

    Raises:
        TypeError: for tensors that are not real floating numbers.
        ValueError: for a negative scale, or a tree without numbers.
    """
    x, as_tree = as_vector("projection_l2_sphere", tree, scale, empty=False)
    # Divided by the largest entry first, squares neither overflow nor vanish.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    direction = jnp.where(largest == 0, 1, x) / jnp.where(largest == 0, 1, largest)
    return as_tree(direction * (scale / norm(direction)))


def projection_l2_ball(tree: Any, scale: Scalar = 1) -> Any:
    """The nearest tree whose Euclidean norm is at most scale: x·min(1, scale / ‖x‖).

    Args:
        tree: a tree of floating tensors, taken as one vector.
        scale: the largest norm, at least 0. Default: 1.

    Returns:
        A tree like it, in its dtypes.

    Raises:
        TypeError: for tensors that are not real floating numbers.
        ValueError: for a negative scale.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> print(gradtx.projections.projection_l2_ball(jnp.array([3.0, 4.0])))
        [0.6 0.8]
    """
    check_at_least_0("projection_l2_ball", scale)
    tree = real_tree("projection_l2_ball", tree)
    return scale_tree(tree, bounding_factor(global_norm(tree), scale))

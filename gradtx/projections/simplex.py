"""The simplex, and the spheres and balls of the norm Σ|x| that it makes."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.types import Array, Scalar
from gradtx.projections.trees import as_vector


@jax.custom_jvp
def nearest_on_simplex(values: Array, scale: Scalar) -> Array:
    """The nearest vector with entries of at least 0 that add up to scale, along the last axis.

    It is max(x − τ, 0): of the largest k entries, the mean is (scale + k·τ) / k, for the largest k that
    leaves them positive.
    """
    highest = jnp.max(values, -1, keepdims=True)
    # From the highest on: τ is a difference, and a large common part would take its digits.
    x = jnp.where(values == jnp.inf, 0, values - highest)
    falling = -jnp.sort(-x, -1)
    excess = jnp.cumsum(falling, -1) - scale
    k = jnp.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    kept = jnp.maximum(jnp.sum(falling * k > excess, -1, keepdims=True), 1)
    threshold = jnp.take_along_axis(excess, kept - 1, -1) / kept
    return jnp.maximum(x - threshold, 0)


@nearest_on_simplex.defjvp
def _nearest_on_simplex_jvp(primals: Any, tangents: Any) -> Any:
    (values, scale), (change, growth) = primals, tangents
    nearest = nearest_on_simplex(values, scale)
    kept = nearest > 0
    count = jnp.maximum(jnp.sum(kept, -1, keepdims=True), 1)
    shift = (jnp.sum(jnp.where(kept, change, 0), -1, keepdims=True) - growth) / count
    return nearest, jnp.where(kept, change - shift, 0)


def projection_simplex(tree: Any, scale: Scalar = 1) -> Any:
    """The nearest tree whose numbers are at least 0 and add up to scale.

    max(x − τ, 0), with the one τ for which the sum is right. The derivative is that on the face that
    the result lies in.

    Args:
        tree: a tree of floating tensors, taken as one vector.
        scale: what they add up to, at least 0. Default: 1.

    Returns:
        A tree like it, in its dtypes.

    Raises:
        TypeError: for tensors that are not real floating numbers.
        ValueError: for a negative scale, or a tree without numbers: nothing adds up to a scale.

    Source: Duchi et al., Efficient projections onto the l1-ball for learning in high dimensions,
    ICML 2008.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> print(gradtx.projections.projection_simplex(jnp.array([0.5, 1.0, -3.0])))
        [0.25 0.75 0.  ]
    """
    vector, as_tree = as_vector("projection_simplex", tree, scale, empty=False)
    return as_tree(nearest_on_simplex(vector, jnp.asarray(scale, vector.dtype)))


def projection_l1_sphere(tree: Any, scale: Scalar = 1) -> Any:
    """The nearest tree whose absolute values add up to scale.

    The projection of |x| onto the simplex, with the signs of x. Where x is 0 both signs are as near, and
    it is the positive one.

    Args:
        tree: a tree of floating tensors, taken as one vector.
        scale: what the absolute values add up to, at least 0. Default: 1.

    Returns:
        A tree like it, in its dtypes.

    Raises:
        TypeError: for tensors that are not real floating numbers.
        ValueError: for a negative scale, or a tree without numbers.
    """
    vector, as_tree = as_vector("projection_l1_sphere", tree, scale, empty=False)
    return as_tree(_on_sphere(vector, scale))


def _on_sphere(vector: Array, scale: Scalar) -> Array:
    sign = jnp.where(vector < 0, -1, 1).astype(vector.dtype)
    return sign * nearest_on_simplex(sign * vector, jnp.asarray(scale, vector.dtype))


def projection_l1_ball(tree: Any, scale: Scalar = 1) -> Any:
    """The nearest tree whose absolute values add up to at most scale.

    The tree itself where they do, and `projection_l1_sphere` of it where they do not.

    Args:
        tree: a tree of floating tensors, taken as one vector.
        scale: what the absolute values add up to at most, at least 0. Default: 1.

    Returns:
        A tree like it, in its dtypes.

    Raises:
        TypeError: for tensors that are not real floating numbers.
        ValueError: for a negative scale.
    """
    vector, as_tree = as_vector("projection_l1_ball", tree, scale)
    if not vector.size:
        return as_tree(vector)
    within = jnp.sum(jnp.abs(vector)) <= scale
    return as_tree(jnp.where(within, vector, _on_sphere(vector, scale)))

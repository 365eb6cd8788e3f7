"""Arithmetic, tensor by tensor.

Dtypes are promoted as `jax.numpy` promotes them: a Python number leaves the dtype of a tensor alone, an
array or another tree does not. Tensors in one place may broadcast.
"""

import operator
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.types import Array, Scalar
from gradtx.tree.mapping import map_leaves


def add(tree_x: Any, tree_y: Any, *other_trees: Any) -> Any:
    """The sum of trees: x + y + ….

    Args:
        tree_x, tree_y, *other_trees: trees of one structure, of tensors that broadcast.

    Raises:
        ValueError: if structures or shapes differ; the message names the path.

    Example:
        >>> import gradtx
        >>> gradtx.tree.add({"w": 1.0, "b": None}, {"w": 2.0, "b": None})
        {'b': None, 'w': 3.0}
    """
    more = {f"other_trees[{i}]": tree for i, tree in enumerate(other_trees)}
    trees = {"tree_x": tree_x, "tree_y": tree_y, **more}
    return map_leaves("tree.add", lambda *tensors: reduce(operator.add, tensors), **trees)


def sub(tree_x: Any, tree_y: Any) -> Any:
    """The difference of two trees: x − y.

    Args:
        tree_x, tree_y: trees of one structure, of tensors that broadcast.

    Raises:
        ValueError: if structures or shapes differ; the message names the path.
    """
    return map_leaves("tree.sub", operator.sub, tree_x=tree_x, tree_y=tree_y)


def mul(tree_x: Any, tree_y: Any) -> Any:
    """The product of two trees, number by number: x·y.

    Args:
        tree_x, tree_y: trees of one structure, of tensors that broadcast.

    Raises:
        ValueError: if structures or shapes differ; the message names the path.
    """
    return map_leaves("tree.mul", operator.mul, tree_x=tree_x, tree_y=tree_y)


def div(tree_x: Any, tree_y: Any) -> Any:
    """The quotient of two trees, number by number: x / y.

    Args:
        tree_x, tree_y: trees of one structure, of tensors that broadcast.

    Raises:
        ValueError: if structures or shapes differ; the message names the path.
    """
    return map_leaves("tree.div", operator.truediv, tree_x=tree_x, tree_y=tree_y)


def scale(scalar: Scalar, tree: Any) -> Any:
    """A tree times one number: scalar·x.

    Args:
        scalar: a Python number, or an array that broadcasts with each tensor.
        tree: a tree of tensors.
    """
    return map_leaves("tree.scale", lambda x: scalar * x, tree=tree)


def add_scale(tree_x: Any, scalar: Scalar, tree_y: Any) -> Any:
    """A step along a direction: x + scalar·y.

    Args:
        tree_x: a tree of tensors.
        scalar: a Python number, or an array that broadcasts with each tensor.
        tree_y: a tree of the structure of `tree_x`.

    Raises:
        ValueError: if structures or shapes differ; the message names the path.
    """
    return map_leaves("tree.add_scale", lambda x, y: x + scalar * y, tree_x=tree_x, tree_y=tree_y)


def clip(tree: Any, min_value: Scalar | None = None, max_value: Scalar | None = None) -> Any:
    """Every number within bounds: min(max(x, min_value), max_value). NaN stays NaN.

    Args:
        tree: a tree of real tensors.
        min_value, max_value: the bounds. Default: none.
    """
    return map_leaves("tree.clip", lambda x: jnp.clip(x, min_value, max_value), tree=tree)


def conj(tree: Any) -> Any:
    """The complex conjugate of every number; real tensors are their own.

    Args:
        tree: a tree of tensors.
    """
    return jax.tree.map(jnp.conj, tree)


def real(tree: Any) -> Any:
    """The real part of every number.

    Args:
        tree: a tree of tensors.
    """
    return jax.tree.map(jnp.real, tree)


def where(condition: Array | bool, tree_x: Any, tree_y: Any) -> Any:
    """One tree or the other.

    Args:
        condition: a bool, or a bool array that broadcasts with each tensor.
        tree_x: what is taken where it is true.
        tree_y: what is taken elsewhere, a tree of the same structure.

    Raises:
        ValueError: if structures or shapes differ; the message names the path.
    """

    def chosen(x: Any, y: Any) -> Array:
        return jnp.where(condition, x, y)

    return map_leaves("tree.where", chosen, tree_x=tree_x, tree_y=tree_y)

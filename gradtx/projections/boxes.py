"""Bounds on each number alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.arrays.numerics import cast
from gradtx.arrays.types import Array, Scalar
from gradtx.projections.trees import check_at_least_0, real_tree


def projection_non_negative(tree: Any) -> Any:
    """The nearest tree whose numbers are at least 0: max(x, 0), whose derivative at 0 is 0.

    Args:
        tree: a tree of floating tensors.

    Returns:
        A tree like it, in its dtypes.

    Raises:
        TypeError: for tensors that are not real floating numbers.
    """
    return jax.tree.map(jax.nn.relu, real_tree("projection_non_negative", tree))


def projection_box(tree: Any, lower: Any, upper: Any) -> Any:
    """The nearest tree whose numbers lie between two bounds: min(max(x, lower), upper).

    Args:
        tree: a tree of floating tensors.
        lower: a number, a tree like it, or the upper part of one, whose leaves are numbers or arrays
            that broadcast with the tensors; −∞ for no bound.
        upper: likewise, nowhere below lower; ∞ for no bound.

    Returns:
        A tree like it, in its dtypes.

    Raises:
        TypeError: for tensors that are not real floating numbers.
        ValueError: for bounds of another structure, that do not broadcast, or that are the wrong way
            round (seen where they are not traced).

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> print(gradtx.projections.projection_box({"w": jnp.array([-3.0, 0.5, 2.0])}, 0.0, 1.0)["w"])
        [0.  0.5 1. ]
    """
    return _clipped("projection_box", tree, lower, upper)


def _clipped(name: str, tree: Any, lower: Any, upper: Any) -> Any:
    tree = real_tree(name, tree)
    leaves, treedef = jax.tree.flatten(tree)
    bounds = zip(_spread(name, "lower", lower, tree), _spread(name, "upper", upper, tree), strict=True)
    return treedef.unflatten([_clip(name, x, *ends) for x, ends in zip(leaves, bounds, strict=True)])


def _spread(name: str, which: str, bound: Any, tree: Any) -> list[Any]:
    """A bound for each tensor."""
    try:
        return jax.tree.leaves(jax.tree.map(lambda b, part: [b] * len(jax.tree.leaves(part)), bound, tree))
    except ValueError as error:
        raise ValueError(f"{name}: {which} must be a number or a tree like the first: {error}") from None


def _clip(name: str, x: Array, lower: Any, upper: Any) -> Array:
    if not isinstance(lower, Tracer) and not isinstance(upper, Tracer):
        low, high = np.asarray(lower), np.asarray(upper)
        if np.any(low > high):
            raise ValueError(f"{name}: lower must not be above upper, got {low} and {high}")
    for bound in (lower, upper):
        if not _broadcasts(jnp.shape(bound), x.shape):
            raise ValueError(
                f"{name}: a bound of shape {jnp.shape(bound)} does not broadcast to a tensor of {x.shape}"
            )
    return cast(jnp.clip(x, lower, upper), x.dtype)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    ends = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(m in (1, n) for m, n in ends)


def projection_hypercube(tree: Any, scale: Any = 1) -> Any:
    """The nearest tree whose numbers lie between 0 and scale.

    Args:
        tree: a tree of floating tensors.
        scale: a number, or bounds as the upper ones of `projection_box`; at least 0. Default: 1.

    Returns:
        A tree like it, in its dtypes.

    Raises:
        TypeError: for tensors that are not real floating numbers.
        ValueError: for a negative scale, or one of another structure.
    """
    for bound in jax.tree.leaves(scale):
        check_at_least_0("projection_hypercube", bound)
    return _clipped("projection_hypercube", tree, 0, scale)


def projection_linf_ball(tree: Any, scale: Scalar = 1) -> Any:
    """The nearest tree whose numbers are at most scale in magnitude.

    Args:
        tree: a tree of floating tensors.
        scale: at least 0. Default: 1.

    Returns:
        A tree like it, in its dtypes.

    Raises:
        TypeError: for tensors that are not real floating numbers.
        ValueError: for a negative scale.
    """
    check_at_least_0("projection_linf_ball", scale)
    return _clipped("projection_linf_ball", tree, -scale, scale)

"""Trees of tensors, taken as one vector."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.arrays import vectors
from gradtx.arrays.numerics import at_least_float32, cast
from gradtx.arrays.types import Array, Scalar


def real_tree(name: str, tree: Any) -> Any:
    """The tree with its leaves as arrays, which must be real floating numbers."""
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
            where = f" at {jax.tree_util.keystr(path)}" if path else ""
            raise TypeError(
                f"{name}: tensors must be real floating numbers, got {jnp.result_type(x)}{where}; convert it"
            )
    return jax.tree.map(jnp.asarray, tree)


def check_at_least_0(name: str, scale: Any) -> None:
    """Raise for a negative scale; a traced one cannot be seen."""
    if not isinstance(scale, Tracer) and np.any(np.asarray(scale) < 0):
        raise ValueError(f"{name}: scale must be at least 0, got {scale}")


def as_vector(
    name: str, tree: Any, scale: Scalar, *, empty: bool = True
) -> tuple[Array, Callable[[Array], Any]]:
    """A tree as one vector of at least float32, and how to make a tree like it of another vector.

    Args:
        name: of the function that errors are about.
        tree: of real floating tensors.
        scale: a number that must not be negative.
        empty: whether the tree may be without numbers.
    """
    check_at_least_0(name, scale)
    leaves, treedef = jax.tree.flatten(real_tree(name, tree))
    vector = vectors.as_vector(leaves) if leaves else jnp.zeros(0)
    if not (vector.size or empty):
        raise ValueError(f"{name}: the tree has no numbers, which cannot add up to {scale}")

    def tree_of(x: Array) -> Any:
        found = zip(vectors.pieces(x, leaves), leaves, strict=True)
        return treedef.unflatten([cast(piece, leaf.dtype) for piece, leaf in found])

    return cast(vector, at_least_float32(vector.dtype)), tree_of


def same_tree(name: str, x: Any, a: Any) -> None:
    """Raise unless two trees have the same structure and shapes."""
    if jax.tree.structure(x) != jax.tree.structure(a):
        raise ValueError(
            f"{name}: x and a must have the same structure, got {jax.tree.structure(x)} and "
            f"{jax.tree.structure(a)}"
        )
    for (path, p), q in zip(jax.tree_util.tree_leaves_with_path(x), jax.tree.leaves(a), strict=True):
        if p.shape != q.shape:
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"{name}: x and a must have the same shapes, got {p.shape} and {q.shape}"
                + (f" at {where}" if where else "")
            )

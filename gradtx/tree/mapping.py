"""A function of tensors, for trees of one structure: the check that all arithmetic of trees shares."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays import errors


def map_leaves(name: str, f: Callable[..., Any], /, **trees: Any) -> Any:
    """f of the tensors that trees have in one place; None where any of them is None.

    Args:
        name: of the function that errors are about.
        f: a function of one tensor of each tree, in their order. Python numbers count as tensors.
        **trees: by the names that errors call them; they have the structure of the first, and shapes
            that broadcast.

    Raises:
        ValueError: if structures or shapes differ; the message names the path.
    """
    (first, tree), *others = trees.items()
    leaves, treedef = jax.tree.flatten(tree, is_leaf=errors.is_none)
    columns = [leaves, *(_beside(name, first, tree, treedef, other, trees[other]) for other, _ in others)]
    results = []
    for i, row in enumerate(zip(*columns, strict=True)):
        if any(x is None for x in row):
            results.append(None)
            continue
        for (other, _), x in zip(others, row[1:], strict=True):
            _check_shapes(name, tree, i, (first, row[0]), (other, x))
        results.append(f(*row))
    return treedef.unflatten(results)


def _beside(name: str, first: str, tree: Any, treedef: Any, other: str, other_tree: Any) -> list[Any]:
    """The leaves of another tree, in the places of the first's."""
    try:
        beside = treedef.flatten_up_to(other_tree)
    except (ValueError, TypeError):
        beside = [{}]
    if not jax.tree_util.all_leaves(beside, is_leaf=errors.is_none):
        raise errors.another_structure(name, first, tree, other, other_tree)
    return beside


def _check_shapes(name: str, tree: Any, i: int, a: tuple[str, Any], b: tuple[str, Any]) -> None:
    shapes = jnp.shape(a[1]), jnp.shape(b[1])
    if shapes[0] == shapes[1]:
        return
    try:
        jnp.broadcast_shapes(*shapes)
    except ValueError:
        path = errors.path_of(tree, i)
        raise errors.another_shape(name, path, a[0], shapes[0], b[0], shapes[1]) from None

"""The dtypes of trees."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays import errors
from gradtx.tree.mapping import map_leaves


def cast(tree: Any, dtype: Any) -> Any:
    """A tree in another dtype.

    Args:
        tree: a tree of tensors.
        dtype: the dtype of all of them; with None the tree stays as it is.
    """
    return tree if dtype is None else jax.tree.map(lambda x: jnp.asarray(x).astype(dtype), tree)


def cast_like(tree: Any, other_tree: Any) -> Any:
    """A tree in the dtypes of another.

    Args:
        tree: a tree of tensors.
        other_tree: a tree of the same structure; where it has something without a dtype (a Python
            number), the tensor stays as it is. The shapes do not matter.

    Raises:
        ValueError: if the structures differ; the message names the path.
    """
    # Scalars in place of the other tensors, for shapes do not matter.
    wanted = jax.tree.map(lambda x: np.zeros((), x.dtype) if hasattr(x, "dtype") else x, other_tree)

    def like(x: Any, other: Any) -> Any:
        return jnp.asarray(x).astype(other.dtype) if hasattr(other, "dtype") else x

    return map_leaves("tree.cast_like", like, tree=tree, other_tree=wanted)


def dtype(tree: Any, mixed_dtype_handler: str | None = None) -> Any:
    """The dtype of a tree; that of a Python float for an empty one.

    Args:
        tree: a tree of tensors.
        mixed_dtype_handler: where dtypes differ: ``"promote"`` gives the one that all promote to,
            ``"highest"`` and ``"lowest"`` the one among them that all others promote to, or that
            promotes to all others. Default: an error.

    Raises:
        ValueError: if dtypes differ and no handler is given, or none of them is the highest or lowest.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tree = {"w": jnp.zeros(2, jnp.bfloat16), "b": jnp.zeros(2)}
        >>> print(gradtx.tree.dtype(tree, "lowest"), gradtx.tree.dtype(tree, "promote"))
        bfloat16 float32
    """
    if mixed_dtype_handler not in (None, "promote", "highest", "lowest"):
        raise ValueError(
            "tree.dtype: mixed_dtype_handler must be None, 'promote', 'highest' or 'lowest', "
            f"got {mixed_dtype_handler!r}"
        )
    found = {path: jnp.asarray(x).dtype for path, x in errors.paths(tree).items() if x is not None}
    if not found:
        return jnp.asarray(0.0).dtype
    different = set(found.values())
    promoted = reduce(jnp.promote_types, found.values())
    if len(different) == 1 or mixed_dtype_handler == "promote":
        return promoted
    if mixed_dtype_handler == "highest" and promoted in different:
        return promoted
    if mixed_dtype_handler == "lowest":
        for low in different:
            if all(jnp.promote_types(low, other) == other for other in different):
                return low
    shown = ", ".join(f"{path or 'the tree'} is {x}" for path, x in found.items())
    problem = f"none is the {mixed_dtype_handler}" if mixed_dtype_handler else "the dtypes differ"
    raise ValueError(f"tree.dtype: {problem}: {shown}; mixed_dtype_handler='promote' gives what all fit in")

"""One number of a whole tree.

Sums of half-precision tensors are taken, and returned, in float32; those of integers stay integers.
"""

import operator
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.numerics import Extreme, compute_dtype, extreme
from gradtx.arrays.numerics import cast as in_dtype
from gradtx.arrays.reduction import joined
from gradtx.arrays.trees import global_norm, squared_global_norm
from gradtx.arrays.types import Array, Scalar
from gradtx.tree.mapping import map_leaves


def _wide(x: Any) -> Array:
    x = jnp.asarray(x)
    return in_dtype(x, compute_dtype(x.dtype))


def _total(numbers: list[Array], associative: bool = False) -> Array:
    dtype = jnp.result_type(*numbers) if numbers else jnp.float32
    same = [in_dtype(x, dtype) for x in numbers]
    return joined("sum", same, in_pairs=associative) if same else jnp.zeros([], dtype)


def sum(tree: Any, associative_reduction: bool = False) -> Array:
    """The sum of all numbers of a tree; 0 for an empty one.

    Args:
        tree: a tree of tensors.
        associative_reduction: whether to add the sums of tensors in pairs, and pairs of pairs, rather
            than one after the other: a shallower program for very many tensors.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> print(gradtx.tree.sum({"w": jnp.ones((2, 3)), "b": None}))
        6.0
    """
    return _total([jnp.sum(_wide(x)) for x in jax.tree.leaves(tree)], associative_reduction)


def max(tree: Any) -> Array:
    """The largest number of a tree; −∞ for an empty one. A NaN anywhere makes it NaN.

    Args:
        tree: a tree of real tensors.
    """
    return _extreme("max", tree, -jnp.inf)


def min(tree: Any) -> Array:
    """The smallest number of a tree; ∞ for an empty one. A NaN anywhere makes it NaN.

    Args:
        tree: a tree of real tensors.
    """
    return _extreme("min", tree, jnp.inf)


def _extreme(kind: Extreme, tree: Any, of_none: float) -> Array:
    found = [extreme(kind, x, initial=of_none) for x in jax.tree.leaves(tree) if jnp.size(x)]
    dtype = jnp.result_type(*found) if found else jnp.float32
    return joined(kind, [in_dtype(x, dtype) for x in found]) if found else jnp.array(of_none)


def norms(tree: Any) -> Any:
    """The Euclidean norm of each tensor, in at least float32: what `plot.updates` draws over the steps.

    Args:
        tree: a tree of tensors.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> print(gradtx.tree.norms({"w": jnp.array([3.0, 4.0]), "b": None})["w"])
        5.0
    """
    return map_leaves("norms", global_norm, tree=tree)


def size(tree: Any) -> int:
    """How many numbers a tree has, as a Python integer.

    Args:
        tree: a tree of tensors, or of their shapes (ShapeDtypeStructs).
    """
    return reduce(operator.add, (getattr(x, "size", 1) for x in jax.tree.leaves(tree)), 0)


def vdot(tree_x: Any, tree_y: Any) -> Array:
    """The inner product of two trees: Σ x̄·y over all numbers.

    Args:
        tree_x: a tree of tensors; complex ones are conjugated.
        tree_y: a tree of the same structure.

    Raises:
        ValueError: if structures or shapes differ; the message names the path.
    """

    def product(x: Any, y: Any) -> Array:
        return jnp.sum(jnp.conj(_wide(x)) * _wide(y))

    return _total(jax.tree.leaves(map_leaves("tree.vdot", product, tree_x=tree_x, tree_y=tree_y)))


def norm(tree: Any, ord: int | str | float | None = None, squared: bool = False) -> Array:
    """The norm of all numbers of a tree as one vector, with derivative 0 at 0.

    Args:
        tree: a tree of tensors.
        ord: which norm: 2 (default) is √Σ|x|², 1 is Σ|x|, and ``inf`` (or ``"inf"``) is max |x|, which is
            0 for an empty tree.
        squared: whether to return its square.

    Raises:
        ValueError: for another `ord`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tree = {"w": jnp.array([3.0, 0.0]), "b": jnp.array(-4.0)}
        >>> print(gradtx.tree.norm(tree), gradtx.tree.norm(tree, 1), gradtx.tree.norm(tree, "inf"))
        5.0 7.0 4.0
    """
    if ord is None or ord == 2:
        return squared_global_norm(tree) if squared else global_norm(tree)
    sizes = [jnp.abs(_wide(x)) for x in jax.tree.leaves(tree)]
    if ord == 1:
        length = sum(sizes)
    elif ord in (jnp.inf, "inf", "infinity"):
        length = _extreme("max", [jnp.zeros([]), *sizes], 0.0)
    else:
        raise ValueError(f"tree.norm: ord must be 1, 2 or inf, got {ord!r}")
    return jnp.square(length) if squared else length


def allclose(a: Any, b: Any, rtol: Scalar = 1e-05, atol: Scalar = 1e-08, equal_nan: bool = False) -> Array:
    """Whether two trees are equal up to a tolerance: |a − b| ≤ atol + rtol·|b| everywhere.

    Args:
        a, b: trees of one structure, None included.
        rtol, atol: the tolerances relative to b, and absolute.
        equal_nan: whether NaN equals NaN. Default: no.

    Returns:
        A bool scalar.

    Raises:
        ValueError: if structures or shapes differ; the message names the path.
    """
    close = map_leaves("tree.allclose", lambda x, y: jnp.allclose(x, y, rtol, atol, equal_nan), a=a, b=b)
    if not jax.tree.structure(a) == jax.tree.structure(b) == jax.tree.structure(close):
        raise errors.another_structure("tree.allclose", "a", a, "b", b)
    return joined("all", [jnp.array(True), *jax.tree.leaves(close)])

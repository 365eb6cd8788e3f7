"""Arithmetic of trees of tensors: what formulas that look across tensors are written with.

Sums are over all tensors (see :mod:`gradtx.arrays.reduction`). None is an absent tensor. The functions of
:mod:`gradtx.tree` are for users, and check what they are given; these do not.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.errors import is_none
from gradtx.arrays.numerics import (
    abs_sq,
    as_array,
    at_least_float32,
    cast,
    is_number,
    real_dtype,
    real_like,
    sqrt,
)
from gradtx.arrays.per_tensor import PerTensor, map_rows
from gradtx.arrays.reduction import joined
from gradtx.arrays.types import Array, DType, Params, PyTree, Scalar, Updates

# --- tensor by tensor -------------------------------------------------------------------------------


@partial(PerTensor, primitive=True)
def _times(x: Array, factor: Array) -> Array:
    return cast(x * factor.astype(x.real.dtype), x.dtype)


def scale_tree(tree: PyTree, factor: Array) -> PyTree:
    """Every leaf of a tree times one scalar, in the dtypes of the leaves."""
    return _times.on_trees([tree], factor)


@partial(PerTensor, primitive=True)
def _where(a: Array, b: Array, condition: Array) -> Array:
    return jnp.where(condition, a, b)


def select_tree(condition: Array, a: PyTree, b: PyTree) -> PyTree:
    """Of two trees of one structure, a if the condition holds, else b."""
    return _where.on_trees([a, b], condition)


@partial(PerTensor, primitive=True)
def or_zero(x: Array, condition: Array) -> Array:
    """x if the condition holds, else 0."""
    return jnp.where(condition, x, 0)


def add_scaled(a: PyTree, factor: Scalar, b: PyTree) -> PyTree:
    """a + factor·b."""
    return jax.tree.map(lambda x, y: x + factor * y, a, b)


def moved(params: Params, factor: Scalar, updates: Updates) -> Params:
    """params + factor·updates in the params' dtypes; where an update is None, the param itself."""

    def move(update: Array | None, param: Array) -> Array:
        return param if update is None else cast(param + factor * update, param.dtype)

    return jax.tree.map(move, updates, params, is_leaf=is_none)


def mapped(
    f: Callable[..., PyTree], updates: Updates, *trees: PyTree, otherwise: PyTree | None = None
) -> PyTree:
    """The tree of f(update, *others); where there is no update, the leaf of `otherwise`, or None."""
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    results = map_rows(f, [leaves, *map(treedef.flatten_up_to, trees)])
    if otherwise is not None:
        kept = zip(leaves, results, treedef.flatten_up_to(otherwise), strict=True)
        results = [old if g is None else new for g, new, old in kept]
    return treedef.unflatten(results)


def advanced(f: Callable[..., Array], updates: Updates, slot: PyTree) -> PyTree:
    """A slot of a state after an update: f(update, old), and the old where there is no update."""
    return mapped(f, updates, slot, otherwise=slot)


# --- over all tensors -------------------------------------------------------------------------------


@PerTensor
def _sum_of_squares(x: Array) -> Array:
    return jnp.sum(abs_sq(cast(x, at_least_float32(x.dtype))))


def added_up(numbers: list[Array]) -> Array:
    """The sum of numbers, one for each tensor, in at least float32; 0 if there are none."""
    dtype = at_least_float32(*(x.dtype for x in numbers))
    return joined("sum", [cast(x, dtype) for x in numbers]) if numbers else jnp.zeros([], dtype)


def squared_global_norm(tree: PyTree) -> Array:
    """The sum of |x|² over all numbers of a tree, in at least float32; gradients of integers have none."""
    leaves = map(as_array, jax.tree.leaves(tree))
    return added_up(_sum_of_squares([[x for x in leaves if is_number(x.dtype)]]))


def global_norm(updates: PyTree) -> Array:
    """The Euclidean norm over all leaves of a tree, in at least float32."""
    return sqrt(squared_global_norm(updates))


@PerTensor
def _finite(x: Array) -> Array:
    return jnp.all(jnp.isfinite(x))


def all_finite(tree: PyTree) -> Array:
    """Whether every number of every leaf is finite; true for an empty tree."""
    finite = _finite([jax.tree.leaves(tree)])
    return joined("all", finite) if finite else jnp.array(True)


def inner_product(x: Array, y: Array) -> Array:
    """The real part of ⟨x, y⟩, of two tensors."""
    # A sum of products: matrix units would round the factors, and a product of matrices has to be told
    # how its result is sharded.
    return jnp.sum((x.conj() * y).real if jnp.iscomplexobj(x) else x * y)


def dot(a: PyTree, b: PyTree) -> Array:
    """The real part of ⟨a, b⟩ over all leaves, in at least float32."""

    def product(x: Array, y: Array) -> Array:
        return inner_product(cast(x, at_least_float32(x.dtype, y.dtype)), y)

    return added_up(jax.tree.leaves(jax.tree.map(product, a, b)))


def total(f: Callable[..., Array], updates: Updates, *trees: PyTree) -> Array:
    """The sum of f(update, *others) over the tensors that have an update; 0 if none has."""
    return added_up(jax.tree.leaves(mapped(f, updates, *trees)))


def distance(params: Params, others: Params) -> Array:
    """The Euclidean distance between two trees, over all tensors."""
    return global_norm(jax.tree.map(jnp.subtract, params, others))


# --- dtypes -----------------------------------------------------------------------------------------


def norm_dtype(tree: PyTree) -> DType:
    """The dtype of a norm of this tree: real, and at least float32."""
    return at_least_float32(*(real_dtype(jnp.asarray(x)) for x in jax.tree.leaves(tree)))


def scalar_dtype(name: str, params: Params) -> DType:
    """The dtype of numbers that belong to all params: real, and at least float32."""
    errors.check_inexact(name, params)
    return norm_dtype(params)


def widened(params: Params) -> Params:
    """The params as a state keeps them: in at least float32."""
    return jax.tree.map(lambda x: cast(jnp.asarray(x), at_least_float32(jnp.result_type(x))), params)


def filled(tree: PyTree, like: PyTree) -> PyTree:
    """A tree in at least float32, in buffers of its own; 0 where it has None and `like` has a tensor."""

    def wide(other: Array | None, x: Array | None) -> Array | None:
        if other is None:
            return None
        other = jnp.asarray(other)
        dtype = at_least_float32(other.dtype)
        return jnp.zeros(other.shape, dtype) if x is None else jnp.array(x, dtype, copy=True)

    return jax.tree.map(wide, like, tree, is_leaf=is_none)


def zeros(params: Params, real: bool = False) -> Params:
    """A tree like the params, as a state keeps it, of zeros; `real` for sizes of complex tensors."""
    return jax.tree.map(real_like if real else jnp.zeros_like, widened(params))

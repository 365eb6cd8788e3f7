"""Trees of tensors in formulas that look across tensors."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core import errors
from gradtx.core.errors import is_none
from gradtx.core.numerics import at_least_float32, cast, global_norm, real_like
from gradtx.core.rows import map_rows
from gradtx.core.types import Array, Params, Updates


def scalar_dtype(name: str, params: Params) -> Any:
    """The dtype of numbers that belong to all params: real, and at least float32."""
    errors.check_inexact(name, params)
    return at_least_float32(*(jnp.finfo(jnp.result_type(x)).dtype for x in jax.tree.leaves(params)))


def widened(params: Params) -> Params:
    """The params as a state keeps them: in at least float32."""
    return jax.tree.map(lambda x: cast(jnp.asarray(x), at_least_float32(jnp.result_type(x))), params)


def zeros(params: Params, real: bool = False) -> Params:
    """A tree like the params, as a state keeps it, of zeros; `real` for sizes of complex tensors."""
    return jax.tree.map(real_like if real else jnp.zeros_like, widened(params))


def mapped(f: Callable[..., Any], updates: Updates, *trees: Any, otherwise: Any = None) -> Any:
    """The tree of f(update, *others); where there is no update, the leaf of `otherwise`, or None."""
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    results = map_rows(f, [leaves, *map(treedef.flatten_up_to, trees)])
    if otherwise is not None:
        kept = zip(leaves, results, treedef.flatten_up_to(otherwise), strict=True)
        results = [old if g is None else new for g, new, old in kept]
    return treedef.unflatten(results)


def advanced(f: Callable[..., Array], updates: Updates, slot: Any) -> Any:
    """A slot of a state after an update: f(update, old), and the old where there is no update."""
    return mapped(f, updates, slot, otherwise=slot)


def total(f: Callable[..., Array], updates: Updates, *trees: Any) -> Any:
    """The sum of f(update, *others) over the tensors that have an update."""
    return sum(jax.tree.leaves(mapped(f, updates, *trees)))


def inner_product(x: Array, y: Array) -> Array:
    """The real part of ⟨x, y⟩."""
    return jnp.sum((x.conj() * y).real if jnp.iscomplexobj(x) else x * y)


def distance(params: Params, others: Params) -> Array:
    """The Euclidean distance between two trees, over all tensors."""
    return global_norm(jax.tree.map(jnp.subtract, params, others))

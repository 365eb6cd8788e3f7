"""Trees as vectors: what quasi-Newton methods and line searches compute with."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.errors import is_none
from gradtx.core.numerics import at_least_float32, cast, real_dtype
from gradtx.core.types import Array, Params, Scalar, Updates


def dot(a: Any, b: Any) -> Array:
    """The real part of conj(a)·b over all leaves."""
    # A sum of products: matrix units would round the factors, and a product of matrices has to be told
    # how its result is sharded.
    products = jax.tree.map(lambda x, y: jnp.sum((jnp.conj(x) * y).real), a, b)
    return reduce(jnp.add, jax.tree.leaves(products), jnp.zeros([], jnp.float32))


def add_scaled(a: Any, factor: Scalar, b: Any) -> Any:
    """a + factor·b."""
    return jax.tree.map(lambda x, y: x + factor * y, a, b)


def moved(params: Params, factor: Scalar, updates: Updates) -> Params:
    """params + factor·updates in the params' dtypes; where an update is None, the param itself."""

    def move(update: Any, param: Any) -> Any:
        return param if update is None else cast(param + factor * update, param.dtype)

    return jax.tree.map(move, updates, params, is_leaf=is_none)


def norm_dtype(tree: Any) -> Any:
    """The dtype of a norm of this tree: real, and at least float32."""
    return at_least_float32(*(real_dtype(jnp.asarray(x)) for x in jax.tree.leaves(tree)))


def widened(tree: Any, like: Any) -> Any:
    """A tree in at least float32, in buffers of its own; 0 where it has None and `like` has a tensor."""

    def widen(other: Any, x: Any) -> Any:
        if other is None:
            return None
        other = jnp.asarray(other)
        dtype = at_least_float32(other.dtype)
        return jnp.zeros(other.shape, dtype) if x is None else jnp.array(x, dtype, copy=True)

    return jax.tree.map(widen, like, tree, is_leaf=is_none)

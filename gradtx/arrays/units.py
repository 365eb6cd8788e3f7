"""Powers of two to measure numbers in: no digit is lost, and squares neither overflow nor vanish."""

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import as_array, at_least_float32, cast, largest, sqrt
from gradtx.arrays.reduction import joined
from gradtx.arrays.trees import squared_global_norm
from gradtx.arrays.types import Array, PyTree


def unit_of(x: Array) -> Array:
    """A power of two near |x|; 1 for 0."""
    exponent = jnp.clip(jnp.frexp(jax.lax.stop_gradient(x))[1], jnp.finfo(x.dtype).minexp + 1)
    return jnp.ldexp(jnp.ones_like(x), exponent - 1)


def largest_magnitude(tree: PyTree) -> Array:
    """The largest magnitude in a tree, in at least float32; 0 if it is empty, NaN if it has one."""
    sizes = [largest(as_array(x)) for x in jax.tree.leaves(tree)]
    dtype = at_least_float32(*(x.dtype for x in sizes))
    return joined("max", [jnp.zeros([], dtype), *(cast(x, dtype) for x in sizes)])


def square_in_units(tree: PyTree) -> tuple[Array, Array]:
    """A unit u and ‖x / u‖² over all leaves of a tree, so that the squared norm is u²·‖x / u‖²."""
    unit = unit_of(largest_magnitude(tree))
    return unit, squared_global_norm(jax.tree.map(lambda x: x / cast(unit, x.real.dtype), tree))


def safe_global_norm(tree: PyTree) -> Array:
    """The Euclidean norm over all leaves of a tree, also where their squares leave the range."""
    unit, square = square_in_units(tree)
    return unit * sqrt(square)

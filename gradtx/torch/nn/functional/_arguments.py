"""What losses ask of their arguments: dtypes to compute in, shapes that fit, numbers within bounds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gradtx.arrays.numerics import at_least_float32, cast
from gradtx.arrays.types import Array

Shape = tuple[int, ...]

EPSILON = float(np.float32(1e-12))
"""What PyTorch divides by at the least: it writes 10⁻¹² and keeps it in float32, for any dtype."""


def widened(name: str, *arrays: ArrayLike, kind: Any = jnp.floating) -> tuple[list[Array], Any]:
    """Arrays in the dtype to compute in, at least float32, and the dtype of the result.

    The result has the promoted dtype of all arrays; integers, such as targets of ±1, are converted.
    """
    found = [jnp.asarray(x) for x in arrays]
    dtype = jnp.result_type(*found)
    if not jnp.issubdtype(dtype, kind):
        raise RuntimeError(f'"{name}" not implemented for {str(dtype)!r}; convert its input to floats')
    wide = at_least_float32(dtype)
    return [cast(x, wide) for x in found], dtype


def elementwise(name: str, *arrays: ArrayLike, kind: Any = jnp.floating) -> tuple[list[Array], Any]:
    """`widened`, for arrays that must broadcast with each other."""
    found, dtype = widened(name, *arrays, kind=kind)
    shape: Shape = ()
    for x in found:
        shape = broadcast(shape, x.shape)
    return found, dtype


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape that two shapes broadcast to."""
    for back, (m, n) in enumerate(zip(reversed(a), reversed(b), strict=False), 1):
        if m != n and 1 not in (m, n):
            raise RuntimeError(
                f"The size of tensor a ({m}) must match the size of tensor b ({n}) at non-singleton "
                f"dimension {max(len(a), len(b)) - back}; the shapes are {a} and {b}"
            )
    return jnp.broadcast_shapes(a, b)


def check_broadcasts_to(weight: Shape, shape: Shape) -> None:
    """Raise unless weights of this shape broadcast to losses of that one."""
    if broadcast(weight, shape) != shape:
        raise RuntimeError(
            f"output with shape {shape} doesn't match the broadcast shape {broadcast(weight, shape)}; "
            f"the weight has shape {weight}"
        )


def integers(target: ArrayLike, message: str) -> Array:
    """Labels in JAX's own integer dtype, whatever theirs is."""
    labels = jnp.asarray(target)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise RuntimeError(message.format(labels.dtype))
    return labels.astype(int)


def clamp_min(x: Array, bound: float) -> Array:
    """max(x, bound), whose derivative is 1 where the two are equal and 0 at NaN, as PyTorch has it."""
    return jnp.where(x >= bound, x, jax.lax.stop_gradient(jnp.maximum(x, bound)))

"""What flows backwards through a tree."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import cast
from gradtx.arrays.per_tensor import is_traced
from gradtx.arrays.types import Array, Scalar


def scale_gradient(inputs: Any, scale: Scalar) -> Any:
    """The inputs themselves, with their derivatives times a factor.

    Args:
        inputs: a tree of arrays.
        scale: the factor; 0 stops the gradient, even one that is not finite. It has no derivative.

    Example:
        >>> import gradtx, jax
        >>> print(jax.grad(lambda x: gradtx.scale_gradient(x, 0.5) ** 2)(3.0))
        3.0
    """
    if not is_traced([scale]) and jnp.all(scale == 0):
        return jax.lax.stop_gradient(inputs)
    return jax.tree.map(
        lambda x: _scaled(x, scale) if jnp.issubdtype(x.dtype, jnp.inexact) else x,
        jax.tree.map(jnp.asarray, inputs),
    )


@jax.custom_jvp
def _scaled(x: Array, scale: Scalar) -> Array:
    del scale
    return x


@_scaled.defjvp
def _scaled_jvp(primals: Any, tangents: Any) -> Any:
    (x, scale), (dx, _) = primals, tangents
    return x, cast(dx * scale, dx.dtype)

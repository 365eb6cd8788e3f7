"""The normal distribution with parameters of its own, for estimates of gradients by sampling."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.types import Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MultiNormalDiagFromLogScale:
    """Independent normal distributions of mean loc and standard deviation exp(log_scale); a pytree.

    Args:
        loc: the means, an array.
        log_scale: the logarithms of the standard deviations; it broadcasts with `loc`.
    """

    loc: Array
    log_scale: Array

    @property
    def params(self) -> list[Array]:
        """Mean and log_scale."""
        return [jnp.asarray(self.loc), jnp.asarray(self.log_scale)]

    @property
    def _shape(self) -> tuple[int, ...]:
        return jnp.broadcast_shapes(jnp.shape(self.loc), jnp.shape(self.log_scale))

    def sample(self, shape: tuple[int, ...], key: Array) -> Array:
        """Independent samples, differentiable by both parameters.

        Args:
            shape: how many, as a shape; the shape of the parameters follows it.
            key: a key of `jax.random`.
        """
        dtype = jnp.result_type(self.loc, self.log_scale, 1.0)
        noise = jax.random.normal(key, (*shape, *self._shape), dtype)
        return noise * jnp.exp(self.log_scale) + self.loc

    def log_prob(self, x: Any) -> Array:
        """The logarithm of the density, summed over the axes of the parameters.

        Args:
            x: an array whose last axes are those of the parameters.
        """
        z = (x - self.loc) * jnp.exp(-jnp.asarray(self.log_scale))
        each = -0.5 * jnp.square(z) - self.log_scale - 0.5 * jnp.log(2 * jnp.pi)
        return jnp.sum(each, axis=range(-len(self._shape), 0))


def multi_normal(loc: Any, log_scale: Any) -> MultiNormalDiagFromLogScale:
    """Independent normal distributions of mean loc and standard deviation exp(log_scale).

    Args:
        loc: the means, an array.
        log_scale: the logarithms of the standard deviations; it broadcasts with `loc`.

    Raises:
        ValueError: if the two do not broadcast.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> distribution = gradtx.multi_normal(jnp.zeros(3), jnp.zeros(3))
        >>> distribution.sample((5,), jax.random.key(0)).shape, distribution.log_prob(jnp.zeros((5, 3))).shape
        ((5, 3), (5,))
    """
    try:
        jnp.broadcast_shapes(jnp.shape(loc), jnp.shape(log_scale))
    except ValueError:
        raise ValueError(
            f"multi_normal: loc has shape {jnp.shape(loc)}, log_scale has shape {jnp.shape(log_scale)}; they "
            "must broadcast"
        ) from None
    return MultiNormalDiagFromLogScale(loc, log_scale)

"""Distributions of noise: how to sample them, and their logarithmic density up to a constant."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.types import Array


@dataclass(frozen=True)
class Normal:
    """The normal distribution of mean 0 and variance 1."""

    def sample(self, key: Array, sample_shape: tuple[int, ...] = (), dtype: Any = float) -> Array:
        """Independent samples.

        Args:
            key: a JAX key.
            sample_shape: how many, as a shape. Default: one.
            dtype: floating. Default: JAX's own.
        """
        return jax.random.normal(key, sample_shape, dtype)

    def log_prob(self, inputs: Array) -> Array:
        """−½·x² for each x: the logarithm of the density, up to a constant."""
        return -0.5 * inputs**2


@dataclass(frozen=True)
class Gumbel:
    """The standard Gumbel distribution: with it, the largest of perturbed scores is a softmax sample."""

    def sample(self, key: Array, sample_shape: tuple[int, ...] = (), dtype: Any = float) -> Array:
        """Independent samples.

        Args:
            key: a JAX key.
            sample_shape: how many, as a shape. Default: one.
            dtype: floating. Default: JAX's own.
        """
        return jax.random.gumbel(key, sample_shape, dtype)

    def log_prob(self, inputs: Array) -> Array:
        """−x − exp(−x) for each x: the logarithm of the density."""
        return -inputs - jnp.exp(-inputs)

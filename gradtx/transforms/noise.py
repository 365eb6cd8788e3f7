"""Noise: random numbers added to updates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.numerics import safe_increment
from gradtx.arrays.types import Array
from gradtx.core.treewise import treewise
from gradtx.tree.keys import random_like
from gradtx.values.domains import NonNegative, Number


class AddNoiseState(NamedTuple):
    """count: int32 scalar, updates so far; rng_key: a JAX key."""

    count: Array
    rng_key: Array


@treewise(state=AddNoiseState)
def add_noise(eta: NonNegative, gamma: Number, key: Array | int = 0):
    """Add normal noise that fades: variance eta / tᵞ at update t.

    Args:
        eta: variance at the first update.
        gamma: how fast the variance falls.
        key: a seed, or a JAX key. Frameworks that keep optimizers as static attributes want a seed.

    Source: Neelakantan et al., Adding gradient noise improves learning for very deep networks,
    arXiv:1511.06807.
    """

    def init(params):
        return AddNoiseState(jnp.zeros([], jnp.int32), as_key("add_noise", "key", key))

    def update(updates, state):
        count = safe_increment(state.count)
        deviation = jnp.sqrt(eta / count**gamma)
        rng_key, sample_key = jax.random.split(state.rng_key)
        noise = random_like(sample_key, updates)
        noisy = jax.tree.map(lambda g, n: g + deviation.astype(g.real.dtype) * n, updates, noise)
        return noisy, AddNoiseState(count, rng_key)

    return init, update


def as_key(name: str, what: str, key: Array | int) -> Array:
    """The JAX key of this seed, or a copy of the key."""
    is_key = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not is_key and not (isinstance(key, int) or np.ndim(key) == 0 and hasattr(key, "dtype")):
        raise TypeError(
            f"{name}: {what} must be a seed, an integer, or a JAX key, jax.random.key(0); got {key!r}"
        )
    # A copy, for a state must own its buffers.
    return jnp.copy(key) if is_key else jax.random.key(key)

"""Random bits: a hash of the place of each number, the same in `jit` or out and on any sharding."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gradtx.arrays.types import Array

WEYL = np.uint32(0x9E3779B9)
"""2³² over the golden ratio, odd: adding it again and again goes through all numbers of 32 bits."""


def mixed(x: Array) -> Array:
    """A bijection of 32-bit numbers in which each bit of the result depends on every bit of x.

    Source: C. Wellons, Prospecting for hash functions (2018), the function named lowbias32.
    """
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def random_bits(stream: ArrayLike, shape: Sequence[int]) -> Array:
    """32 random bits for each number of a tensor.

    The place of a number goes through two rounds of mixing, each with another word of the stream: after a
    single one, two streams would be the same sequence, shifted.

    Args:
        stream: a uint32 scalar; another one, such as the next of a count, gives other bits.
        shape: of the tensor.
    """
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    # On a mesh each device makes the places of its own numbers.
    axes = [jax.lax.broadcasted_iota(jnp.uint32, shape, axis) for axis in range(len(shape))]
    places = [axis * np.uint32(stride % 2**32) for axis, stride in zip(axes, strides, strict=True)]
    place = sum(places, jnp.zeros(shape, jnp.uint32))
    first = mixed(jnp.asarray(stream, jnp.uint32) * WEYL + np.uint32(1))
    return mixed(mixed(place + first) ^ mixed(first + WEYL))

"""Random trees: a key for each tensor."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.types import Array


def split_key_like(rng_key: Array, target_tree: Any) -> Any:
    """An independent key for each tensor of a tree.

    Args:
        rng_key: a key of `jax.random`.
        target_tree: a tree of tensors.

    Returns:
        A tree of its structure, of keys.
    """
    treedef = jax.tree.structure(target_tree)
    return treedef.unflatten(jax.random.split(rng_key, treedef.num_leaves) if treedef.num_leaves else [])


def random_like(
    rng_key: Array, target_tree: Any, sampler: Callable[..., Array] = jax.random.normal, dtype: Any = None
) -> Any:
    """A tree of random numbers, independent for each tensor.

    Args:
        rng_key: a key of `jax.random`.
        target_tree: a tree of tensors; their shapes, dtypes and (explicit) shardings are the result's.
        sampler: ``sampler(key, shape, dtype)``. Default: the standard normal distribution.
        dtype: of the numbers. Default: each tensor's.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> noise = gradtx.tree.random_like(jax.random.key(0), {"w": jnp.zeros((2, 3))}, jax.random.uniform)
        >>> noise["w"].shape
        (2, 3)
    """
    shards = "out_sharding" in inspect.signature(sampler).parameters

    def sampled(x: Any, key: Array) -> Array:
        where = {"out_sharding": jax.typeof(x).sharding} if shards and isinstance(x, jax.Array) else {}
        return sampler(key, jnp.shape(x), dtype or jnp.result_type(x), **where)

    return jax.tree.map(sampled, target_tree, split_key_like(rng_key, target_tree))


def unwrap_random_key_data(input_tree: Any) -> Any:
    """A tree with the numbers of its random keys in their place, for comparing and saving.

    Args:
        input_tree: a tree of arrays and of keys made by `jax.random.key`.
    """

    def unwrapped(x: Any) -> Any:
        is_key = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(x) if is_key else x

    return jax.tree.map(unwrapped, input_tree)

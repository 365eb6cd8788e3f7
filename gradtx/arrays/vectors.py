"""Tensors as one vector, and a vector as tensors, also where shardings are a part of types."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from gradtx.arrays.types import Array


def as_vector(tensors: Sequence[ArrayLike]) -> Array:
    """All numbers of some tensors, at least one, in the promoted dtype.

    On a mesh with explicit axes it is sharded as the tensors are, if all are along their first axis alone
    and the same way; otherwise it is whole on every device.
    """
    arrays = [jnp.asarray(x) for x in tensors]
    specs = [_spec(x) for x in arrays]
    if len({spec[:1] for spec in specs}) > 1 or any(axis is not None for spec in specs for axis in spec[1:]):
        arrays = [_placed(x, PartitionSpec()) for x in arrays]
    return jnp.concatenate([x.ravel() for x in arrays])


def pieces(vector: Array, like: Sequence[ArrayLike]) -> Iterator[Array]:
    """What `as_vector` put together, in the shapes and shardings of these tensors."""
    start = 0
    for x in map(jnp.asarray, like):
        # Outside of jit, `vector[start:end]` is a gather, which a sharded vector does not allow.
        piece = jax.lax.slice_in_dim(vector, start, start + x.size).reshape(x.shape)
        yield _placed(piece, PartitionSpec(*_spec(x)))
        start += x.size


def _spec(x: Array) -> tuple[Any, ...]:
    """Along which explicit axes of a mesh x is sharded."""
    return tuple(jax.typeof(x).sharding.spec)


def _placed(x: Array, spec: PartitionSpec) -> Array:
    if _spec(x) == tuple(spec) or not any(_spec(x)) and not any(spec):
        return x
    return jax.sharding.reshard(x, NamedSharding(jax.typeof(x).sharding.mesh, spec))

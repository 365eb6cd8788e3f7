"""One number of all tensors: every sum, norm and inner product over a tree is put together here.

Where tensors are shards, as inside `jax.shard_map`, a number of what is at hand is not the number of the
whole. `over_shards` extends what is computed within it to the whole: exact norms, on every device.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, reduce
from typing import Any, Literal, NamedTuple

import jax

from gradtx.arrays.types import Array
from gradtx.arrays.varying import varying_axes

Kind = Literal["sum", "max", "min", "all"]

OPERATIONS: dict[Kind, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "sum": (jax.lax.add, jax.lax.psum),
    "max": (jax.lax.max, jax.lax.pmax),
    "min": (jax.lax.min, jax.lax.pmin),
    "all": (jax.lax.bitwise_and, jax.lax.pmin),
}


class Shards(NamedTuple):
    """Which numbers are of shards: `axes` of the mesh, and whether a number varies along them."""

    axes: tuple[str, ...]
    is_of_shard: Callable[[Array], bool]


_SHARDS: ContextVar[Shards | None] = ContextVar("shards", default=None)


@contextmanager
def over_shards(*axes: str, is_of_shard: Callable[[Array], bool] | None = None) -> Iterator[None]:
    """Within it, numbers of all tensors are of the whole tensors, where these are cut along axes of a mesh.

    It is for code that runs in `jax.shard_map`. Tensors that are whole on every device count once.

    Args:
        *axes: the names of the axes that tensors are cut along.
        is_of_shard: whether a scalar, computed from one tensor, is of a shard of it. Default: whether its
            type varies along one of the axes, as `shard_map` with its default checks knows.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> from jax.sharding import PartitionSpec as P
        >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        >>> def norm(x):
        ...     with gradtx.over_shards("data"):
        ...         return gradtx.global_norm({"x": x})
        >>> print(jax.shard_map(norm, mesh=mesh, in_specs=P("data"), out_specs=P())(jnp.array([3.0, 4.0])))
        5.0
    """
    token = _SHARDS.set(Shards(axes, is_of_shard or partial(_varies, axes)))
    try:
        yield
    finally:
        _SHARDS.reset(token)


def shards_in_force() -> Shards | None:
    """What `over_shards` says."""
    return _SHARDS.get()


def _varies(axes: tuple[str, ...], x: Array) -> bool:
    return not varying_axes(x).isdisjoint(axes)


@partial(jax.jit, static_argnums=(0, 2))
def _fold(operation: Callable[[Any, Any], Any], numbers: Sequence[Array], in_pairs: bool = False) -> Array:
    while in_pairs and len(numbers) > 1:
        numbers = [reduce(operation, numbers[i : i + 2]) for i in range(0, len(numbers), 2)]
    return reduce(operation, numbers)


def joined(kind: Kind, numbers: Sequence[Array], *, in_pairs: bool = False) -> Array:
    """Numbers of one dtype, at least one, one for each tensor: their sum, extreme, or whether all hold.

    Args:
        kind: which.
        numbers: scalars.
        in_pairs: whether to join pairs, and pairs of pairs, rather than one after the other.
    """
    operation, collective = OPERATIONS[kind]
    shards = shards_in_force()
    if shards is None:
        return _fold(operation, numbers, in_pairs)
    cut = [x for x in numbers if shards.is_of_shard(x)]
    whole = [x for x in numbers if not shards.is_of_shard(x)]
    if cut:
        whole = [*whole, _collected(collective, _fold(operation, cut, in_pairs), shards.axes)]
    return _fold(operation, whole, in_pairs)


def _collected(collective: Callable[[Any, Any], Any], x: Array, axes: tuple[str, ...]) -> Array:
    # pmin takes numbers.
    return collective(x.astype("int8"), axes).astype(bool) if x.dtype == bool else collective(x, axes)

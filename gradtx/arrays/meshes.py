"""How the dimensions of arrays are cut along the axes of a mesh, and arrays put together again."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from gradtx.arrays.types import Array


def axes_of(cut: Any) -> tuple[str, ...]:
    """The axes that one entry of a `PartitionSpec` names: none, one or several."""
    return () if cut is None else (cut,) if isinstance(cut, str) else tuple(cut)


def devices_along(mesh: Mesh | AbstractMesh, cut: Any) -> int:
    """In how many parts a dimension with this entry of a `PartitionSpec` is cut."""
    return math.prod(mesh.shape[name] for name in axes_of(cut))


def whole(x: Array, axes: Sequence[int] | None = None) -> Array:
    """The tensor with these axes (default: all) whole on every device, where they are sharded explicitly."""
    sharding = jax.typeof(x).sharding
    entries = tuple(sharding.spec)
    kept = tuple(None if axes is None or i in axes else entry for i, entry in enumerate(entries))
    if kept == entries:
        return x
    spec = PartitionSpec(*kept)
    return jax.sharding.reshard(x, NamedSharding(sharding.mesh, spec))


def sharded_like(x: Array, y: Array) -> Array:
    """y, sharded as x is where that is explicit."""
    sharding = jax.typeof(x).sharding
    return y if all(entry is None for entry in sharding.spec) else jax.sharding.reshard(y, sharding)


def everywhere(x: Array) -> Array:
    """x whole on every device of the mesh in force, as `init` puts what has not the shape of a param."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or any(kind != AxisType.Auto for kind in mesh.axis_types):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec())

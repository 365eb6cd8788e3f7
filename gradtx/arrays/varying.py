"""Along which axes of a mesh numbers vary: what types say inside of `jax.shard_map` with its checks."""

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax.core import AbstractValue

from gradtx.arrays.types import Array, PyTree

T = TypeVar("T")
Axes: TypeAlias = frozenset[str]


def in_shard_map() -> bool:
    """Whether this is traced inside of `shard_map`."""
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


def varying_axes(x: Any) -> Axes:
    """The axes along which x varies, an array or the type of one; none elsewhere."""
    kind: Any = x if isinstance(x, AbstractValue) else jax.typeof(x)
    varying = getattr(kind, "vma", None)
    if varying is None:  # its name in later versions
        varying = kind.manual_axis_type.varying
    return varying


def varied(x: Array, axes: Axes) -> Array:
    """x as one that varies along these axes too."""
    missing = tuple(sorted(axes - varying_axes(x)))
    if not missing:
        return x
    lax: Any = jax.lax
    # `pvary` is its name in earlier versions.
    return lax.pcast(x, missing, to="varying") if hasattr(lax, "pcast") else lax.pvary(x, missing)


def varied_like(tree: T, other: PyTree) -> T:
    """A tree that varies along the axes of another, of the same structure."""
    return jax.tree.map(lambda x, y: varied(x, varying_axes(y)), tree, other)


def varied_as_value(f: Callable[[T], Any], x: T) -> T:
    """x, varying along every axis that f(x) does: then its gradient is of the value on this device.

    That of a value that varies, with respect to what does not, is summed over the devices.
    """
    if not in_shard_map():
        return x
    axes = frozenset[str]().union(*map(varying_axes, jax.make_jaxpr(f)(x).out_avals))
    return jax.tree.map(lambda leaf: varied(leaf, axes), x)


def gathered(x: Array, axis: str, dimension: int) -> Array:
    """The pieces of x on the devices of an axis, one after another along a dimension: the same on all."""
    lax: Any = jax.lax
    if "to" in inspect.signature(lax.all_gather).parameters:
        return lax.all_gather(x, axis, axis=dimension, tiled=True, to="invarying")
    # In earlier versions what is gathered counts as varying, and a sum does not.
    size = lax.psum(1, axis)
    shape = [n * (size if i == dimension else 1) for i, n in enumerate(x.shape)]
    start = lax.axis_index(axis) * x.shape[dimension]
    zeros = varied(jnp.zeros(shape, x.dtype), varying_axes(x))
    return lax.psum(lax.dynamic_update_slice_in_dim(zeros, x, start, dimension), axis)

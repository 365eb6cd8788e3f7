"""State in shards inside of `jax.shard_map`: each device updates its share, with exact norms."""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays import errors
from gradtx.arrays.numerics import cast
from gradtx.arrays.reduction import over_shards
from gradtx.arrays.select import leaf_paths
from gradtx.arrays.types import Array, Params, PyTree, State
from gradtx.arrays.varying import gathered, varying_axes
from gradtx.core.layout import whole_shape
from gradtx.core.leafwise import Leafwise
from gradtx.core.transformation import GradientTransformation, Stage
from gradtx.core.treewise import Treewise, stages_in, treewise
from gradtx.sharding.placing import longest_dimension, slots_of
from gradtx.values.domains import DType, Static
from gradtx.wrappers.groups import whole_state

Gradients = Literal["whole", "local", "scattered"]


class Zero(Treewise):
    """What `zero` returns: its gradients may be shards."""

    def param_shape(self, shape: tuple[int, ...], param: tuple[int, ...]) -> tuple[int, ...]:
        own = self.arguments
        if own["gradients"] != "scattered" or not _is_manual(own["axis"]) or len(shape) != len(param):
            return shape
        if (i := cut_along(param, own["axis"], own["min_size"])) is None:
            return shape
        return (*shape[:i], shape[i] * jax.lax.axis_size(own["axis"]), *shape[i + 1 :])


@treewise(inner_states=whole_state, kind=Zero)
def zero(
    inner: GradientTransformation,
    axis: str,
    gradients: Gradients = "whole",
    *,
    min_size: Static[int] = 1024,
    dtype: DType = None,
):
    """Update a share of each tensor on each device of an axis, and gather the updates (ZeRO, stage 1 or 2).

    For the body of `jax.shard_map`, with params that are whole on every device along the axis. Of each
    tensor the longest dimension that the axis divides is cut; what is small, or divided by nothing, is
    updated on every device. The state is that of `inner`, in shards. Norms and other numbers of all tensors
    are those of the whole.

    A bare transformation sees in `shard_map` what is on its device, and takes it for all: a norm is the
    norm of a shard. Under `jax.jit` there are no shards: use `of_state`, for any transformation.

    Args:
        inner: the transformation. What looks at one whole tensor, such as `lamb` or a product of matrices,
            is refused.
        axis: the name of the axis.
        gradients: what `update` is given. ``"whole"``: the same on every device, as `jax.grad` makes them of
            whole params in `shard_map`: their sum over the devices is taken already. ``"local"``: each
            device's own, as of params that `jax.lax.pcast` lets vary; their mean is taken, shard by shard
            (reduce-scatter). ``"scattered"``: each device's share already. Default: whole.
        min_size: tensors of fewer numbers are not cut. Default: 1024.
        dtype: in which gradients and updates travel: ``"bfloat16"`` is half the bytes, for params of that
            dtype. Updates are then rounded to it, which those of such params are in the end; how sums of
            gradients are rounded is the backend's, and a ring of GPUs may do it at each device. On a CPU, XLA
            sums and sends bfloat16 as float32. Default: at least float32.

    Returns:
        A transformation. Its `init` gives shards inside of `shard_map`, and the whole state outside, which
        `of_state` places; the specs of those shardings are the ones of the state in `shard_map`.

    Raises:
        ValueError: for a stage that cannot work on shards, by its name; `update` outside of `shard_map`, or
            in one whose checks are off; gradients that vary along the axis or not, against what was said.

    Source: Rajbhandari et al., ZeRO: memory optimizations toward training trillion parameter models,
    arXiv:1910.02054.
    """
    if gradients not in ("whole", "local", "scattered"):
        raise ValueError(
            f"sharding.zero: gradients must be 'whole', 'local' or 'scattered', got {gradients!r}"
        )
    for stage in stages_in(inner):
        if not on_shards(stage):
            raise ValueError(
                f"sharding.zero: {stage.name} looks at a whole tensor or at what zero does not know, and "
                "here it would see a shard. Leave the step to jax.jit with the shardings of "
                "gradtx.sharding.of_state, which are exact for every transformation"
            )

    def share(x: Array) -> Array:
        """What is this device's of a tensor that is whole."""
        i = cut_along(x.shape, axis, min_size)
        if i is None:
            return x
        size = x.shape[i] // jax.lax.axis_size(axis)
        return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(axis) * size, size, i)

    def sent(collective: Callable[[Array], Array], x: Array) -> Array:
        """What a collective makes of a tensor that travels in the dtype."""
        if dtype is None or jnp.iscomplexobj(x):
            return collective(x)
        return cast(collective(cast(x, jnp.dtype(dtype))), x.dtype)

    def scattered(path: str, grad: Array, param: Array) -> Array:
        varies = axis in varying_axes(grad)
        i = cut_along(param.shape, axis, min_size)
        if gradients == "scattered":
            return grad
        if gradients == "whole":
            if varies:
                raise ValueError(
                    f"sharding.zero: the gradient of {path} differs along {axis!r}, and gradients='whole' "
                    "says that it does not; with each device's own gradients say gradients='local'"
                )
            return share(grad)
        if not varies:
            raise ValueError(
                f"sharding.zero: the gradient of {path} is the same along {axis!r}, and gradients='local' "
                "says that each device has its own: jax.grad has summed it already, of params that do not "
                "vary. Say gradients='whole', or differentiate with respect to "
                "jax.lax.pcast(params, axis, to='varying')"
            )
        if i is None:
            summed = sent(lambda x: jax.lax.psum(x, axis), grad)
        else:
            summed = sent(lambda x: jax.lax.psum_scatter(x, axis, scatter_dimension=i, tiled=True), grad)
        return summed / jax.lax.axis_size(axis)

    def whole(update: Array, param: Array) -> Array:
        i = cut_along(param.shape, axis, min_size)
        return update if i is None else sent(lambda x: gathered(x, axis, i), update)

    def init(params):
        if not _is_manual(axis):
            return inner.init(params)
        return inner.init(jax.tree.map(share, params))

    def update(updates, state, params, **extra):
        if not _is_manual(axis):
            there = ", ".join(map(repr, jax.sharding.get_abstract_mesh().manual_axes))
            raise ValueError(
                f"sharding.zero: update runs inside of jax.shard_map over {axis!r}, and this is "
                f"{f'inside of one over {there}' if there else 'outside'}; under jax.jit use the "
                "transformation itself with gradtx.sharding.of_state"
            )
        if axis not in varying_axes(jax.lax.axis_index(axis)):
            raise ValueError("sharding.zero: shard_map must check what varies: leave check_vma=True")
        _check_cut(inner, state, params, axis, min_size)
        leaves, treedef = jax.tree.flatten(updates, is_leaf=errors.is_none)
        beside = treedef.flatten_up_to(params)
        paths = list(errors.paths(updates))
        pairs = zip(paths, leaves, beside, strict=True)
        own = [None if grad is None else scattered(path, grad, param) for path, grad, param in pairs]
        given = {name: _shares(share, x, treedef) for name, x in extra.items()}
        shares = treedef.unflatten([None if param is None else share(param) for param in beside])
        with over_shards(axis):
            new, state = inner.update(treedef.unflatten(own), state, shares, **given)
        found = treedef.flatten_up_to(new)
        made = [None if x is None else whole(x, param) for x, param in zip(found, beside, strict=True)]
        return treedef.unflatten(made), state

    return init, update


def _is_manual(axis: str) -> bool:
    """Whether this is inside of `shard_map` over the axis."""
    return axis in jax.sharding.get_abstract_mesh().manual_axes


def cut_along(shape: tuple[int, ...], axis: str, min_size: int) -> int | None:
    """The dimension along which a tensor is cut; None if it is whole on every device."""
    return longest_dimension(shape, jax.lax.axis_size(axis)) if math.prod(shape) >= min_size else None


def on_shards(stage: Stage) -> bool:
    """Whether a stage is exact on shards, within `over_shards`."""
    if isinstance(stage, Leafwise):
        return stage.elementwise
    return isinstance(stage, Treewise) and stage.on_shards


def _shares(share: Any, x: PyTree, treedef: Any) -> PyTree:
    """The shares of an extra argument, if it is a tree like the updates."""
    leaves, own = jax.tree.flatten(x, is_leaf=errors.is_none)
    if own != treedef or jax.tree_util.treedef_is_leaf(own):
        return x
    return own.unflatten([None if leaf is None else share(leaf) for leaf in leaves])


def _check_cut(tx: GradientTransformation, state: State, params: Params, axis: str, min_size: int) -> None:
    """Raise if a slot is not cut as its param is."""
    leaves = jax.tree.leaves(params, is_leaf=errors.is_none)
    shapes = dict(zip(leaf_paths(params), map(np.shape, leaves), strict=True))
    devices = jax.lax.axis_size(axis)
    for name, path, node in slots_of(tx, state, shapes) if devices > 1 else ():
        shape, found = shapes.get(path, ()), whole_shape(node)
        i = cut_along(shape, axis, min_size)
        if i is None or not _is_piece(found, shape) or found == (share := _cut(shape, i, devices)):
            continue
        there = "whole on every device" if found == shape else f"{found} on each device"
        raise ValueError(
            f"sharding.zero: {name} is {there}, and {path}, {shape}, is cut along dimension {i} over "
            f"{axis!r}, to {share}. Place the state by gradtx.sharding.of_state over {axis!r} with the same "
            "min_size. Of a slot in a format each device must have whole blocks: give it a block_size that "
            "divides its share, or None"
        )


def _cut(shape: tuple[int, ...], i: int, devices: int) -> tuple[int, ...]:
    return (*shape[:i], shape[i] // devices, *shape[i + 1 :])


def _is_piece(found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether this may be the shape of a tensor in even pieces."""
    even = len(found) == len(shape) and all(m and n % m == 0 for m, n in zip(found, shape, strict=True))
    return even and math.prod(found) > 1

"""Matrix work shared out: each device of an axis computes some matrices, and hands over the results."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from gradtx.arrays.types import Array, PyTree
from gradtx.arrays.varying import gathered, varied, varying_axes
from gradtx.core.batch import Batch, Given, batch_in_force, batching
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import Treewise, treewise
from gradtx.wrappers.groups import whole_state


class SharedOut(Treewise):
    """What `shared_out` returns."""


@treewise(inner_states=whole_state, others="shown", kind=SharedOut)
def shared_out(inner: GradientTransformation, axis: str):
    """Let each device of an axis compute a share of the matrices, where all of them would compute all.

    For rules made of matrix products or decompositions, such as `contrib.muon`, of params that the devices of
    the axis have whole. Matrices of one shape are put in a stack, filled up to a multiple of the axis; each
    device computes its share, and one all-gather for each shape hands the results to all. The state lies as
    the params do, and nothing else about the transformation changes.

    It works under `jax.jit` within ``jax.set_mesh(mesh)``, on automatic and explicit axes, and in
    `jax.shard_map`.

    Args:
        inner: the transformation; stages that do not work on stacks run as they are.
        axis: the name of the axis.

    Raises:
        ValueError: at `update`, if no mesh with this axis is set; in `jax.shard_map`, of gradients or
            params that differ along the axis.
    """

    def update(updates, state, params=None, **extra):
        with batching(_shares(axis)):
            return inner.update(updates, state, params, **extra)

    return inner.init, update


def _shares(axis: str) -> "Shares":
    mesh = jax.sharding.get_abstract_mesh()
    if axis not in mesh.shape:
        there = ", ".join(map(repr, mesh.shape)) or "none"
        raise ValueError(
            f"sharding.shared_out: no mesh with an axis {axis!r} is set, the axes here are: {there}. Call "
            f"within jax.set_mesh(mesh), or run in jax.shard_map over {axis!r}"
        )
    kind = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))[axis]
    return Shares(
        mesh.shape[axis], axis, AxisType.Manual if axis in mesh.manual_axes else kind, batch_in_force()
    )


@dataclass(frozen=True)
class Shares(Batch):
    """Stacks of which each device along an axis computes its share.

    Args:
        devices: how many there are along the axis.
        axis: its name.
        kind: whether it is automatic, explicit, or manual: in `shard_map`.
        each: how a device goes through its share.
    """

    devices: int
    axis: str
    kind: AxisType
    each: Batch

    joins = True

    def map(self, function: Callable[..., PyTree], given: Given) -> list[PyTree]:
        if self.kind == AxisType.Explicit:
            return self._in_stacks(function, given)
        share = partial(self._share, function)
        if self.kind == AxisType.Manual:
            return share(given)
        # Nothing is cut along the axis before its devices choose, so none has to ask another for its part.
        everywhere = PartitionSpec()
        mapped = jax.shard_map(share, in_specs=everywhere, out_specs=everywhere, axis_names={self.axis})
        return mapped(list(given))

    def _in_stacks(self, function: Callable[..., PyTree], given: Given) -> list[PyTree]:
        """All shares as one stack, cut along the axis: `shard_map` takes no numbers of explicit axes from
        around it, and functions have such."""
        cut, whole = (partial(_resharded, spec=spec) for spec in (PartitionSpec(self.axis), PartitionSpec()))
        results = jax.vmap(function)(*jax.tree.map(cut, self._filled_up(given)))
        return unstacked(handed_over(results, whole), len(given))

    def _filled_up(self, given: Given) -> Any:
        """The stack of what is given; what fills a share up is computed and thrown away."""
        full = [*given, *[given[0]] * (-len(given) % self.devices)]
        return jax.tree.map(lambda *tensors: jnp.stack(tensors), *full)

    def _share(self, function: Callable[..., PyTree], given: Given) -> list[PyTree]:
        """What one device does: its share of the matrices, and the exchange with the others."""
        if any(self.axis in varying_axes(x) for x in jax.tree.leaves(given)):
            raise ValueError(
                f"sharding.shared_out: gradients or params differ along {self.axis!r}, and each device is to "
                "compute what all have; take the mean of the gradients first, by jax.lax.pmean"
            )
        count = len(given)
        share = -(-count // self.devices)
        stacked = jax.tree.map(lambda *tensors: jnp.stack(tensors), *given)
        first = jax.lax.axis_index(self.axis) * share
        # Past the last matrix come the first ones again, computed and thrown away.
        places = [(first + i) % count for i in range(share)]
        own = [
            jax.tree.map(lambda x, i=i: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), stacked)
            for i in places
        ]
        together = jax.tree.map(lambda *tensors: jnp.stack(tensors), *self.each.map(jax.jit(function), own))
        # In a ring a sum sends twice what is summed; where most devices only fill up, that is less.
        few = share * self.devices > 2 * count
        collect = partial(self._summed, first, count) if few else lambda x: gathered(x, self.axis, 0)
        return unstacked(handed_over(together, collect), count)

    def _summed(self, first: Array, count: int, x: Array) -> Array:
        """One result of each of the first devices, as the sum of stacks in which all else is zero."""
        zeros = varied(jnp.zeros((count, *x.shape[1:]), x.dtype), varying_axes(x))
        own = jnp.where(first < count, x[0], jnp.zeros_like(x[0]))
        return jax.lax.psum(jax.lax.dynamic_update_index_in_dim(zeros, own, first % count, 0), self.axis)


def _resharded(x: Array, spec: PartitionSpec) -> Array:
    return jax.sharding.reshard(x, spec)


def unstacked(stacked: PyTree, count: int) -> list[PyTree]:
    """The first trees of those in a stack."""
    return [jax.tree.map(itemgetter(i), stacked) for i in range(count)]


def handed_over(stacked: PyTree, collect: Callable[[Array], Array]) -> PyTree:
    """Stacks after a collective, one for all that are of one shape and dtype."""
    leaves, treedef = jax.tree.flatten(stacked)
    alike: dict[Any, list[int]] = {}
    for i, x in enumerate(leaves):
        alike.setdefault((x.shape, x.dtype), []).append(i)
    found: dict[int, Array] = {}
    for members in alike.values():
        together = collect(jnp.stack([leaves[i] for i in members], axis=1))
        found |= {i: together[:, k] for k, i in enumerate(members)}
    return treedef.unflatten([found[i] for i in range(len(leaves))])

"""Matrix work shared out: each device of an axis computes some matrices, and hands over the results."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata
from jax.sharding import PartitionSpec

from gradtx.arrays.types import Array, PyTree
from gradtx.arrays.varying import gathered, varied, varying_axes
from gradtx.core.batch import Batch, Given, batch_in_force, batching
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import Treewise, treewise
from gradtx.sharding.dealing import Deal, Turns, fair_turns
from gradtx.wrappers.groups import whole_state


class SharedOut(Treewise):
    """What `shared_out` returns."""


LEFT_OVER = "matrix_left_over"
"""The function by which a device computes one more than others."""


@treewise(inner_states=whole_state, others="shown", kind=SharedOut)
def shared_out(inner: GradientTransformation, axis: str):
    """Let each device of an axis compute a share of the matrices, where all of them would compute all.

    For rules made of matrix products or decompositions, such as `contrib.muon`. Of the matrices of one shape
    each device computes as many as the others; what is left over goes to the devices with the least to do.
    The results of one shape are handed over together: by one all-gather, if the devices of the axis have the
    params whole; by one all-to-all, if the axis cuts them, as another one brought them together. A matrix
    that is alone in its shape is computed by all. The state lies as the params do, and nothing else about
    the transformation changes.

    It works under `jax.jit` within ``jax.set_mesh(mesh)``, on automatic and explicit axes, beside axes that
    cut params too; and in `jax.shard_map` over the axis, of params that are whole. Where other axes cut
    matrices, devices multiply their pieces, and each computes as many as the one with the most.

    On a CPU each matrix has a program of its own. So the results do not depend on the number of devices, bit
    for bit, unless other axes cut matrices.

    Args:
        inner: the transformation; stages that do not work on stacks run as they are.
        axis: the name of the axis.

    Raises:
        ValueError: at `update`, if no mesh with this axis is set; in `jax.shard_map`, of gradients or
            params that differ along the axis.
    """

    def update(updates, state, params=None, **extra):
        def shared(updates, state, params, numbers):
            with batching(_shares(axis, updates)):
                return inner.update(updates, state, params, **extra | numbers)

        functions = {name for name, x in extra.items() if any(map(callable, jax.tree.leaves(x)))}
        numbers = {name: x for name, x in extra.items() if name not in functions}
        return without_types(shared)(updates, state, params, numbers)

    return inner.init, update


def without_types(update: Any) -> Any:
    """An update within which XLA places everything, as on automatic axes; what it returns lies as what it is
    given."""
    mesh = jax.sharding.get_abstract_mesh()
    explicit = tuple(name for name in mesh.explicit_axes if name not in mesh.manual_axes)
    if not explicit:
        return update

    def called(*given: Any) -> Any:
        lie = jax.tree.map(lambda x: jax.typeof(x).sharding, given[:2])
        return jax.sharding.auto_axes(update, axes=explicit, out_sharding=lie)(*given)

    return called


def _shares(axis: str, updates: PyTree) -> Batch:
    mesh = jax.sharding.get_abstract_mesh()
    if axis not in mesh.shape:
        there = ", ".join(map(repr, mesh.shape)) or "none"
        raise ValueError(
            f"sharding.shared_out: no mesh with an axis {axis!r} is set, the axes here are: {there}. Call "
            f"within jax.set_mesh(mesh), or run in jax.shard_map over {axis!r}"
        )
    devices, each = mesh.shape[axis], batch_in_force()
    if devices == 1:
        return each
    cut = any(mesh.shape[name] > 1 for name in mesh.axis_names if name not in (axis, *mesh.manual_axes))
    shapes = Counter(x.shape for x in jax.tree.leaves(updates) if hasattr(x, "shape"))
    each = each if each.joins or cut else Apart()
    return Shares(devices, axis, axis in mesh.manual_axes, each, not cut, fair_turns(shapes, devices))


@dataclass(frozen=True)
class Apart(Batch):
    """One after the other, each by a program of its own, which XLA fuses with nothing that is around it.

    It rounds alike then wherever it runs, and however many matrices a device has.
    """

    joins = True

    def map(self, function: Callable[..., PyTree], given: Given) -> list[PyTree]:
        program = jax.jit(function)
        with set_xla_metadata(inlineable="false"):
            return [program(*own) for own in given]


@dataclass(frozen=True)
class Shares(Batch):
    """Matrices of one shape of which each device along an axis computes its share.

    Args:
        devices: how many there are along the axis.
        axis: its name.
        is_manual: whether this is in `shard_map` over it.
        each: how a device goes through its share.
        may_idle: whether a device with nothing in its last place may skip it: where no other axis cuts
            matrices, for devices that multiply their pieces wait for one another.
        turns: from `fair_turns`.
    """

    devices: int
    axis: str
    is_manual: bool
    each: Batch
    may_idle: bool
    turns: Turns

    joins = True

    def map(self, function: Callable[..., PyTree], given: Given) -> list[PyTree]:
        shape = jnp.shape(jax.tree.leaves(given[0])[0])
        deal = Deal(len(given), dict(self.turns).get(shape, tuple(range(self.devices))))
        choosing = partial(self._chosen, function, deal)
        if self.is_manual:
            return choosing(given)
        axes = {self.axis}
        if deal.is_few:
            # Nothing is cut along the axis before its devices choose: none has to ask another for its part.
            whole = PartitionSpec()
            return jax.shard_map(choosing, in_specs=whole, out_specs=whole, axis_names=axes)(list(given))
        cut = PartitionSpec(self.axis)
        own = partial(self._stack_of, function, deal)
        share = jax.shard_map(own, in_specs=cut, out_specs=cut, axis_names=axes)
        # A stack lies as its matrices do, and then by device: so XLA finds that nothing is to be sent of what
        # all have, and that what this axis cuts goes to its device by one all-to-all.
        results = share(exchanged(_by_device(given, deal), lambda x: _along(_along(x, None), self.axis)))
        return _in_order(exchanged(results, lambda x: _along(x, None)), deal)

    def _chosen(self, function: Callable[..., PyTree], deal: Deal, given: Given) -> list[PyTree]:
        """What one device does of matrices that all have: its share, and the exchange with the others."""
        if any(self.axis in varying_axes(x) for x in jax.tree.leaves(given)):
            raise ValueError(
                f"sharding.shared_out: gradients or params differ along {self.axis!r}, and each device is to "
                "compute what all have; take the mean of the gradients first, by jax.lax.pmean"
            )
        stacked = jax.tree.map(lambda *tensors: jnp.stack(tensors), *given)
        places = jnp.asarray(deal.rows)[jax.lax.axis_index(self.axis)]
        own = [
            jax.tree.map(lambda x, i=i: jax.lax.dynamic_index_in_dim(x, places[i], keepdims=False), stacked)
            for i in range(deal.places)
        ]
        together = jax.tree.map(lambda *tensors: jnp.stack(tensors), *self._computed(function, own, deal))
        # In a ring a sum sends twice what is summed; where most devices have nothing, that is less.
        if deal.is_few:
            return unstacked(exchanged(together, partial(self._summed, places[0], deal)), deal.count)
        return _in_order(exchanged(together, lambda x: gathered(x, self.axis, 0)), deal)

    def _stack_of(self, function: Callable[..., PyTree], deal: Deal, stacked: PyTree) -> PyTree:
        """What one device does of the stack of its own matrices."""
        results = self._computed(function, unstacked(stacked, deal.places), deal)
        return jax.tree.map(lambda *tensors: jnp.stack(tensors), *results)

    def _computed(self, function: Callable[..., PyTree], own: Given, deal: Deal) -> list[PyTree]:
        """The results of a device's own matrices."""
        if not (deal.owners and self.may_idle):
            return self.each.map(function, own)
        results = self.each.map(function, own[: deal.each]) if deal.each else []
        return [*results, self._where_one_more(function, own[-1:], deal)]

    def _where_one_more(self, function: Callable[..., PyTree], own: Given, deal: Deal) -> PyTree:
        """The result in the last place on the devices that have something there, zeros on the others."""
        shapes = jax.eval_shape(function, *own[0])
        axes = frozenset({self.axis}).union(*map(varying_axes, jax.tree.leaves(own)))

        def matrix_left_over() -> PyTree:
            return jax.tree.map(lambda x: varied(x, axes), self.each.map(function, own)[0])

        def nothing() -> PyTree:
            return jax.tree.map(lambda x: varied(jnp.zeros(x.shape, x.dtype), axes), shapes)

        return jax.lax.cond(self._has_one_more(deal), jax.jit(matrix_left_over), nothing)

    def _has_one_more(self, deal: Deal) -> Array:
        owners = set(deal.owners)
        return jnp.asarray([i in owners for i in range(self.devices)])[jax.lax.axis_index(self.axis)]

    def _summed(self, place: Array, deal: Deal, x: Array) -> Array:
        """The results of the devices that have one, as the sum of stacks in which all else is zero."""
        zeros = varied(jnp.zeros((deal.count, *x.shape[1:]), x.dtype), varying_axes(x))
        own = jnp.where(self._has_one_more(deal), x[0], jnp.zeros_like(x[0]))
        return jax.lax.psum(jax.lax.dynamic_update_index_in_dim(zeros, own, place, 0), self.axis)


def _by_device(given: Given, deal: Deal) -> Any:
    """One stack, of the places of the first device, of the second, and so on."""
    return jax.tree.map(lambda *tensors: jnp.stack(tensors), *(given[i] for row in deal.rows for i in row))


def _in_order(stacked: PyTree, deal: Deal) -> list[PyTree]:
    """The trees of a stack by device, as they were given."""
    return [jax.tree.map(itemgetter(i), stacked) for i in deal.found_at]


def _along(x: Array, axis: str | None) -> Array:
    """A stack cut along an axis, or along none; its other dimensions are left to XLA."""
    others = [PartitionSpec.UNCONSTRAINED] * (x.ndim - 1)
    return jax.lax.with_sharding_constraint(x, PartitionSpec(axis, *others))


def unstacked(stacked: PyTree, count: int) -> list[PyTree]:
    """The first trees of those in a stack."""
    return [jax.tree.map(itemgetter(i), stacked) for i in range(count)]


def exchanged(stacked: PyTree, exchange: Callable[[Array], Array]) -> PyTree:
    """Stacks after a collective, one for all that are of one type."""
    leaves, treedef = jax.tree.flatten(stacked)
    alike: dict[Any, list[int]] = {}
    for i, x in enumerate(leaves):
        alike.setdefault(jax.typeof(x), []).append(i)
    found: dict[int, Array] = {}
    for members in alike.values():
        together = exchange(jnp.stack([leaves[i] for i in members], axis=1))
        found |= {i: together[:, k] for k, i in enumerate(members)}
    return treedef.unflatten([found[i] for i in range(len(leaves))])

"""What a step takes on each device of a mesh that need not be here: bytes, collectives, matrix work."""

import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from gradtx.arrays.jaxprs import inner_jaxprs, matrix_flops, operations
from gradtx.arrays.meshes import axes_of
from gradtx.arrays.select import leaf_paths
from gradtx.arrays.types import Params, PyTree, State
from gradtx.arrays.varying import varied
from gradtx.core.layout import whole_shape
from gradtx.core.transformation import GradientTransformation, check_transformation
from gradtx.core.treewise import stages_in
from gradtx.sharding.dealing import fair_turns
from gradtx.sharding.placing import of_state, params_on, shape_of, slots_of, spread
from gradtx.sharding.reporting import Report, report
from gradtx.sharding.sharing import LEFT_OVER, SharedOut
from gradtx.sharding.zero import Gradients, Zero

Kind = Literal["all-reduce", "reduce-scatter", "all-gather", "all-to-all"]

KINDS: dict[str, Kind] = {
    "psum": "all-reduce",
    "psum_invariant": "all-reduce",
    "pmax": "all-reduce",
    "pmin": "all-reduce",
    "reduce_scatter": "reduce-scatter",
    "all_gather": "all-gather",
    "all_gather_invariant": "all-gather",
    "all_gather_reduced": "all-gather",
    "all_to_all": "all-to-all",
}
"""What XLA makes of JAX's primitives."""


class Collective(NamedTuple):
    """The collectives of one kind in a step.

    Attributes:
        kind: such as ``"all-gather"``.
        count: how many there are, before XLA joins some.
        size: their bytes on each device: of what is summed, scattered, or has been gathered.
        sent: the bytes that each device sends, in a ring.
    """

    kind: Kind
    count: int
    size: int
    sent: int


@dataclass(frozen=True)
class Plan:
    """What a training step takes on each device; it prints as a table.

    Attributes:
        params: bytes of the params on each device; the gradients take as many.
        state: where the optimizer's state is.
        collectives: of the gradients and of the optimizer, not of the model.
        flops: of matrix products and decompositions in the optimizer, on the device that has the most.
        flops_alone: the same where each device does all.
    """

    params: int
    state: Report
    collectives: Sequence[Collective]
    flops: int
    flops_alone: int

    def __str__(self) -> str:
        on_each = f"on each of {self.state.devices}"
        lines = [f"{'':16} {on_each:>20} {'whole':>20}"]
        lines += [f"{'params, bytes':16} {self.params:20,}"]
        lines += [f"{'state, bytes':16} {self.state.per_device:20,} {self.state.total:20,}"]
        if self.flops_alone:
            lines += [f"{'matrix FLOPs':16} {self.flops:20,} {self.flops_alone:20,}"]
        lines += ["", f"{'a step':16} {'bytes':>20} {'sent, in a ring':>20} {'count':>8}"]
        lines += [f"{x.kind:16} {x.size:20,} {x.sent:20,} {x.count:8,}" for x in self.collectives]
        return "\n".join(lines)


def plan(
    tx: GradientTransformation,
    params: Params,
    mesh: Mesh | AbstractMesh,
    axis: str,
    *,
    min_size: int = 1024,
    **extra: Any,
) -> Plan:
    """What a data-parallel step takes on each device: bytes kept, bytes of collectives, matrix work.

    Nothing is allocated and nothing compiled, so it is for meshes of any size. The step is one of the kinds
    of `gradtx.sharding`: under `jax.jit` with the shardings of `of_state`, gradients are summed over the axis
    and updates gathered; a transformation of `zero` or `shared_out` is traced as it runs in
    `jax.shard_map`, and the state of the latter counts as whole. Collectives of the model, such as those of
    tensor parallelism, are not among them; matrix work on tensors that other axes cut counts as if each
    device multiplied its pieces.

    Args:
        tx: the transformation.
        params: the params or their shapes, sharded over other axes or not.
        mesh: the mesh, or an `AbstractMesh`.
        axis: the name of the axis that batches are spread over.
        min_size: as in `of_state`; a `zero` has its own.
        **extra: what else `update` takes, or its shapes.

    Returns:
        A table to print.

    Raises:
        ValueError: as `of_state`.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> from jax.sharding import AbstractMesh
        >>> params = {"w": jax.ShapeDtypeStruct((4096, 4096), jnp.float32)}
        >>> tx = gradtx.sharding.zero(gradtx.adamw(1e-3), "data", gradients="local")
        >>> found = gradtx.sharding.plan(tx, params, AbstractMesh((64,), ("data",)), "data")
        >>> found.state.per_device / found.state.total < 1 / 63
        True
        >>> [(x.kind, x.size) for x in found.collectives]
        [('reduce-scatter', 67108864), ('all-gather', 67108864)]
    """
    check_transformation("sharding.plan", "tx", tx)
    stages = list(stages_in(tx))
    zero = next((stage for stage in stages if isinstance(stage, Zero)), None)
    gradients = "whole" if zero is None else zero.arguments["gradients"]
    if zero is not None:
        min_size = zero.arguments["min_size"]
    is_shared = any(isinstance(stage, SharedOut) for stage in stages)
    if zero is None and is_shared:
        min_size = sys.maxsize  # its state lies as the params do
    shardings = of_state(tx, params, mesh, axis, min_size=min_size)
    others = {name: size for name, size in mesh.shape.items() if name != axis}
    step = _Step(tx, _of_one_device(params, mesh), axis, others, gradients, min_size, extra)
    devices = mesh.shape[axis]
    program = step.on(devices)
    sizes = Counter[Kind]()
    counts = Counter[Kind]()

    def add(kind: Kind, size: int, times: int = 1) -> None:
        sizes[kind] += size * times
        counts[kind] += times

    for operation in operations(program):
        if (kind := KINDS.get(operation.equation.primitive.name)) is not None:
            sides = operation.equation.invars, operation.equation.outvars
            add(kind, max(sum(_size(x.aval) for x in side) for side in sides), operation.times)
    cut = set[str]() if zero is not None else _cut(tx, params, shardings, axis)
    for path, x in zip(leaf_paths(params), jax.tree.leaves(step.params), strict=True):
        if gradients == "whole":
            add("all-reduce", _size(x))
        if path in cut:
            add("all-gather", _size(x))
    return Plan(
        sum(map(_size, jax.tree.leaves(step.params))),
        report(tx, params, shardings),
        [
            Collective(kind, counts[kind], size, _sent(kind, size, devices))
            for kind, size in sizes.items()
            if devices > 1
        ],
        _flops_of_busiest(program, step.params, devices),
        matrix_flops(step.on(1) if is_shared else program),
    )


@dataclass(frozen=True)
class _Step:
    """An update as one device of an axis runs it, in `jax.shard_map`, of what it has of the params."""

    tx: GradientTransformation
    params: Params
    axis: str
    others: Mapping[str, int]
    gradients: Gradients
    min_size: int
    extra: Mapping[str, Any]

    def on(self, devices: int) -> Any:
        """The jaxpr on so many devices."""
        axes = {self.axis: devices, **self.others}
        mesh = AbstractMesh((*axes.values(),), (*axes,), axis_types=(AxisType.Auto,) * len(axes))
        is_zero = any(isinstance(stage, Zero) for stage in stages_in(self.tx))
        whole = PartitionSpec()

        def cut(x: Any) -> PartitionSpec:
            return (
                spread(x.shape, whole, (self.axis,), mesh) if math.prod(x.shape) >= self.min_size else whole
            )

        state = jax.eval_shape(self.tx.init, self.params)
        specs = jax.tree.map(lambda _: whole, state)
        if is_zero:
            placed = of_state(self.tx, self.params, mesh, self.axis, min_size=self.min_size)
            specs = jax.tree.map(lambda sharding: sharding.spec, placed)
        of_grads = jax.tree.map(cut if self.gradients == "scattered" else lambda _: whole, self.params)

        def update(grads: Params, state: State, params: Params, extra: Mapping[str, Any]) -> Params:
            if self.gradients == "local":
                grads = jax.tree.map(lambda x: varied(x, frozenset([self.axis])), grads)
            return self.tx.update(grads, state, params, **extra)[0]

        mapped = jax.shard_map(
            update,
            mesh=mesh,
            in_specs=(of_grads, specs, whole, whole),
            out_specs=whole,
            axis_names={self.axis},
        )
        trace = partial(jax.make_jaxpr(mapped), self.params, state, self.params, self.extra)
        with ThreadPoolExecutor(1) as other:  # where the mesh that may be set around this is not
            return other.submit(trace).result().jaxpr


def _flops_of_busiest(program: Any, params: Params, devices: int) -> int:
    """The matrix work of the device that has the most: not each has a matrix of those left over."""
    shapes = Counter(x.shape for x in jax.tree.leaves(params))
    turns, loads, on_all = dict(fair_turns(shapes, devices)), [0] * devices, matrix_flops(program)
    for equation in _left_over(program):
        shape, flops = equation.outvars[0].aval.shape, max(map(matrix_flops, inner_jaxprs(equation)))
        on_all -= flops
        for device in turns.get(shape, range(devices))[: shapes[shape] % devices]:
            loads[device] += flops
    return on_all + max(loads)


def _left_over(jaxpr: Any) -> Iterator[Any]:
    """The conditional calls by which `shared_out` computes what is left over."""
    for equation in jaxpr.eqns:
        inner = inner_jaxprs(equation)
        if equation.primitive.name == "cond" and any(
            call.params.get("name") == LEFT_OVER for branch in inner for call in branch.eqns
        ):
            yield equation
        else:
            for each in inner:
                yield from _left_over(each)


def _of_one_device(params: Params, mesh: Mesh | AbstractMesh) -> Params:
    """The shapes of what one device has of the params."""
    leaves, treedef = jax.tree.flatten(params)
    placed = params_on("sharding.plan", mesh, params).values()
    return treedef.unflatten(
        jax.ShapeDtypeStruct(NamedSharding(mesh, spec).shard_shape(shape), x.dtype)
        for x, (shape, spec) in zip(leaves, placed, strict=True)
    )


def _cut(tx: GradientTransformation, params: Params, shardings: PyTree, axis: str) -> set[str]:
    """The paths of params that lie in more pieces in the state than among the params: each device has a
    piece of their updates."""
    shapes = {path: jnp.shape(x) for path, x in zip(leaf_paths(params), jax.tree.leaves(params), strict=True)}
    state = jax.eval_shape(tx.init, jax.tree.map(shape_of, params))
    leaves = iter(jax.tree.leaves(shardings))
    found = set()
    for _, path, node in slots_of(tx, state, shapes):
        parts = [next(leaves) for _ in jax.tree.leaves(node)]
        used = {name for part in parts for cut in part.spec for name in axes_of(cut)}
        if path in shapes and whole_shape(node) == shapes[path] and axis in used:
            found.add(path)
    return found


def _size(x: Any) -> int:
    return math.prod(x.shape) * x.dtype.itemsize


def _sent(kind: Kind, size: int, devices: int) -> int:
    """What a device sends in a ring: of each of n pieces n - 1 times, of a sum twice that."""
    return (2 if kind == "all-reduce" else 1) * size * (devices - 1) // devices

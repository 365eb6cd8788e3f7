"""Where each array of a state lies on a mesh: beside its param, and spread over one more axis."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from gradtx.arrays.meshes import axes_of, devices_along
from gradtx.arrays.select import leaf_paths
from gradtx.arrays.types import Params, PyTree, State
from gradtx.core.layout import is_coded, whole_shape
from gradtx.core.transformation import GradientTransformation, check_transformation
from gradtx.state.state_dict import located

Axes: TypeAlias = str | tuple[str, ...]
Shape: TypeAlias = tuple[int, ...]


def of_state(
    tx: GradientTransformation,
    params: Params,
    mesh: Mesh | AbstractMesh,
    axis: Axes,
    *,
    min_size: int = 1024,
    overrides: Mapping[str, PartitionSpec] | None = None,
    memory_kind: str | None = None,
) -> PyTree:
    """The shardings of a state whose slots are spread over an axis of a mesh.

    What has the shape of its param lies as the param does, and `axis` cuts the longest dimension that
    nothing cuts and that it divides. Of another shape, such as the rows of a factored moment or a Gram
    matrix, it cuts the longest dimension that it divides. Small tensors, scalars and what it does not divide
    keep to the param's sharding, or are whole on every device; `report` says which, and why.

    The tree is for ``jax.jit(step, out_shardings=...)``, for checkpoints, and for `init`. A step that is
    compiled for it computes each slot where it lies; params and gradients stay as they are.

    Args:
        tx: the transformation.
        params: the params, or their shapes as `jax.ShapeDtypeStruct`, sharded in any way on this mesh.
            Those without a sharding on a mesh count as whole on every device.
        mesh: the mesh, or an `AbstractMesh` for devices that are not here.
        axis: the name of an axis of it, or several as a tuple. A dimension that the param's sharding cuts
            already is not cut again, and no axis is used twice.
        min_size: tensors of fewer numbers are not spread. Default: 1024.
        overrides: by pattern of the param's path, the spec of what has the param's shape; the first that
            matches decides.
        memory_kind: of the arrays, such as ``"pinned_host"`` where the backend has it. Default: the device's.

    Returns:
        A tree like the state, of `jax.sharding.NamedSharding`.

    Raises:
        ValueError: for an axis that the mesh has not; params on another mesh; an override that matches no
            path or does not divide a dimension. The message names path and sizes.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> mesh = jax.make_mesh((1,), ("data",))
        >>> params = {"w": jnp.zeros((256, 64))}
        >>> tx = gradtx.adamw(1e-3)
        >>> shardings = gradtx.sharding.of_state(tx, params, mesh, axis="data")
        >>> state = gradtx.sharding.init(tx, params, shardings)
        >>> tuple(state[0].mu["w"].sharding.spec)
        ('data', None)
    """
    check_transformation("sharding.of_state", "tx", tx)
    names = (axis,) if isinstance(axis, str) else tuple(axis)
    for name in names:
        if name not in mesh.shape:
            raise ValueError(
                f"sharding.of_state: the mesh has no axis {name!r}; it has {', '.join(map(repr, mesh.shape))}"
            )
    beside = params_on("sharding.of_state", mesh, params)
    fixed = _fixed(overrides or {}, beside, mesh)
    shapes = jax.tree.map(shape_of, params)
    state = jax.eval_shape(tx.init, shapes)

    def placed(path: str, node: Any) -> PyTree:
        shape = whole_shape(node)
        parts = [part.shape for part in jax.tree.leaves(node)]
        param_shape, spec = beside.get(path, ((), PartitionSpec()))
        if shape == param_shape and path in fixed:
            spec = fixed[path]
        else:
            spec = spec if shape == param_shape else PartitionSpec()
            if math.prod(shape) >= min_size:
                spec = spread(shape, spec, names, mesh, parts)
        return jax.tree.map(lambda part: on_mesh(_of_part(part.shape, shape, spec, mesh)), node)

    def on_mesh(spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(mesh, spec, memory_kind=memory_kind)

    treedef = jax.tree.structure(state, is_leaf=is_coded)
    return treedef.unflatten([placed(path, node) for _, path, node in slots_of(tx, state, beside)])


def init(tx: GradientTransformation, params: Params, shardings: PyTree) -> State:
    """The state of a transformation, each array made where it is to lie.

    It is ``jax.jit(tx.init, out_shardings=shardings)(params)``: no device ever holds more of the state than
    its share.

    Args:
        tx: the transformation.
        params: the params, on the mesh or on the host.
        shardings: from `of_state`.

    Raises:
        ValueError: for the shardings of another state, or of another mesh than that of a param.
    """
    check_transformation("sharding.init", "tx", tx)
    made = jax.tree.structure(jax.eval_shape(tx.init, jax.tree.map(shape_of, params)))
    if made != (given := jax.tree.structure(shardings)):
        raise ValueError(
            f"sharding.init: these shardings are not those of a state of {tx.name} for these params; make "
            f"them by gradtx.sharding.of_state(tx, params, mesh, axis). Given: {given}; needed: {made}"
        )
    if leaves := jax.tree.leaves(shardings):
        params_on("sharding.init", leaves[0].mesh, params)
    return jax.jit(tx.init, out_shardings=shardings)(params)


def spread(
    shape: Shape,
    spec: PartitionSpec,
    names: Sequence[str],
    mesh: Mesh | AbstractMesh,
    parts: Sequence[Shape] = (),
) -> PartitionSpec:
    """A spec with axes of the mesh on the longest dimension that nothing cuts and that they divide.

    Args:
        shape: of the tensor.
        spec: where it is cut already; axes in it are not used again.
        names: the axes.
        mesh: the mesh.
        parts: the shapes of what is kept of the tensor, if it is coded: no block is cut.
    """
    own = [*spec, *[None] * (len(shape) - len(spec))]
    used = {name for cut in own for name in axes_of(cut)}
    left = tuple(name for name in names if name not in used)
    size = devices_along(mesh, left)
    free = [
        i
        for i, cut in enumerate(own)
        if cut is None and all(_is_whole(part, shape, i, size) for part in parts)
    ]
    i = longest_dimension(shape, size, free)
    if i is None or not left:
        return spec
    own[i] = left[0] if len(left) == 1 else left
    return PartitionSpec(*own)


def longest_dimension(shape: Shape, size: int, among: Sequence[int] | None = None) -> int | None:
    """The longest dimension that can be cut in so many parts, the first of several; None if there is none."""
    free = [i for i in (range(len(shape)) if among is None else among) if shape[i] and shape[i] % size == 0]
    return max(free, key=lambda i: shape[i], default=None)


def _is_whole(part: Shape, shape: Shape, i: int, size: int) -> bool:
    """Whether each of so many pieces along a dimension has its own blocks of a coded tensor."""
    if len(part) != len(shape) or i < len(shape) - 1:
        return True
    return part[i] > 0 and shape[i] % part[i] == 0 and part[i] % size == 0


def slots_of(
    tx: GradientTransformation, state: State, params: Mapping[str, Any]
) -> Iterator[tuple[str, str, Any]]:
    """The leaves of a state, a `Coded` being one: the name, the path of the param that it is of, "" for none,
    and the leaf."""
    leaves = iter(located(tx, state))
    for node in jax.tree.leaves(state, is_leaf=is_coded):
        own = [next(leaves) for _ in jax.tree.leaves(node)]
        path = own[0].owner(params)
        yield f"{own[0].part}/{path}", path, node


def params_on(
    caller: str, mesh: Mesh | AbstractMesh, params: Params
) -> dict[str, tuple[Shape, PartitionSpec]]:
    """The shape and spec of each param, by path; raise if one is on another mesh."""
    found = {}
    for path, x in zip(leaf_paths(params, is_leaf=None), jax.tree.leaves(params), strict=True):
        sharding = getattr(x, "sharding", None)
        spec = PartitionSpec()
        if isinstance(sharding, NamedSharding):
            if not _are_one(sharding.mesh, mesh):
                raise ValueError(
                    f"{caller}: {path}, {x.shape}, is on the mesh {_said(sharding.mesh)}, and the state is "
                    f"to be on {_said(mesh)}; put all params on that mesh first, by "
                    "jax.device_put(params, NamedSharding(mesh, spec))"
                )
            spec = sharding.spec
        found[path] = (jax.numpy.shape(x), spec)
    return found


def _are_one(mesh: Mesh | AbstractMesh, other: Mesh | AbstractMesh) -> bool:
    """Whether two meshes are of the same axes, and of the same devices as far as they say it."""
    if isinstance(mesh, Mesh) and isinstance(other, Mesh) and mesh.devices.tolist() != other.devices.tolist():
        return False
    return dict(mesh.shape) == dict(other.shape)


def _said(mesh: Mesh | AbstractMesh) -> str:
    of = ""
    if isinstance(mesh, Mesh):
        ids = mesh.device_ids.flatten().tolist()
        of = f" of devices {', '.join(map(str, ids[:8]))}" + ", …" * (len(ids) > 8)
    return f"{dict(mesh.shape)}{of}"


def _fixed(
    overrides: Mapping[str, PartitionSpec], params: Mapping[str, tuple[Shape, PartitionSpec]], mesh: Any
) -> dict[str, PartitionSpec]:
    """The specs that overrides give, by path."""
    found: dict[str, PartitionSpec] = {}
    for pattern, spec in overrides.items():
        matched = [path for path in params if re.fullmatch(pattern, path)]
        if not matched:
            raise ValueError(
                f"sharding.of_state: overrides: {pattern!r} matches none of the paths: {', '.join(params)}"
            )
        for path in matched:
            if path not in found:
                _check_divides(path, params[path][0], spec, mesh)
                found[path] = spec
    return found


def _check_divides(path: str, shape: Shape, spec: PartitionSpec, mesh: Any) -> None:
    if len(spec) > len(shape):
        raise ValueError(f"sharding.of_state: overrides: {spec} has more dimensions than {path}, {shape}")
    for length, cut in zip(shape, spec, strict=False):
        if unknown := [name for name in axes_of(cut) if name not in mesh.shape]:
            raise ValueError(
                f"sharding.of_state: overrides: {spec} for {path}: the mesh has no axis {unknown[0]!r}; it "
                f"has {', '.join(map(repr, mesh.shape))}"
            )
        size = devices_along(mesh, cut)
        if length % size:
            raise ValueError(
                f"sharding.of_state: overrides: {spec} cuts {path}, {shape}, in {size} parts, and {length} "
                "is no multiple of that"
            )


def _of_part(part: Shape, whole: Shape, spec: PartitionSpec, mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """The spec of what is kept of a tensor; whole, where its last dimension cannot be cut as the tensor's."""
    if len(part) != len(whole):
        return PartitionSpec()
    sizes = (devices_along(mesh, cut) for cut in spec)
    return PartitionSpec(
        *(cut if length % size == 0 else None for cut, length, size in zip(spec, part, sizes, strict=False))
    )


def shape_of(x: Any) -> Any:
    """The shape of a param, with its sharding if it is on a mesh."""
    if not hasattr(x, "dtype"):
        return x
    sharding = getattr(x, "sharding", None)
    on_mesh = sharding if isinstance(sharding, NamedSharding) else None
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on_mesh)

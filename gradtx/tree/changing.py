"""A state in mid-training: reset in part, resized with its params, moved to another optimizer."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.arrays.meshes import whole
from gradtx.arrays.numerics import cast, is_inexact
from gradtx.arrays.select import joined_keys, leaf_paths, mask_of, select
from gradtx.arrays.types import Array, Params, PyTree, Selector, State
from gradtx.core.layout import is_coded, whole_shape
from gradtx.core.transformation import GradientTransformation, check_transformation, put_together
from gradtx.core.treewise import signs_in
from gradtx.state.state_dict import located


@dataclass(frozen=True)
class Report:
    """What became of a state; it prints as a list.

    Attributes:
        carried: the slots that are in the new state what they were, or are made of what they were.
        made: those of the new state that are as `init` makes them.
        dropped: those of the old state of which nothing is left.
    """

    carried: tuple[str, ...]
    made: tuple[str, ...]
    dropped: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = {"carried": self.carried, "made anew": self.made, "dropped": self.dropped}
        return "\n".join(f"{what}: {', '.join(names) or 'nothing'}" for what, names in rows.items())


class Changed(NamedTuple):
    """A state, and what became of the one before."""

    state: State
    report: Report


class Resized(NamedTuple):
    """Params and a state of another size, and what became of those before."""

    params: Params
    state: State
    report: Report


class Rows(NamedTuple):
    """Another size for a param, along one axis.

    new[i] = old[indices[i]], and where indices[i] is −1 a new row.

    Args:
        indices: whole numbers: which rows stay, in which order; one may come several times (splitting), and
            −1 is a new row (growing).
        axis: along which axis; negative from the end.
        new: what new rows of the param are: a number, or an array that goes with them. In the state they are
            as `init` makes them.
    """

    indices: Any
    axis: int = 0
    new: Any = 0.0


class _Slot(NamedTuple):
    """A leaf of a state, a `Coded` being one: its slot, the whole path there, and the param that it is of."""

    part: str
    path: str
    owner: str
    node: Any

    @property
    def name(self) -> str:
        return "/".join(filter(None, (self.part, self.path)))


def reset(tx: GradientTransformation, state: State, params: Params, which: Selector = ".*") -> Changed:
    """The state with the slots of some params as `init` makes them.

    Args:
        tx: the transformation.
        state: its state.
        params: the params as they are now.
        which: which params: a path pattern, or whatever else a mask may be. Default: all, which is `init`.
            What belongs to no param, such as a count for all, is reset only with all of them; but for the
            value that a line search keeps beside a gradient, for the next step is to ask for both.

    Raises:
        ValueError: for a pattern that matches nothing, or a state that is not of these params.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.sgd(0.1, momentum=0.9), {"body": jnp.ones(2), "head": jnp.ones(1)}
        >>> _, state = tx.update(params, tx.init(params), params)
        >>> state, report = gradtx.tree.reset(tx, state, params, "head")
        >>> print(state[0].trace["head"], report, sep="\\n")
        [0.]
        carried: trace/trace/body
        made anew: trace/trace/head
        dropped: nothing
    """
    check_transformation("tree.reset", "tx", tx)
    chosen = dict(
        zip(leaf_paths(params), mask_of("tree.reset", "which", which, params).by_leaf(params), strict=True)
    )
    everything = all(chosen.values())
    state, fresh = _in_forms(tx, state, params), tx.init(params)
    old, new = _slots(tx, state, chosen), _slots(tx, fresh, chosen)
    _check_same("tree.reset", old, new)
    values = _values(old) if any(chosen.values()) else set()
    carried, made, nodes = [], [], []
    for a, b in zip(old, new, strict=True):
        if whole_shape(a.node) != whole_shape(b.node):
            raise ValueError(
                f"tree.reset: {a.name} has shape {list(whole_shape(a.node))}, and init makes "
                f"{list(whole_shape(b.node))} for these params; the state is of others"
            )
        anew = chosen[a.owner] if a.owner else everything or a.part in values
        nodes.append(_placed(b.node, a.node) if anew else a.node)
        (made if anew else carried).append(a.name)
    return Changed(_joined(state, nodes), Report(tuple(carried), tuple(made)))


def resize(tx: GradientTransformation, state: State, params: Params, changes: Mapping[str, Rows]) -> Resized:
    """Params of another size, with their state: pruned, grown or split along an axis.

    Slots follow their params: those of the param's shape, and those that have the axis among theirs, such
    as factored moments. What has not, such as an average over the axis, stays as it is; but for the value
    that a line search keeps of the params as they were.

    Args:
        tx: the transformation.
        state: its state.
        params: its params.
        changes: by path pattern the `Rows` of the params that it matches; the first that matches decides.

    Returns:
        The new params, a state for them, and a report.

    Raises:
        TypeError: for a change that is no `Rows`, or indices that are no whole numbers.
        ValueError: for indices that the axis has not, and for a slot that has no rows to keep, such as the
            two-sided matrices of preconditioners, by its name.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.adam(0.1), {"table": jnp.ones((2, 3))}
        >>> _, state = tx.update(params, tx.init(params), params)
        >>> grown = gradtx.tree.resize(tx, state, params, {"table": gradtx.tree.Rows([0, 1, -1])})
        >>> grown.params["table"].shape, gradtx.tree.get(grown.state, "mu")["table"][:, 0].round(3).tolist()
        ((3, 3), [0.10000000149011612, 0.10000000149011612, 0.0])
    """
    check_transformation("tree.resize", "tx", tx)
    if not isinstance(changes, Mapping):
        raise TypeError(f"tree.resize: changes must be a dict of Rows by path pattern, got {changes!r}")
    for key, x in changes.items():
        if not isinstance(x, Rows):
            raise TypeError(f"tree.resize: {key!r}: must be a gradtx.tree.Rows, got {x!r}")
    labels = {key: key for key in changes}
    chosen = select("tree.resize", "changes", labels, params, default=None) if changes else []
    paths = leaf_paths(params)
    leaves, treedef = jax.tree.flatten(params, is_leaf=lambda x: x is None)
    checked = {
        path: _checked(changes[key], path, leaf)
        for path, key, leaf in zip(paths, chosen or [None] * len(paths), leaves, strict=True)
        if key is not None and leaf is not None
    }
    sizes = {path: leaf.shape for path, leaf in zip(paths, leaves, strict=True) if path in checked}
    rows = {path: x for path, x in checked.items() if not _keeps_all(x, sizes[path][x.axis])}
    grown = [
        _resized_param(leaf, rows[path]) if path in rows else leaf
        for path, leaf in zip(paths, leaves, strict=True)
    ]
    new_params = treedef.unflatten(grown)
    state, fresh = _in_forms(tx, state, params), tx.init(new_params)
    owners = dict.fromkeys(paths, 0)
    old, new = _slots(tx, state, owners), _slots(tx, fresh, owners)
    _check_same("tree.resize", old, new)
    # Which axes of slots are those of the params is asked of `init`, around the old size and the new: where
    # they are not the same throughout, as of moments that are factored by size, what was is no guide.
    axes = {path: change.axis for path, change in rows.items()}
    around = [*_followed(tx, leaves, axes, treedef, old), *_followed(tx, grown, axes, treedef, new)]
    values = _values(old) if rows else set()
    nodes, made = [], []
    for i, (a, b) in enumerate(zip(old, new, strict=True)):
        shape, wanted = whole_shape(a.node), whole_shape(b.node)
        follows = around[0][i] if all(x[i] == around[0][i] for x in around) else None
        if a.part in values:
            node = b.node
            made.append(a.name)
        elif a.owner in rows and follows and len(follows) == 1:
            node = _resized_slot(a, b, follows[0], rows[a.owner])
            if (rows[a.owner].indices < 0).any():
                made.append(f"{a.name} (new rows)")
        elif shape == wanted and (follows == [] or a.owner not in rows):
            node = a.node
        else:
            raise ValueError(
                f"tree.resize: {a.name} of shape {list(shape)} has no axis that is one of "
                f"{a.owner or 'a param'}, for which init makes {list(wanted)}; start anew by init"
            )
        nodes.append(node)
    return Resized(new_params, _joined(fresh, nodes), Report(tuple(x.name for x in old), tuple(made)))


def moved(tx: GradientTransformation, state: State, to: GradientTransformation, params: Params) -> Changed:
    """A state of another optimizer, with what this one's has under the same names.

    A slot goes where a stage of the same name has one, ``scale_by_adam/mu``; else where only one stage here
    and there has a slot of this name, ``mu``, and not where numbers must be at least 0 from where they may be
    less. Counts go with them, where all of the old state agree.

    Args:
        tx, state: the optimizer, and its state.
        to: the other optimizer.
        params: the params.

    Returns:
        A state of `to`, in whose forms and dtypes the slots are; and what was carried, made and dropped.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> params = {"w": jnp.ones(2)}
        >>> adam, lion = gradtx.adam(0.1), gradtx.lion(0.01)
        >>> _, state = adam.update(params, adam.init(params), params)
        >>> state, report = gradtx.tree.moved(adam, state, lion, params)
        >>> print(report)
        carried: scale_by_lion/count, scale_by_lion/mu/w
        made anew: nothing
        dropped: scale_by_adam/nu/w
    """
    check_transformation("tree.moved", "tx", tx)
    check_transformation("tree.moved", "to", to)
    owners = dict.fromkeys(leaf_paths(params), 0)
    state, fresh = _in_forms(tx, state, params), to.init(params)
    old, new = _slots(tx, state, owners), _slots(to, fresh, owners)
    exact = {(x.part, x.path): x for x in old}
    fields = {
        field: [x for x in _parts(old) if _field(x) == field] for field in {_field(x) for x in _parts(old)}
    }
    theirs = [_field(x) for x in _parts(new)]
    signs = signs_in(tx), signs_in(to)
    used: set[str] = set()
    carried, made, nodes = [], [], []
    for x in new:
        source, own = exact.get((x.part, x.path)), [exact.get((x.part, x.path))]
        field = _field(x.part)
        if source is None and field == "count":
            own = [y for y in old if _field(y.part) == "count"]
            source = _agreed(own)
        elif source is None and len(fields.get(field, ())) == 1 and theirs.count(field) == 1:
            source = exact.get((fields[field][0], x.path))
            own = [source]
        if source is not None and signs[1].get(_kind(x)) and signs[0].get(_kind(source)) is False:
            source = None
        if source is None or not _fits(source.node, x.node):
            made.append(x.name)
            nodes.append(x.node)
            continue
        used |= {y.name for y in own if y is not None}
        carried.append(x.name)
        nodes.append(_as(source.node, x.node))
    dropped = tuple(x.name for x in old if x.name not in used)
    return Changed(_joined(fresh, nodes), Report(tuple(carried), tuple(made), dropped))


def _in_forms(tx: GradientTransformation, state: State, params: Params) -> State:
    """The state with its slots in their forms, which Flax's nnx takes apart."""
    whole = put_together(tx, state, params)
    in_forms = [sum(map(is_coded, jax.tree.leaves(x, is_leaf=is_coded))) for x in (state, whole)]
    return whole if in_forms[0] < in_forms[1] else state


def _slots(tx: GradientTransformation, state: State, owners: Mapping[str, int]) -> list[_Slot]:
    def each() -> Iterator[_Slot]:
        leaves = iter(located(tx, state))
        for node in jax.tree.leaves(state, is_leaf=is_coded):
            own = [next(leaves) for _ in jax.tree.leaves(node)]
            within = len(jax.tree_util.tree_leaves_with_path(node)[0][0])  # of a Coded, the name of a part
            path = joined_keys(own[0].path[: len(own[0].path) - within])
            yield _Slot(own[0].part, path, own[0].owner(owners), node)

    return list(each())


def _check_same(name: str, old: Sequence[_Slot], new: Sequence[_Slot]) -> None:
    a, b = [x.name for x in old], [x.name for x in new]
    if a != b:
        strange = sorted(set(a) ^ set(b)) or a
        raise ValueError(
            f"{name}: the state has not the slots that init makes for these params: {', '.join(strange[:4])}"
        )


def _joined(like: State, nodes: Sequence[Any]) -> State:
    return jax.tree.structure(like, is_leaf=is_coded).unflatten(nodes)


def _placed(new: PyTree, old: PyTree) -> PyTree:
    """The new arrays where the old ones are."""
    return jax.tree.map(_beside, new, old)


def _beside(x: Any, old: Any) -> Any:
    if isinstance(x, Tracer) or not getattr(old, "committed", False):
        return x
    return jax.device_put(x, old.sharding)


def _checked(rows: Rows, path: str, param: Any) -> Rows:
    ndim = len(param.shape)
    if not isinstance(rows.axis, int) or not -ndim <= rows.axis < ndim:
        raise ValueError(f"tree.resize: {path} of shape {list(param.shape)} has no axis {rows.axis!r}")
    axis = rows.axis % ndim
    indices = np.asarray(rows.indices)
    if indices.ndim != 1 or not (np.issubdtype(indices.dtype, np.integer) or not indices.size):
        raise TypeError(f"tree.resize: {path}: indices must be a list of whole numbers, got {rows.indices!r}")
    size = param.shape[axis]
    wrong = [int(i) for i in indices if not -1 <= i < size]
    if wrong:
        raise ValueError(
            f"tree.resize: {path} has {size} rows along axis {axis}, and no row {wrong[0]}; -1 is a new row"
        )
    count = int((indices < 0).sum())
    expected = (*param.shape[:axis], count, *param.shape[axis + 1 :])
    try:
        np.broadcast_shapes(jnp.shape(rows.new), expected)
        fits = np.broadcast_shapes(jnp.shape(rows.new), expected) == expected
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"tree.resize: {path}: new has shape {list(jnp.shape(rows.new))}, "
            f"and the new rows {list(expected)}"
        )
    return Rows(indices.astype(np.int64), axis, rows.new)


def _keeps_all(rows: Rows, size: int) -> bool:
    """Whether all rows stay, where they are."""
    return np.array_equal(rows.indices, np.arange(size))


def _taken(x: Array, indices: np.ndarray, axis: int, new: Any) -> Array:
    """The rows of a tensor, and where there is none the new one's; the axis is whole on every device."""
    x, new = whole(x, [axis]), whole(jnp.asarray(new), [axis])
    rows = jnp.take(x, np.maximum(indices, 0), axis=axis) if x.shape[axis] else jnp.zeros_like(new)
    is_new = (indices < 0).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return rows if not is_new.any() else jnp.where(is_new, cast(new, x.dtype), rows)


def _resized_param(param: Any, rows: Rows) -> Array:
    param = jnp.asarray(param)
    shape = (*param.shape[: rows.axis], len(rows.indices), *param.shape[rows.axis + 1 :])
    new = jnp.zeros(shape, param.dtype)
    if (rows.indices < 0).any():
        places = (*[slice(None)] * rows.axis, np.flatnonzero(rows.indices < 0))
        new = new.at[places].set(cast(jnp.asarray(rows.new), param.dtype))
    return _where_it_was(_taken(param, rows.indices, rows.axis, new), param)


def _where_it_was(x: Array, old: Any) -> Array:
    """The array with the sharding of the old one, if that can cut its shape."""
    if isinstance(x, Tracer) or not getattr(old, "committed", False):
        return x
    try:
        return jax.device_put(x, old.sharding)
    except ValueError:  # the new size is none that these devices can share evenly
        return x


def _followed(
    tx: GradientTransformation,
    params: list[Any],
    axes: Mapping[str, int],
    treedef: Any,
    slots: Sequence[_Slot],
) -> list[list[list[int] | None]]:
    """For params of one size more, and of one less, which axes of each slot change with theirs."""
    paths = leaf_paths(treedef.unflatten(params))
    found = []
    for by in (1, -1):
        shapes = [
            _longer(x, axes[path], by) if path in axes else x for path, x in zip(paths, params, strict=True)
        ]
        probe = _slots(tx, jax.eval_shape(tx.init, treedef.unflatten(shapes)), dict.fromkeys(paths, 0))
        _check_same("tree.resize", slots, probe)
        follows = [
            _changed(whole_shape(a.node), whole_shape(b.node)) for a, b in zip(slots, probe, strict=True)
        ]
        short = {path for path, axis in axes.items() if by < 0 and params[paths.index(path)].shape[axis] < 3}
        before = found[0] if found else follows
        found.append([before[i] if x.owner in short else follows[i] for i, x in enumerate(slots)])
    return found


def _longer(param: Any, axis: int, by: int) -> jax.ShapeDtypeStruct:
    # What is of size 1 is not made less: where one number is left, there are other rules.
    shape = tuple(max(size + by, 1) if i == axis else size for i, size in enumerate(param.shape))
    return jax.ShapeDtypeStruct(shape, param.dtype)


def _changed(shape: tuple[int, ...], other: tuple[int, ...]) -> list[int] | None:
    """The axes that are of another size; None where there are more or fewer."""
    if len(shape) != len(other):
        return None
    return [i for i, (a, b) in enumerate(zip(shape, other, strict=True)) if a != b]


def _resized_slot(old: _Slot, new: _Slot, axis: int, rows: Rows) -> Any:
    x = old.node.decode() if is_coded(old.node) else old.node
    y = new.node.decode() if is_coded(new.node) else new.node
    taken = _taken(x, rows.indices, axis, y)
    return _placed(new.node.encode(taken) if is_coded(new.node) else cast(taken, new.node.dtype), new.node)


def _parts(slots: Sequence[_Slot]) -> list[str]:
    return list(dict.fromkeys(x.part for x in slots))


def _values(slots: Sequence[_Slot]) -> set[str]:
    """The slots with a value beside its gradient, which line searches keep for the next step."""
    parts = set(_parts(slots))
    return {x for x in parts if _field(x) == "value" and f"{x.removesuffix('value')}grad" in parts}


def _kind(slot: _Slot) -> str:
    """The slot as its stage calls it, whichever of several of a name that is."""
    return re.sub(r"_\d+/", "/", slot.part)


def _field(part: str) -> str:
    return part.rpartition("/")[2]


def _agreed(counts: Sequence[_Slot]) -> _Slot | None:
    """One of several counts, if all are the same."""
    counts = [x for x in counts if not is_coded(x.node) and not x.node.ndim]
    if any(isinstance(x.node, Tracer) for x in counts):
        return counts[0] if len(counts) == 1 else None
    return counts[0] if counts and len({int(x.node) for x in counts}) == 1 else None


def _fits(old: Any, new: Any) -> bool:
    kinds = [is_coded(x) or is_inexact(x.dtype) for x in (old, new)]
    return whole_shape(old) == whole_shape(new) and kinds[0] == kinds[1]


def _as(old: Any, new: Any) -> Any:
    """What a slot is in the form, dtype and place of another."""
    if is_coded(old) and is_coded(new) and old.form == new.form and old.form is not None:
        return old
    x = old.decode() if is_coded(old) else old
    if is_coded(new):
        return _placed(new.encode(x), new)
    return _beside(cast(x, new.dtype), new)

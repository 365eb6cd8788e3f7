"""The executor: what every transformation would otherwise repeat, done in one place.

A transformation, however nested, is a flat row of *stages*: leafwise primitives, written for one
tensor, and treewise ones, written for the whole tree. The executor

- flattens the updates once, and checks updates, params and states against each other;
- runs consecutive leafwise stages as one function per tensor, compiled and cached by the stages and
  the numbers that are Python floats, so each shape and dtype is traced once, inside `jit` or out;
- keeps the books: the steps, the schedules, the layout of the slots, and the dtype policy;
- leaves None alone: where an update is None, nothing happens.

**The dtype policy.** State is float32 for half-precision params and of the params' dtype otherwise;
formulas compute in at least float32; along the stages updates travel as computed, and the last one
casts them to the promoted dtype of the incoming update and the param. A slot keeps the dtype in
which `init` made it.

Inside `jit` each tensor's function is a call in the jaxpr; XLA inlines it and fuses as ever.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from gradtx.core import errors
from gradtx.core.errors import is_none, is_sparse
from gradtx.core.gate import or_zero, select_tree
from gradtx.core.numerics import (
    as_array,
    as_real,
    at_least_float32,
    cast,
    compute_dtype,
    is_inexact,
    promoted,
)
from gradtx.core.program import Program, Segment, Stage
from gradtx.core.rows import rows
from gradtx.core.rule import StateMismatch, StateType
from gradtx.core.types import Params, State, Updates

Transformation: TypeAlias = Any
"""A `GradientTransformation`. The kinds stand on this module, so it knows them by what they do."""


def init(tx: Transformation, params: Params) -> State:
    """The state of a transformation for these params, or its shapes if they are ShapeDtypeStructs."""
    leaves, treedef = jax.tree.flatten(params, is_leaf=is_none)
    abstract = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    states = (
        _init_leafwise(stage, params, leaves, treedef, abstract)
        if stage.leafwise
        else _init_treewise(stage, params, abstract)
        for stage in tx.stages
    )
    return tx.pack(states)


def _init_treewise(stage: Stage, params: Params, abstract: bool) -> State:
    make = stage.rule.init
    if abstract:
        return jax.eval_shape(make, params)
    theirs = {id(leaf) for leaf in jax.tree.leaves(params)}
    return jax.tree.map(lambda x: _fresh(x, alien=id(x) in theirs), make(params))


def _init_leafwise(stage: Stage, params: Params, leaves: list[Any], treedef: Any, abstract: bool) -> State:
    kind, make = stage.state_type, stage.rule.init
    per_leaf: list[Mapping[str, Any]] = []
    for i, param in enumerate(leaves):
        if param is not None:
            _check_inexact(stage.name, params, i, param)
            if stage.real_only and jnp.iscomplexobj(param):
                raise errors.not_real(stage.name, errors.path_of(params, i))
        per_leaf.append({} if param is None or make is None else _init_slots(make, param, stage.like_torch))
        if stage.like_torch and "count" in kind.slots and param is not None:
            per_leaf[-1] = {**per_leaf[-1], "count": _zero(abstract)}
    for row in per_leaf:
        if row and row.keys() != set(kind.slots):
            raise ValueError(
                f"{stage.name}: init returned the slots {sorted(row)}; its state has {sorted(kind.slots)}"
            )
    slots = {name: treedef.unflatten([row.get(name) for row in per_leaf]) for name in kind.slots}
    count = {kind.counter: _zero(abstract)} if kind.counts else {}
    if kind.wrapped:
        return kind.cls(**count, inner_state=stage.options["state"](**slots))
    return kind.cls(**slots, **count)


def _zero(abstract: bool) -> Any:
    return jax.ShapeDtypeStruct((), jnp.int32) if abstract else jnp.zeros([], jnp.int32)


def _init_slots(make: Callable[..., Any], param: Any, like_torch: bool) -> Mapping[str, Any]:
    seen_as = as_real if like_torch else _widened
    if isinstance(param, jax.ShapeDtypeStruct):
        shapes = jax.eval_shape(lambda param: make(seen_as(param)), param)
        return jax.tree.map(partial(_sharded_like, param), shapes)
    param = as_array(param)
    slots = make(seen_as(param))
    return jax.tree.map(lambda slot: _fresh(as_array(slot), alien=slot is param), slots)


def _widened(param: Any) -> Any:
    return cast(param, compute_dtype(param.dtype))


def _sharded_like(param: Any, slot: Any) -> Any:
    sharding = param.sharding if slot.shape == param.shape else None
    return jax.ShapeDtypeStruct(slot.shape, slot.dtype, sharding=sharding)


def _fresh(x: Any, alien: bool) -> Any:
    # A state must not share its buffer with a param, or donating both would free it twice; and it is
    # strongly typed from the start, as every update leaves it.
    if alien:
        x = jnp.array(x, copy=True)
    return cast(x, x.dtype) if hasattr(x, "dtype") else x


class Tensors(NamedTuple):
    """The leaves of one update, side by side: updates, params (None where not given), out dtypes."""

    updates: list[Any]
    params: list[Any]
    dtypes: list[Any]
    treedef: Any
    which: Sequence[int]


def update(
    variants: Sequence[Transformation],
    which: Sequence[int] | None,
    updates: Updates,
    state: State,
    params: Params | None,
    extra: Mapping[str, Any],
    gate: Any = None,
) -> tuple[Updates, State]:
    """One update.

    Args:
        variants: the transformation, or several that differ only in the numbers of leafwise stages.
        which: for each leaf (None included) the index of its variant; None for all the first.
        updates, state, params, extra: as in every `update`.
        gate: a bool scalar: where it is False the updates are 0 and the state stays. Default: none.
    """
    tx = variants[0]
    plans = [variant.plan for variant in variants]
    states = _unpack(tx, updates, state)
    segments = plans[0].segments
    per_example = bool(segments) and segments[0].stages[0].per_example
    tensors = _flatten(tx.name, updates, params, which, per_example)
    for what, name in plans[0].needs.items():
        given = params if what == "params" else extra.get(what)
        # With nothing to update nothing is needed; and None is also the empty tree.
        if given is None and any(grad is not None for grad in tensors.updates):
            raise errors.needs(name, what)
    last = len(plans[0].segments) - 1
    for k in range(last + 1):
        segments = [plan.segments[k] for plan in plans]
        if segments[0].leafwise:
            tensors = _run_leafwise(segments, tensors, states, extra, updates, gate, final=k == last)
        else:
            tensors = _run_treewise(segments[0], tensors, states, params, extra, gate)
    pairs = zip(tensors.updates, tensors.dtypes, strict=True)
    leaves = [x if x is None else cast(x, dtype) for x, dtype in pairs]
    leaves = leaves if gate is None else or_zero([leaves], gate)
    return tensors.treedef.unflatten(leaves), tx.pack(iter(states))


def _unpack(tx: Transformation, updates: Updates, state: State) -> list[State]:
    try:
        return tx.unpack(state)
    except StateMismatch as mismatch:
        found = mismatch
    try:
        tx.unpack(updates)
        swapped = True
    except (StateMismatch, TypeError):
        swapped = False
    raise errors.another_state(found.name, found.state, found.expected, swapped)


def _flatten(
    name: str, updates: Updates, params: Params | None, which: Sequence[int] | None, per_example: bool
) -> Tensors:
    leaves, treedef = jax.tree.flatten(updates, is_leaf=lambda x: x is None or is_sparse(x))
    leaves = [leaf if leaf is None or hasattr(leaf, "dtype") else jnp.asarray(leaf) for leaf in leaves]
    beside: list[Any] = _match(name, treedef, updates, params) if params is not None else [None] * len(leaves)
    dtypes = []
    for i, (grad, param) in enumerate(zip(leaves, beside, strict=True)):
        if grad is None:
            dtypes.append(None)
            continue
        _check_inexact(name, updates, i, grad)
        if param is None:
            dtypes.append(grad.dtype)
            continue
        if not hasattr(param, "dtype"):
            param = beside[i] = jnp.asarray(param)
        shape = grad.shape[1:] if per_example else grad.shape
        if shape != param.shape:
            path, what = errors.path_of(updates, i), "an example's update" if per_example else "the update"
            raise errors.another_shape(name, path, what, shape, "the param", param.shape)
        dtypes.append(promoted(grad.dtype, param.dtype))
    return Tensors(leaves, beside, dtypes, treedef, which or [0] * len(leaves))


def _match(name: str, treedef: Any, updates: Updates, other: Any, what: str = "params") -> list[Any]:
    try:
        return treedef.flatten_up_to(other)
    except (ValueError, TypeError):
        pass
    raise errors.another_structure(name, "updates", updates, what, other)


def _check_inexact(name: str, tree: Any, i: int, leaf: Any) -> None:
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    if not is_inexact(dtype):
        raise errors.not_inexact(name, errors.path_of(tree, i), dtype)


def _run_treewise(
    segment: Segment,
    tensors: Tensors,
    states: list[State],
    params: Params | None,
    extra: Mapping[str, Any],
    gate: Any,
) -> Tensors:
    stage, state = segment.stages[0], states[segment.first]
    wide = [x if x is None else cast(x, at_least_float32(x.dtype)) for x in tensors.updates]
    incoming = tensors.treedef.unflatten(wide)
    updates, new_state = stage.run(incoming, state, params, extra)
    held = _held(stage.name, state, new_state)
    states[segment.first] = held if gate is None else select_tree(gate, held, state)
    return tensors._replace(
        updates=_match(stage.name, tensors.treedef, incoming, updates, "what it returned")
    )


def _held(name: str, old: State, new: State) -> State:
    """The new state, in the structure, dtypes and weak types of the old."""
    old_leaves, treedef = jax.tree.flatten(old)
    try:
        new_leaves = treedef.flatten_up_to(new)
    except (ValueError, TypeError):
        raise errors.another_structure(name, "the state", old, "the state after the update", new) from None
    return treedef.unflatten(map(_as, new_leaves, old_leaves))


def _as(new: Any, old: Any) -> Any:
    return cast(jnp.asarray(new), old.dtype) if hasattr(old, "dtype") else new


def _run_leafwise(
    segments: Sequence[Segment],
    tensors: Tensors,
    states: list[State],
    extra: Mapping[str, Any],
    updates: Updates,
    gate: Any,
    *,
    final: bool,
) -> Tensors:
    stages, first = segments[0].stages, segments[0].first
    mine = states[first : first + len(stages)]
    books = [_keep_books(segment, mine) for segment in segments]
    columns = [_columns(stage, state, tensors, updates) for stage, state in zip(stages, mine, strict=True)]
    named = {k: v for k, v in extra.items() if any(k in stage.rule.names for stage in stages)}
    # Each input of a call costs time to trace: a param that no rule names stays away.
    params = tensors.params if segments[0].names_param else [None] * len(tensors.params)
    slots = list(zip(*columns, strict=True)) if columns and tensors.updates else []

    outs: list[Any] = [(None, row) for row in slots]
    for variant, out_dtype, members in _jobs(segments[0].stacked, tensors, slots, final):
        segment, (numbers, steps) = segments[variant], books[variant]
        shared = (segment.dynamic, numbers, steps, named, gate)
        row = [(tensors.updates[i], params[i], slots[i]) for i in members]
        try:
            results = _call(segment.program, shared, row, out_dtype)
        except Exception as error:
            error.add_note(_situation(stages, updates, tensors.updates, slots, members[0]))
            raise
        for i, result in zip(members, results, strict=True):
            outs[i] = result

    for j, (stage, state) in enumerate(zip(stages, mine, strict=True)):
        kind: StateType = stage.state_type
        trees = {name: tensors.treedef.unflatten([row[j][name] for _, row in outs]) for name in kind.slots}
        count = books[0][1][j]
        if gate is not None and count is not None:
            count = jnp.where(gate, count, kind.count(state))
        states[first + j] = kind.rebuild(state, trees, count)
    return tensors._replace(updates=[out for out, _ in outs])


def _situation(stages: Sequence[Stage], updates: Updates, grads: list[Any], slots: list[Any], i: int) -> str:
    """Where a rule failed, and the shapes that met there, for JAX's own errors name neither."""
    held = (
        f", {stage.name}'s {name} {x.shape}"
        for stage, row in zip(stages, slots[i], strict=True)
        for name, x in row.items()
        if hasattr(x, "shape")
    )
    return f"while updating {errors.path_of(updates, i)}: shapes: the update {grads[i].shape}{''.join(held)}"


def _jobs(
    stacked: bool, tensors: Tensors, slots: list[Any], final: bool
) -> Iterator[tuple[int, Any, list[int]]]:
    """The tensors that go into one call, with their variant and the dtype of the result."""
    dtypes = [x if final or x is None else at_least_float32(x) for x in tensors.dtypes]
    kinds = list(zip(tensors.which, dtypes, strict=True))
    for members in _alike(tensors, slots, kinds) if stacked else rows(tensors.updates, kinds):
        yield *kinds[members[0]], members


def _alike(tensors: Tensors, slots: list[Any], kinds: list[Any]) -> list[list[int]]:
    """The tensors that can be stacked: of one shape and dtype throughout."""
    groups: dict[Any, list[int]] = {}
    for i, (grad, param) in enumerate(zip(tensors.updates, tensors.params, strict=True)):
        if grad is not None:
            avals = [(x.shape, x.dtype) for x in jax.tree.leaves((grad, param, slots[i]))]
            groups.setdefault((kinds[i], *avals), []).append(i)
    return list(groups.values())


def _call(program: Program, shared: tuple[Any, ...], row: list[Any], out_dtype: Any) -> list[Any]:
    if len(row) == 1:
        return [program.one(*row[0], *shared, out_dtype=out_dtype)]
    return program.many([*map(list, zip(*row, strict=True))], *shared, out_dtype=out_dtype)


def _keep_books(segment: Segment, states: Sequence[State]) -> tuple[Any, Any]:
    """The scheduled numbers of this update and the step of each stage that counts."""
    if not segment.counts:
        return [{} for _ in segment.stages], [None for _ in segment.stages]
    counts = [
        jnp.asarray(stage.state_type.count(state)) if stage.state_type.counts else None
        for stage, state in zip(segment.stages, states, strict=True)
    ]
    return segment.program.scalars(segment.dynamic, counts)


def _columns(stage: Stage, state: State, tensors: Tensors, updates: Updates) -> list[dict[str, Any]]:
    """The slots of one stage, a dict per leaf."""
    kind = stage.state_type
    holder = kind.holder(state)
    columns = []
    for name in kind.slots:
        column = _match(stage.name, tensors.treedef, updates, getattr(holder, name), f"the state's {name}")
        for i, (grad, slot) in enumerate(zip(tensors.updates, column, strict=True)):
            if grad is not None and slot is None:
                path = errors.path_of(updates, i)
                raise ValueError(
                    f"{stage.name}: {path}: there is an update, but the state was made without this param"
                )
        columns.append(column)
    return [dict(zip(kind.slots, row, strict=True)) for row in zip(*columns, strict=True)] or [
        {} for _ in tensors.updates
    ]

"""The state of a transformation in PyTorch's layout: for each param a dict of its slots."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.errors import is_none
from gradtx.arrays.numerics import as_complex, as_real
from gradtx.arrays.types import Params, State
from gradtx.core.leafwise import Leafwise
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._layout import LIKE_TORCH
from gradtx.torch.optim._stages import torch_name

ParamState = dict[str, Any]
"""What PyTorch keeps of one param, its slots under PyTorch's names, ``{"step": ..., "exp_avg": ...}``; empty
before its first update."""


def to_rows(
    tx: GradientTransformation, state: State, params: Params, begun: Sequence[bool]
) -> list[ParamState]:
    """A state as one row per param, with NumPy arrays; empty for params of which PyTorch has no state yet."""
    leaves = jax.tree.leaves(params, is_leaf=is_none)
    rows: list[ParamState] = [{} for _ in leaves]
    for _, _, name, column in _columns(tx, state):
        for i, (param, x) in enumerate(zip(leaves, column, strict=True)):
            if name and begun[i] and not _is_left_out(x, param):
                rows[i][name] = _exported(name, x, param)
    return rows


def from_rows(
    tx: GradientTransformation,
    params: Params,
    rows: Sequence[ParamState],
    names: Sequence[str],
    *,
    strict: bool = True,
) -> State:
    """The state of a transformation that has these slots; an empty row is a param without an update.

    Args:
        tx: the transformation.
        params: its params.
        rows: for each param the slots, arrays of any kind.
        names: what errors call the params.
        strict: whether missing, unexpected and misshapen slots are errors. If not, they are left out.

    Raises:
        ValueError: listing them all.
    """
    state = tx.init(params)
    leaves = jax.tree.leaves(params, is_leaf=is_none)
    report = _report(tx, state, leaves, rows, names) if strict else ""
    if report:
        raise ValueError(f"this is no state of {tx.name} for these params, nothing was loaded\n{report}")
    parts = list(tx.unpack(state))
    for stage, slot, name, column in _columns(tx, state):
        loaded = [
            _imported(slot, name, x, row, param) for x, row, param in zip(column, rows, leaves, strict=True)
        ]
        parts[stage] = _with_slot(tx.stages[stage], parts[stage], slot, loaded)
    steps = [int(to_numpy(row["step"])) for row in rows if "step" in row]
    return tx.pack(iter(_counted(parts, tx, max(steps, default=0))))


def names(tx: GradientTransformation, params: Params) -> set[str]:
    """The slots that PyTorch keeps of it."""
    return {name for _, _, name, _ in _columns(tx, tx.init(params)) if name}


def moved(new: GradientTransformation, params: Params, rows: Sequence[ParamState]) -> State:
    """The state of a transformation whose choices were edited, as far as the rows of the old one have it."""
    return from_rows(new, params, rows, [""] * len(rows), strict=False)


def to_numpy(x: Any) -> np.ndarray:
    """An array of any library on the host; of PyTorch's, which is not needed for it, bfloat16 too."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = (x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy()
    return np.array(x)


def _columns(tx: GradientTransformation, state: State) -> Iterator[tuple[int, str, str, list[Any]]]:
    """Every slot that is kept as PyTorch keeps it: its stage, its name here and there, and its leaves."""
    for i, (stage, part) in enumerate(zip(tx.stages, tx.unpack(state), strict=True)):
        if isinstance(stage, Leafwise) and stage.layout == LIKE_TORCH:
            for slot in stage.form.slots:
                tree = getattr(stage.form.inner(part), slot)
                yield i, slot, torch_name(stage.name, slot), jax.tree.leaves(tree, is_leaf=is_none)


def _is_left_out(slot: Any, param: Any) -> bool:
    # A rule whose slots depend on the shape of the param keeps those it does not need empty.
    return slot is None or (slot.size == 0 and param.size != 0)


def _in_pairs(slot: Any, param: Any) -> bool:
    return jnp.iscomplexobj(param) and slot.shape == (*param.shape, 2)


def _exported(name: str, slot: Any, param: Any) -> np.ndarray:
    if name == "step":
        return np.asarray(slot, np.float32)
    return np.array(as_complex(slot) if _in_pairs(slot, param) else slot)


def _imported(slot: str, name: str, x: Any, row: ParamState, param: Any) -> Any:
    if not name and row:  # PyTorch keeps no count here; a param that has a row has been updated
        return jnp.ones_like(x)
    if row.get(name) is None or _is_left_out(x, param):
        return x
    value = as_real(to_numpy(row[name])) if _in_pairs(x, param) else to_numpy(row[name])
    return jnp.array(value, dtype=x.dtype) if value.shape == x.shape else x


def _report(
    tx: GradientTransformation,
    state: State,
    leaves: list[Any],
    rows: Sequence[ParamState],
    names: Sequence[str],
) -> str:
    missing, misshapen = [], []
    known: list[set[str]] = [set() for _ in leaves]
    for _, _, name, column in _columns(tx, state):
        for i, (x, row, param) in enumerate(zip(column, rows, leaves, strict=True)):
            if not name or _is_left_out(x, param):
                continue
            known[i].add(name)
            if row and name not in row:
                missing.append(f"{names[i]}: {name}")
            elif row.get(name) is not None:
                shape, wanted = np.shape(row[name]), param.shape if _in_pairs(x, param) else x.shape
                if tuple(shape) != wanted:
                    misshapen.append(f"{names[i]}: {name} is {list(shape)}, not {list(wanted)}")
    unexpected = [f"{names[i]}: {key}" for i, row in enumerate(rows) for key in sorted(row.keys() - known[i])]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    return "\n".join(f"  {what}: {', '.join(items)}" for what, items in found.items() if items)


def _with_slot(stage: Any, part: Any, slot: str, leaves: list[Any]) -> Any:
    holder = stage.form.inner(part)
    treedef = jax.tree.structure(getattr(holder, slot), is_leaf=is_none)
    holder = holder._replace(**{slot: treedef.unflatten(leaves)})
    return part._replace(inner_state=holder) if stage.form.wrapped else holder


def _counted(parts: list[Any], tx: GradientTransformation, count: int) -> Iterator[Any]:
    """The states with the counts of their schedules set."""
    for stage, part in zip(tx.stages, parts, strict=True):
        counts = isinstance(stage, Leafwise) and stage.form.counts
        yield part._replace(count=jnp.asarray(count, jnp.int32)) if counts else part

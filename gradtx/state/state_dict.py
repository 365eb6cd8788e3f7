"""States by name: flat dicts that survive a changed chain.

The name of an entry is the primitive, its slot and the parameter's path: ``scale_by_adam/mu/dense/
kernel``, ``scale_by_adam/count``. It does not depend on where in a chain the primitive stands, nor on
what is wrapped around it. A repeated primitive gets a suffix: ``trace``, ``trace_1``.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import owned
from gradtx.arrays.select import path_string
from gradtx.arrays.types import Array, State
from gradtx.core.transformation import GradientTransformation, ScheduledState


def state_dict(tx: GradientTransformation, state: State) -> dict[str, Array]:
    """A state as a flat dict of arrays by name.

    Args:
        tx: the transformation that made the state; it knows the names of its stages.
        state: its state.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.adam(1e-3)
        >>> sorted(gradtx.state_dict(tx, tx.init({"w": jnp.zeros(2)})))
        ['scale_by_adam/count', 'scale_by_adam/mu/w', 'scale_by_adam/nu/w']
    """
    return dict(zip(_names(tx, state), jax.tree.leaves(state), strict=True))


def load_state_dict(
    tx: GradientTransformation, state: State, flat: Mapping[str, Any], *, strict: bool = True
) -> State:
    """A state with the entries of a flat dict in it, from the same or from a changed optimizer.

    Args:
        tx: the transformation that the state is for.
        state: a state of `tx`, or the shapes of one; its dtypes and shardings are kept.
        flat: from `state_dict`; arrays of any kind.
        strict: whether anything missing, unexpected or of another shape is an error. If False, what
            fits is loaded, the rest of `state` stays, and a warning says what that was.

    Returns:
        A new state; `state` is untouched, also when an error is raised.

    Raises:
        ValueError: listing the missing, unexpected and misshapen entries.
    """
    leaves, treedef = jax.tree.flatten(state)
    names = _names(tx, state)
    fits = [_fits(flat.get(name), leaf) for name, leaf in zip(names, leaves, strict=True)]
    report = _report(names, leaves, flat, fits)
    if report and strict:
        raise ValueError(f"load_state_dict: this is not a state of {tx!r}, nothing was loaded\n{report}")
    if report:
        warnings.warn(f"load_state_dict: not everything was loaded\n{report}", stacklevel=2)
    both = zip(names, leaves, fits, strict=True)
    return treedef.unflatten([_load(flat[name], leaf) if fit else leaf for name, leaf, fit in both])


def _report(names: list[str], leaves: list[Any], flat: Mapping[str, Any], fits: list[bool]) -> str:
    found = {"missing": [], "unexpected": sorted(flat.keys() - set(names)), "of another shape or kind": []}
    for name, leaf, fit in zip(names, leaves, fits, strict=True):
        if name not in flat:
            found["missing"].append(name)
        elif not fit:
            found["of another shape or kind"].append(
                f"{name}: {_shown(flat[name])}, the state has {_shown(leaf)}"
            )
    return "\n".join(f"  {what}: {', '.join(entries)}" for what, entries in found.items() if entries)


def _shown(x: Any) -> str:
    return f"{jnp.result_type(x)}{list(jnp.shape(x))}"


def _fits(x: Any, leaf: Any) -> bool:
    if x is None or jnp.shape(x) != jnp.shape(leaf):
        return False
    # A change of precision is a cast; a change of kind (real, complex, integer, bool, key) is a mistake.
    return _kind(x.dtype if hasattr(x, "dtype") else jnp.result_type(x)) == _kind(leaf.dtype)


@cache
def _kind(dtype: Any) -> list[bool]:
    kinds = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating, jax.dtypes.prng_key)
    return [jnp.issubdtype(dtype, kind) for kind in kinds]


def _load(x: Any, leaf: Any) -> Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.copy(x)
    value = owned(x, leaf.dtype)
    # An array that is not committed to its device may go wherever the others are: so may its successor.
    sharding = getattr(leaf, "sharding", None) if getattr(leaf, "committed", True) else None
    return value if sharding is None else jax.device_put(value, sharding)


def _names(tx: GradientTransformation, state: State) -> list[str]:
    """The name of every leaf of the state, in the order of its leaves."""
    treedef = jax.tree.structure(state)
    # A walk over the places of the leaves: its order is the chain's, and that of a dict another.
    places = treedef.unflatten(map(_Place, range(treedef.num_leaves)))
    return [name for _, name in sorted((place.index, name) for name, place in _walk(tx, places, Counter()))]


@dataclass(frozen=True)
class _Place:
    """Stands for a leaf of a state, also where that is a number."""

    index: int
    shape = ()


def _walk(tx: GradientTransformation, state: State, seen: Counter[str]) -> Iterator[tuple[str, Any]]:
    """The name and the leaf, for every leaf of the state."""
    for stage, part in zip(tx.stages, tx.unpack(state), strict=True):
        inner = stage.inner_states(part)
        fields = ("",) if "" in inner else getattr(part, "_fields", None) or ("",)
        own = [field for field in fields if field not in inner]
        prefix = (
            unique(stage.name, seen) if any(jax.tree.leaves(_field(part, f)) for f in own) else stage.name
        )
        if isinstance(part, ScheduledState):
            # A schedule on a number moves nobody's names: the count comes first, the rest as ever.
            yield f"{prefix}/count", part.count
            part = part.inner_state
            fields, inner = part._fields, stage.inner_states(part)
        for field in fields:
            if field in inner:
                for inner_tx, inner_state in inner[field]:
                    yield from _walk(inner_tx, inner_state, seen)
            else:
                yield from _named_leaves(prefix, field, _field(part, field))


def _field(state: State, field: str) -> Any:
    return getattr(state, field) if field else state


def unique(name: str, seen: Counter[str]) -> str:
    """The name, with a suffix if it has been seen before: ``trace``, ``trace_1``."""
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}_{seen[name] - 1}"


def _named_leaves(prefix: str, field: str, tree: Any) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield "/".join(part for part in (prefix, field, path_string(path)) if part), leaf

"""States by name: flat dicts that survive a changed chain.

The name of an entry is the primitive, its slot and the parameter's path: ``scale_by_adam/mu/dense/
kernel``, ``scale_by_adam/count``. It does not depend on where in a chain the primitive stands, nor on
what is wrapped around it. A repeated primitive gets a suffix: ``trace``, ``trace_1``. Where two entries
would have one name, their paths are written as JAX writes them: ``trace/trace/['a/b']``.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import keystr

from gradtx.arrays.numerics import owned
from gradtx.arrays.select import joined_keys, key_paths, told_apart
from gradtx.arrays.types import Array, State
from gradtx.core.transformation import GradientTransformation, ScheduledState


def state_dict(tx: GradientTransformation, state: State) -> dict[str, Array]:
    """A state as a flat dict of arrays by name.

    Args:
        tx: the transformation that made the state; it knows the names of its stages.
        state: its state.

    Raises:
        ValueError: if two entries have one name and one path.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.adam(1e-3)
        >>> sorted(gradtx.state_dict(tx, tx.init({"w": jnp.zeros(2)})))
        ['scale_by_adam/count', 'scale_by_adam/mu/w', 'scale_by_adam/nu/w']
    """
    return dict(zip(_names("state_dict", tx, state), jax.tree.leaves(state), strict=True))


def load_state_dict(
    tx: GradientTransformation, state: State, flat: Mapping[str, Any], *, strict: bool = True
) -> State:
    """A state with the entries of a flat dict in it, from the same or from a changed optimizer.

    An entry may have another precision, if its numbers fit in that of the state.

    Args:
        tx: the transformation that the state is for.
        state: a state of `tx`, or the shapes of one; its dtypes and shardings are kept.
        flat: from `state_dict`; arrays of any kind, or what NumPy makes one of.
        strict: whether anything missing, unexpected or of another shape is an error. If False, what
            fits is loaded, the rest of `state` stays, and a warning says what that was.

    Returns:
        A new state; `state` is untouched, also when an error is raised.

    Raises:
        TypeError: if `flat` is no dict.
        ValueError: listing the missing and unexpected entries, and those that do not fit.
    """
    if not isinstance(flat, Mapping):
        raise TypeError(f"load_state_dict: expected a dict of arrays by name, got {type(flat).__name__}")
    leaves, treedef = jax.tree.flatten(state)
    names = _names("load_state_dict", tx, state)
    keys = _keys(names, flat)
    found = [_Entry(flat[key], leaf) if key in flat else None for key, leaf in zip(keys, leaves, strict=True)]
    report = _report(names, flat.keys() - set(keys), found)
    if report and strict:
        raise ValueError(f"load_state_dict: this is not a state of {tx!r}, nothing was loaded\n{report}")
    if report:
        warnings.warn(f"load_state_dict: not everything was loaded\n{report}", stacklevel=2)
    both = zip(found, leaves, strict=True)
    return treedef.unflatten([leaf if x is None or x.problem else x.loaded() for x, leaf in both])


def _keys(names: list[str], flat: Mapping[str, Any]) -> list[str]:
    """The name of each entry in a dict, in which a field ``value`` may have no name of its own."""
    own = set(names)

    def key(name: str) -> str:
        # As a field of a user's own was written when it was taken for a box.
        old = name.removesuffix("/value")
        return old if name not in flat and old in flat and old not in own else name

    return list(map(key, names))


def _report(names: list[str], unexpected: set[Any], found: list["_Entry | None"]) -> str:
    pairs = list(zip(names, found, strict=True))
    lines = {
        "missing": [name for name, x in pairs if x is None],
        "unexpected": sorted(key if isinstance(key, str) else repr(key) for key in unexpected),
        "of another shape or kind": [f"{name}: {x.problem}" for name, x in pairs if x and x.problem],
    }
    return "\n".join(f"  {what}: {', '.join(entries)}" for what, entries in lines.items() if entries)


class _Entry:
    """What stands in a dict for a leaf of a state, and why it cannot be loaded: "" if it can."""

    def __init__(self, given: Any, leaf: Any):
        self.leaf = leaf = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
        self.x, self.problem = _as_array(given, leaf)
        if self.problem:
            return
        theirs, ours = (f"{x.dtype}{list(x.shape)}" for x in (self.x, leaf))
        # A change of precision is a cast; a change of kind (real, complex, integer, bool, key) is a mistake.
        same_kind = (
            self.x.dtype == leaf.dtype if _is_key(leaf.dtype) else _kind(self.x.dtype) == _kind(leaf.dtype)
        )
        if self.x.shape != leaf.shape or not same_kind:
            self.problem = f"{theirs}, the state has {ours}"
        elif not _holds(leaf.dtype, self.x):
            self.problem = f"{theirs} with numbers that do not fit {ours}, which the state has"

    def loaded(self) -> Array:
        """The array, in the dtype and place of the leaf."""
        if _is_key(self.leaf.dtype):
            return jnp.copy(self.x)
        value = owned(self.x, self.leaf.dtype)
        # An array that is not committed to its device may go wherever the others are: so may its successor.
        committed = getattr(self.leaf, "committed", True)
        sharding = getattr(self.leaf, "sharding", None) if committed else None
        return value if sharding is None else jax.device_put(value, sharding)


def _as_array(x: Any, leaf: Any) -> tuple[Any, str]:
    """An array of what was given, in the form of key that the state has; and what is wrong with it."""
    if not isinstance(x, jax.Array):
        try:
            x = np.asarray(x)
        except (ValueError, TypeError, OverflowError, RuntimeError) as error:  # ragged, too deep, elsewhere
            return None, f"a {type(x).__name__} that is no array ({str(error).partition(chr(10))[0]})"
        # NumPy's files have no form for bfloat16, and nothing else in them has this one.
        x = x.view(jnp.bfloat16) if x.dtype == "V2" else x
        if not any(_kind(x.dtype)):
            return None, f"{x.dtype}{list(x.shape)}, which are no numbers"
    if _is_key(x.dtype) and leaf.dtype == jnp.uint32:
        return jax.random.key_data(x), ""
    if _is_key(leaf.dtype) and x.dtype == jnp.uint32:
        data = jax.eval_shape(jax.random.key_data, leaf)
        if x.shape == data.shape:
            return jax.random.wrap_key_data(jnp.asarray(x), impl=jax.random.key_impl(leaf)), ""
    return x, ""


@cache
def _kind(dtype: Any) -> list[bool]:
    kinds = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating, jax.dtypes.prng_key)
    return [jnp.issubdtype(dtype, kind) for kind in kinds]


def _is_key(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _holds(dtype: Any, x: Any) -> bool:
    """Whether numbers stay what they are in a dtype of their kind, but for digits."""
    if x.dtype == dtype or isinstance(x, Tracer) or not getattr(x, "is_fully_addressable", True):
        return True
    given = np.asarray(x)
    with np.errstate(over="ignore"):
        kept = given.astype(dtype)
    if jnp.issubdtype(dtype, jnp.integer):
        return bool(np.all(kept == given))
    return bool(np.all(np.isfinite(kept) | ~np.isfinite(given)))


class _Leaf(NamedTuple):
    """A leaf of a state: where it is among the leaves, what it is a part of, and its path there."""

    place: Any
    part: str
    path: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        return "/".join(filter(None, (self.part, joined_keys(self.path))))

    @property
    def exact(self) -> str:
        return "/".join(filter(None, (self.part, keystr(self.path))))


def _names(what: str, tx: GradientTransformation, state: State) -> list[str]:
    """The name of every leaf of the state, in the order of its leaves; each is another."""
    treedef = jax.tree.structure(state)
    # A walk over the places of the leaves: its order is the chain's, and that of a dict another.
    places = treedef.unflatten(map(_Place, range(treedef.num_leaves)))
    leaves = sorted(_walk(tx, places, Counter()), key=lambda leaf: leaf.place.index)
    names = told_apart([leaf.name for leaf in leaves], lambda i: leaves[i].exact)
    if len(set(names)) < len(names):
        repeated = sorted(name for name, times in Counter(names).items() if times > 1)
        raise ValueError(
            f"{what}: two entries of the state are called {repeated[0]}; rename a stage or a key"
        )
    return names


@dataclass(frozen=True)
class _Place:
    """Stands for a leaf of a state, also where that is a number."""

    index: int
    shape = ()


def _walk(tx: GradientTransformation, state: State, seen: Counter[str]) -> Iterator[_Leaf]:
    """Every leaf of the state."""
    for stage, whole in zip(tx.stages, tx.unpack(state), strict=True):
        # A schedule on a number moves nobody's names: the count comes first, the rest as ever.
        counted = isinstance(whole, ScheduledState)
        part = whole.inner_state if counted else whole
        inner = stage.inner_states(part)
        fields = ("",) if "" in inner else getattr(part, "_fields", None) or ("",)
        own = [whole.count] if counted else [_field(part, field) for field in fields if field not in inner]
        prefix = unique(stage.name, seen) if jax.tree.leaves(own) else stage.name
        if counted:
            yield _Leaf(whole.count, f"{prefix}/count")
        for field in fields:
            if field in inner:
                for inner_tx, inner_state in inner[field]:
                    yield from _walk(inner_tx, inner_state, seen)
                continue
            tree = _field(part, field)
            where = "/".join(filter(None, (prefix, field)))
            paths = key_paths(tree)
            yield from map(lambda x, path, where=where: _Leaf(x, where, path), jax.tree.leaves(tree), paths)


def _field(state: State, field: str) -> Any:
    return getattr(state, field) if field else state


def unique(name: str, seen: Counter[str]) -> str:
    """The name, with a suffix if it has been seen before: ``trace``, ``trace_1``."""
    found, n = name, 0
    while found in seen:
        n += 1
        found = f"{name}_{n}"
    seen[found] += 1
    return found

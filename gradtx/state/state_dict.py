"""States by name: flat dicts that survive a changed chain.

The name of an entry is the primitive, its slot and the parameter's path: ``scale_by_adam/mu/dense/
kernel``, ``scale_by_adam/count``. It does not depend on where in a chain the primitive stands, nor on
what is wrapped around it. A repeated primitive gets a suffix: ``trace``, ``trace_1``. Where two entries
would have one name, their paths are written as JAX writes them: ``trace/trace/['a/b']``.
"""

import re
import warnings
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax.tree_util import keystr

from gradtx.arrays.select import joined_keys, key_paths, told_apart
from gradtx.arrays.types import Array, State
from gradtx.core.transformation import GradientTransformation
from gradtx.state import forms
from gradtx.state.entries import Entry
from gradtx.values.factory import FORMER


def state_dict(tx: GradientTransformation, state: State) -> dict[str, Array]:
    """A state as a flat dict of arrays by name.

    A slot in a format of `gradtx.stored` has an entry for each of its arrays, ``scale_by_adam/mu/w/codes``,
    and ``scale_by_adam/mu/w/form``, the bytes of a text that says which format it is.

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
    names = _names("state_dict", tx, state)
    return {**dict(zip(names, jax.tree.leaves(state), strict=True)), **forms.entries(names, state)}


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
        A new state; `state` is untouched, also when an error is raised. What is kept in another form there,
        in codes that are no codes here or the other way round (see `gradtx.stored`), is converted, and a
        warning says so.

    Raises:
        TypeError: if `flat` is no dict.
        ValueError: listing the missing and unexpected entries, and those that do not fit.
    """
    if not isinstance(flat, Mapping):
        raise TypeError(f"load_state_dict: expected a dict of arrays by name, got {type(flat).__name__}")
    leaves, treedef = jax.tree.flatten(state)
    names = _names("load_state_dict", tx, state)
    flat = {key if (new := _as_named_now(key)) in flat else new: x for key, x in flat.items()}
    flat, converted = forms.as_kept(names, state, _out_of_boxes(names, flat))
    keys = _keys(names, flat)
    found = [Entry(flat[key], leaf) if key in flat else None for key, leaf in zip(keys, leaves, strict=True)]
    report = _report(names, flat.keys() - set(keys), found)
    if report and strict:
        raise ValueError(f"load_state_dict: this is not a state of {tx!r}, nothing was loaded\n{report}")
    if report:
        warnings.warn(f"load_state_dict: not everything was loaded\n{report}", stacklevel=2)
    if converted:
        which = f"{converted[0]} and {len(converted) - 1} more" if converted[1:] else converted[0]
        warnings.warn(f"load_state_dict: {which} converted to the form that the state has", stacklevel=2)
    both = zip(found, leaves, strict=True)
    return treedef.unflatten([leaf if x is None or x.problem else x.loaded() for x, leaf in both])


def _as_named_now(key: Any) -> Any:
    """The name of an entry, whose primitive may have had another one when it was saved."""
    if not isinstance(key, str):
        return key
    stage, slash, rest = key.partition("/")
    own = next((name for name in (stage, re.sub(r"_\d+$", "", stage)) if name in FORMER), None)
    return key if own is None else FORMER[own] + stage.removeprefix(own) + slash + rest


def _out_of_boxes(names: list[str], flat: Mapping[Any, Any]) -> dict[Any, Any]:
    """The entries of a dict, without the field of a Flax box, which names of arrays in one once had."""
    own = set(names)
    slots = own | {name[: slash.start()] for name in names for slash in re.finditer("/", name)}

    def now(key: Any) -> Any:
        slot, box, rest = key.rpartition("/value/") if isinstance(key, str) else ("", "", "")
        new = f"{slot}/{rest}"
        return new if box and slot in slots and key not in own and new not in flat else key

    return {now(key): x for key, x in flat.items()}


def _keys(names: list[str], flat: Mapping[str, Any]) -> list[str]:
    """The name of each entry in a dict, in which a field ``value`` may have no name of its own."""
    own = set(names)

    def key(name: str) -> str:
        # As a field of a user's own was written when it was taken for a box.
        old = name.removesuffix("/value")
        return old if name not in flat and old in flat and old not in own else name

    return list(map(key, names))


def _report(names: list[str], unexpected: set[Any], found: list["Entry | None"]) -> str:
    pairs = list(zip(names, found, strict=True))
    lines = {
        "missing": [name for name, x in pairs if x is None],
        "unexpected": sorted(key if isinstance(key, str) else repr(key) for key in unexpected),
        "of another shape or kind": [f"{name}: {x.problem}" for name, x in pairs if x and x.problem],
    }
    return "\n".join(f"  {what}: {', '.join(entries)}" for what, entries in lines.items() if entries)


class Leaf(NamedTuple):
    """A leaf of a state: where it is among the leaves, what it is a part of, its path there, and how many
    of its keys come before those of a param."""

    place: Any
    part: str
    path: tuple[Any, ...] = ()
    before: int = 0

    @property
    def name(self) -> str:
        return "/".join(filter(None, (self.part, joined_keys(self.path))))

    @property
    def exact(self) -> str:
        return "/".join(filter(None, (self.part, keystr(self.path))))

    def owner(self, params: Container[str]) -> str:
        """The param that it is of, with whose path its own begins; "" if it is of none."""
        path = joined_keys(self.path[self.before :])
        while path and path not in params:
            path = path.rpartition("/")[0]
        return path


def located(tx: GradientTransformation, state: State) -> list[Leaf]:
    """Where every leaf of the state is, in the order of its leaves."""
    treedef = jax.tree.structure(state)
    # A walk over the places of the leaves: its order is the chain's, and that of a dict another.
    places = treedef.unflatten(map(_Place, range(treedef.num_leaves)))
    return sorted(_walk(tx, places, Counter()), key=lambda leaf: leaf.place.index)


def _names(what: str, tx: GradientTransformation, state: State) -> list[str]:
    """The name of every leaf of the state, in the order of its leaves; each is another."""
    leaves = located(tx, state)
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


def _walk(tx: GradientTransformation, state: State, seen: Counter[str]) -> Iterator[Leaf]:
    """Every leaf of the state."""
    for stage, whole in zip(tx.stages, tx.unpack(state), strict=True):
        # A schedule on a number moves nobody's names: the count comes first, the rest as ever.
        counted, part = stage.form.wrapped, stage.form.inner(whole)
        inner = stage.inner_states(part)
        fields = ("",) if "" in inner else getattr(part, "_fields", None) or ("",)
        several = getattr(stage.form.cls, "several", ())
        own = [whole.count] if counted else [_field(part, field) for field in fields if field not in inner]
        prefix = unique(stage.name, seen) if jax.tree.leaves(own) else stage.name
        if counted:
            yield Leaf(whole.count, f"{prefix}/count")
        for field in fields:
            if field in inner:
                for inner_tx, inner_state in inner[field]:
                    yield from _walk(inner_tx, inner_state, seen)
                continue
            tree = _field(part, field)
            where = "/".join(filter(None, (prefix, field)))
            before = int(field in several)
            for x, path in zip(jax.tree.leaves(tree), key_paths(tree), strict=True):
                yield Leaf(x, where, path, before)


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

"""Slots that are kept in some form, in a state dict: their entries, and what is converted on loading."""

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.select import joined_keys
from gradtx.arrays.types import Array, State
from gradtx.core.layout import Form, is_coded
from gradtx.state.entries import Entry, Unfit, as_array
from gradtx.values.config import from_config, to_config


class _Slot(NamedTuple):
    """A leaf of a state, or a `Coded`: its name, and those of its leaves."""

    node: Any
    name: str
    leaves: list[str]

    @property
    def of_form(self) -> str:
        return f"{self.name}/form"


def entries(names: list[str], state: State) -> dict[str, Array]:
    """The entries that say how slots are kept; those whose format is made of functions have none."""
    coded = [slot for slot in _slots(names, state) if is_coded(slot.node)]
    written = {slot.of_form: _written(slot.node.form) for slot in coded}
    return {name: jnp.asarray(text) for name, text in written.items() if text is not None}


def as_kept(names: list[str], state: State, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The entries of a dict, in the forms that a state has; and the names of slots that were converted."""
    flat, own, converted = dict(given), set(names), []
    for slot in _slots(names, state):
        text = flat.pop(slot.of_form, None) if slot.of_form not in own else None
        if is_coded(slot.node):
            x = flat.pop(slot.name, None) if slot.name not in own else None
            if x is None and text is not None and (form := _read(slot.name, text)) != slot.node.form:
                x = _decoded(slot.name, form, flat)
            if x is None:
                continue
            flat |= _encoded(slot, x)
        elif text is not None and slot.name not in flat:
            flat[slot.name] = _decoded(slot.name, _read(slot.name, text), flat)
        else:
            continue
        converted.append(slot.name)
    return flat, converted


def decoded(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A state dict with plain arrays in the place of slots that are kept in some form; and their names."""
    flat = dict(given)
    kept = [name.removesuffix("/form") for name in given if name.endswith("/form")]
    for name in kept:
        text = flat.pop(f"{name}/form")
        flat[name] = _decoded(name, _read(name, text), flat)
    return flat, kept


def _slots(names: list[str], state: State) -> Iterator[_Slot]:
    start = 0
    for node in jax.tree.leaves(state, is_leaf=is_coded):
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(node)]
        leaves = names[start : start + len(paths)]
        start += len(paths)
        name = leaves[0]
        for ending in (f"/{joined_keys(paths[0])}", jax.tree_util.keystr(paths[0])) if is_coded(node) else ():
            name = name.removesuffix(ending)
        yield _Slot(node, name, leaves)


def _written(form: Form | None) -> np.ndarray | None:
    if form is None:
        return None
    try:
        text = json.dumps(to_config(form))
    except TypeError:
        return None
    return np.frombuffer(text.encode(), np.uint8)


def _read(name: str, text: Any) -> Form:
    try:
        form = from_config(json.loads(np.asarray(text, np.uint8).tobytes().decode()))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"load_state_dict: {name}/form: the format that it names cannot be had here ({error})"
        ) from None
    if not isinstance(form, Form):
        raise ValueError(f"load_state_dict: {name}/form: it must be of a format, got {form!r}")
    return form


def _decoded(name: str, form: Form, flat: dict[str, Any]) -> Array:
    """The tensor of which a dict has the parts, which are taken out of it."""
    there = {part: flat.pop(f"{name}/{part}", None) for part in (*form.parts, "stream")}
    missing = [part for part in form.parts if there[part] is None]
    if missing:
        raise ValueError(f"load_state_dict: {name}: its form is there, and no {', '.join(missing)}")
    parts = {part: jnp.asarray(as_array(there[part], like)[0]) for part, like in form.parts.items()}
    return form.node(parts).decode()


def _encoded(slot: _Slot, x: Any) -> dict[str, Any]:
    """The entries of a tensor as a slot keeps it."""
    like = jax.eval_shape(lambda node: node.decode(), slot.node)
    entry = Entry(x, jax.ShapeDtypeStruct(like.shape, like.dtype))
    if entry.problem:
        return dict.fromkeys(slot.leaves, Unfit(entry.problem))
    node = jax.tree.map(lambda leaf: _begun(slot.name, leaf), slot.node)
    return dict(zip(slot.leaves, jax.tree.leaves(node.encode(entry.loaded())), strict=True))


def _begun(name: str, leaf: Any) -> Any:
    # Of what was there, encoding looks at a stream of random bits alone: without one, a new one begins.
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    return jnp.full(leaf.shape, zlib.crc32(name.encode()), jnp.uint32).astype(leaf.dtype)

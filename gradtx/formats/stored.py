"""Tensors in a format: the nodes of a state."""

import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp
from jax.tree_util import DictKey

from gradtx.arrays.numerics import at_least_float32, cast
from gradtx.arrays.types import Array, DType
from gradtx.core.layout import Coded, Form
from gradtx.formats.format import Format, Parts
from gradtx.formats.noise import WEYL
from gradtx.values.domains import Static
from gradtx.values.factory import register

P = ParamSpec("P")


class StoredForm(Form):
    """What all of a `Stored` is known by but its arrays."""

    @property
    def format(self) -> Format:
        """The format."""
        return self.arguments["format"]

    @property
    def length(self) -> int:
        """The length of the last axis, or of each of the pieces that it consists of."""
        return self.arguments["length"]

    @cached_property
    def dtype(self) -> DType:
        """In which the tensor is computed with."""
        return jnp.dtype(self.arguments["dtype"])

    def node(self, parts: Parts) -> "Stored":
        return Stored(self, parts)

    @cached_property
    def parts(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        stream = jax.ShapeDtypeStruct((), jnp.uint32) if self.format.is_random else None
        piece = jax.ShapeDtypeStruct((1, self.length), self.dtype)
        return jax.eval_shape(self.format.encode, piece, stream)

    @cached_property
    def lengths(self) -> Mapping[str, int | None]:
        """How long the last axis of each part is, for one piece; None for parts that have none."""
        return {name: part.shape[-1] if part.ndim > 1 else None for name, part in self.parts.items()}

    def encode(self, x: Array, stream: Array | None) -> Parts:
        """The arrays that are kept of x."""
        x = cast(x, self.dtype)
        parts = self.format.encode(_in_pieces(x, self.length), stream)
        return {name: _joined(part) if part.ndim == x.ndim + 1 else part for name, part in parts.items()}

    def decode(self, parts: Parts) -> Array:
        """The tensor that these were made of, but for what was rounded off."""
        x = self.format.decode({name: _in_pieces(part, self.lengths[name]) for name, part in parts.items()})
        x = x if x.shape[-1] == self.length else x[..., : self.length]
        lengths = {name: length for name, length in self.lengths.items() if length is not None}
        are_cut = any(parts[name].shape[-1] > length for name, length in lengths.items())
        return cast(_joined(x) if are_cut else x, self.dtype)


def _recorded_form(body: Callable[P, Any]) -> Callable[P, StoredForm]:
    return register(body, StoredForm)


@_recorded_form
def stored_form(format: Format, length: Static[int], dtype: str) -> Any:
    return format, length, dtype  # never run


@jax.tree_util.register_pytree_with_keys_class
class Stored(Coded):
    """A tensor of a state in a format.

    Where the last axis is sharded, what each device has of it is coded by itself, so that no block is cut
    and nothing is sent: the parts of a tensor are those of its pieces, one after another.

    Args:
        form: what is known without the arrays: ``form.format``, the format.
        parts: the arrays that the format keeps, by name.
        stream: for one that rounds by chance, a uint32 scalar, another at each step.
    """

    def __init__(self, form: StoredForm, parts: Parts, stream: Array | None = None):
        self._form, self.parts, self.stream = form, parts, stream

    @property
    def form(self) -> StoredForm:
        return self._form

    @classmethod
    def of(cls, format: Format, x: Array, stream: Array | None = None, pieces: int = 1) -> "Stored":
        """A tensor in a format.

        Args:
            format: the format.
            x: real tensor of one axis or more.
            stream: where random bits begin, if the format rounds by chance.
            pieces: of how many pieces the last axis consists.
        """
        form = stored_form(format, x.shape[-1] // pieces, at_least_float32(x.dtype).name)
        stream = stream if format.is_random else None
        _teach_flax()
        return cls(form, form.encode(x, stream), stream)

    def decode(self) -> Array:
        return self.form.decode(self.parts)

    def encode(self, x: Array) -> "Stored":
        stream = None if self.stream is None else self.stream + WEYL
        parts = self.form.encode(x, stream)
        for name, old in self.parts.items():
            if parts[name].shape != old.shape:
                raise ValueError(
                    f"a slot in {self.form.format!r} has {name} of shape {old.shape}, and of shape "
                    f"{parts[name].shape} after an update: a shard ends within a block. Give this param a "
                    "format whose block_size divides what each device has of the last axis, or None"
                )
        return Stored(self.form, parts, stream)

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """The arrays by name, and what is known without them."""
        named = {**self.parts, "stream": self.stream} if self.form.format.is_random else self.parts
        names = tuple(sorted(named))
        return tuple((DictKey(name), named[name]) for name in names), (self.form, names)

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> "Stored":
        """The node of these arrays."""
        _teach_flax()
        form, names = aux
        parts = dict(zip(names, children, strict=True))
        stream = parts.pop("stream", None)
        return cls(form, parts, stream)

    def __repr__(self) -> str:
        return f"Stored({self.form.format!r}, {self.parts})"


def _teach_flax() -> None:
    """Let Flax write such nodes, once somebody has imported it: it knows types, and not pytrees."""
    flax = sys.modules.get("flax.serialization")
    if flax is not None and not flax.is_serializable(Stored):
        flax.register_serialization_state(Stored, _named, _of_named)


def _named(x: Stored) -> dict[str, Array]:
    return {path[0].key: leaf for path, leaf in jax.tree_util.tree_leaves_with_path(x)}


def _of_named(target: Stored, named: Any) -> Stored:
    names = list(_named(target))
    if not isinstance(named, Mapping) or set(named) != set(names):
        raise ValueError(
            f"what was saved is not kept in {target.form.format!r}; save states by gradtx.state_dict, and "
            "gradtx.load_state_dict converts them"
        )
    return jax.tree.unflatten(jax.tree.structure(target), [named[name] for name in names])


def _in_pieces(x: Array, length: int | None) -> Array:
    """x with its last axis cut in pieces of a length, (..., pieces, length); as it is if it is no longer.

    It is shorter in `shard_map`, which hands out what a device has of an axis that was whole before.
    """
    return x if length is None or x.shape[-1] <= length else x.reshape(*x.shape[:-1], -1, length)


def _joined(x: Array) -> Array:
    """x with the last two axes as one."""
    return x.reshape(*x.shape[:-2], -1)

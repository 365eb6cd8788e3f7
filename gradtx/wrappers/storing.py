"""Storing: a transformation with some of its slots in fewer bytes."""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ParamSpec, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding

from gradtx.arrays.meshes import devices_along
from gradtx.arrays.select import is_function, leaf_paths, select
from gradtx.arrays.types import PyTree, State
from gradtx.core.keeping import kept_by
from gradtx.core.placement import Beginning
from gradtx.core.transformation import GradientTransformation, Stage
from gradtx.core.treewise import signs_in
from gradtx.formats.floating import float8, floating
from gradtx.formats.format import Format
from gradtx.formats.noise import WEYL, mixed
from gradtx.formats.stored import Stored
from gradtx.values.domains import Static
from gradtx.values.factory import Factory, register

P = ParamSpec("P")

FormatFor: TypeAlias = Any
"""A `Format`, the name of a dtype, None for as it is; ``{path pattern: one of these}``, first match wins;
or a function of ``(path, x)`` that returns one."""


class Storing(GradientTransformation):
    """A transformation whose states begin with some of their slots in formats; it runs as the inner one."""

    @property
    def inner(self) -> GradientTransformation:
        """The transformation whose state is stored."""
        return self.arguments["inner"]

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.inner.stages

    def unpack(self, state: State) -> list[State]:
        return self.inner.unpack(state)

    def pack(self, states: Iterator[State]) -> State:
        return self.inner.pack(states)

    def start(self, beginning: Beginning, variants: Sequence[Any], which: Sequence[int]) -> State:
        formats = self.arguments["formats"]
        unsigned = signs_in(self.inner)
        by_path = {slot: by_paths(slot, format, beginning.params) for slot, format in formats.items()}

        def keeper(slot: str, path: str, x: Any, param: Any) -> Callable[[jax.Array], PyTree] | None:
            key = next((key for key in (slot, slot.rpartition("/")[2]) if key in by_path), None)
            format = None if key is None else by_path[key](path)
            if format is None or x.ndim == 0 or x.size < max(self.arguments["min_size"], 1):
                return None
            if not jnp.issubdtype(x.dtype, jnp.floating):
                raise TypeError(
                    f"stored: {slot} of {path} is {x.dtype}, and formats hold real numbers; leave it "
                    f"as it is: {{{key!r}: {{{re.escape(path)!r}: None, '.*': ...}}}}"
                )
            if format.is_unsigned and not unsigned[slot]:
                raise ValueError(
                    f"stored: {slot} of {path} has numbers of either sign, and {format!r} is for numbers of "
                    "at least 0; give it another, such as formats.companded(). Of a rule of your own, "
                    "@leafwise(unsigned=...) names the slots without a sign"
                )
            stream = self._stream(f"{slot}/{path}")
            return partial(
                Stored.of,
                format,
                stream=stream,
                pieces=shards_of_last_axis(param if x.shape == param.shape else x),
            )

        with kept_by(keeper):
            return self.inner.start(beginning, [variant.inner for variant in variants], which)

    def _stream(self, name: str) -> jax.Array:
        """Where the random bits of one tensor begin."""
        seed = jnp.asarray(self.arguments["seed"], jnp.uint32)
        return mixed(seed + WEYL) + np.uint32(zlib.crc32(name.encode()))

    def validate(self) -> None:
        super().validate()
        formats = self.arguments["formats"]
        if not isinstance(formats, Mapping):
            raise TypeError(f"stored: formats must be a dict by slot, got {formats!r}")
        slots = signs_in(self.inner)
        known = {*slots, *(slot.rpartition("/")[2] for slot in slots)}
        for key, format in formats.items():
            if key not in known:
                there = ", ".join(slots) or "none"
                raise ValueError(f"stored: {key!r} is no slot of {self.inner.name}; there are: {there}")
            for one in format.values() if isinstance(format, Mapping) else [format]:
                if not is_function(one) or hasattr(one, "factory"):
                    as_format(key, one)


def shards_of_last_axis(x: Any) -> int:
    """Over how many devices the last axis of an array, a shape or a traced array is sharded."""
    sharding = getattr(jax.typeof(x) if isinstance(x, Tracer) else x, "sharding", None)
    if not isinstance(sharding, NamedSharding) or len(sharding.spec) < x.ndim:
        return 1
    return devices_along(sharding.mesh, sharding.spec[x.ndim - 1])


def by_paths(slot: str, formats: FormatFor, params: PyTree) -> Callable[[str], Format | None]:
    """The format of a slot for each path of a param."""
    if isinstance(formats, Mapping):
        keys = list(formats)
        numbers = select("stored", slot, {key: i for i, key in enumerate(keys)}, params, default=None)
        found = [None if i is None else formats[keys[i]] for i in numbers]
    elif is_function(formats):
        found = select("stored", slot, formats, params)
    else:
        same = as_format(slot, formats)
        return lambda path: same
    table = {path: as_format(slot, x) for path, x in zip(leaf_paths(params), found, strict=True)}
    return table.get


def as_format(slot: str, x: Any) -> Format | None:
    """The format that an argument means."""
    if x is None or isinstance(x, Format):
        return x
    if isinstance(getattr(x, "factory", None), Factory):
        raise TypeError(f"stored: {slot!r}: {x.__name__} is not a format; call it: {x.__name__}()")
    try:
        dtype = jnp.dtype(x)
        return float8(dtype.name) if dtype.itemsize == 1 else floating(dtype.name)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"stored: {slot!r} must have a format, the name of a floating-point dtype, or None; got {x!r}"
        ) from error


def _recorded(body: Callable[P, Any]) -> Callable[P, GradientTransformation]:
    return register(body, Storing)


@_recorded
def stored(
    inner: GradientTransformation,
    formats: Mapping[str, FormatFor],
    *,
    min_size: Static[int] = 1024,
    seed: int = 0,
):
    """Keep some slots of a transformation in fewer bytes.

    Only the state changes: a slot is decoded before the rule sees it and encoded after it, so everything
    else about the transformation, its groups, masks, schedules and names, stays what it is.

    Args:
        inner: any transformation; the slots of all leafwise stages in it can be stored.
        formats: by slot, ``"mu"`` or ``"scale_by_adam/mu"``, a format (`gradtx.formats`), or the name of a
            dtype such as ``"bfloat16"``. Also ``{path pattern: format}``, where the first pattern that
            matches decides and None leaves as it is, and a function of ``(path, leaf)`` that returns one.
        min_size: tensors of fewer numbers stay as they are, and so do those without axes. Default: 1024.
        seed: where the random bits of formats that round by chance begin.

    Returns:
        A transformation whose slots hold `Stored` nodes, which know their format: ``state.mu["w"].parts``.

    Raises:
        ValueError: for a name that is no slot; the message lists those that are. At `init`, for a pattern
            that matches no path, and for a format without a sign for a slot with one.
        TypeError: for what is no format; at `init`, for a complex or an integer slot, with its path.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> formats = {"mu": gradtx.formats.companded(), "nu": gradtx.formats.square_root()}
        >>> tx = gradtx.stored(gradtx.adamw(1e-3), formats)
        >>> state = tx.init({"w": jnp.zeros((64, 64)), "b": jnp.zeros(64)})
        >>> state[0].mu["w"].parts["codes"].dtype, state[0].mu["b"].dtype
        (dtype('int8'), dtype('float32'))
    """
    return inner, formats, min_size, seed  # never run: it runs as the inner one

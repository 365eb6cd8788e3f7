"""Formats: how a tensor of a state is kept in fewer bytes, as a value of two functions."""

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ParamSpec

import jax
from jax.tree_util import DictKey

from gradtx.arrays.numerics import at_least_float32, cast
from gradtx.arrays.types import Array, DType
from gradtx.core.layout import Coded
from gradtx.formats.noise import WEYL, random_bits
from gradtx.values.factory import register
from gradtx.values.value import Value

P = ParamSpec("P")
Parts = Mapping[str, Array]
"""What is kept of a tensor, by name."""


class Format(Value):
    """How a tensor is kept: a value, such as ``companded()``, of two functions.

    ``Format(encode, decode)`` makes one of your own.

    Args:
        encode: ``encode(x)`` gives a dict of arrays, for a real tensor of one axis or more in at least
            float32; it may name ``bits`` too, uint32 random bits for each number, others at each step.
        decode: names those arrays and returns the tensor. Its last axis may be longer: what is too much
            is cut off.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> def encode(x):
        ...     return dict(codes=jnp.round(127 * jnp.tanh(x)).astype(jnp.int8))
        >>> def decode(codes):
        ...     return jnp.arctanh(codes / 127.5)
        >>> own = gradtx.formats.Format(encode, decode)
        >>> tx = gradtx.stored(gradtx.trace(0.9), {"trace": own}, min_size=0)
        >>> tx.init({"w": jnp.zeros(2)}).trace["w"].parts
        {'codes': Array([0, 0], dtype=int8)}
    """

    made_of: Callable[..., "Format"]
    """The factory of those that are made of two functions."""

    def __new__(cls, encode: Callable[..., Any], decode: Callable[..., Any]) -> "Format":
        return Format.made_of(encode, decode)

    @cached_property
    def functions(self) -> tuple[Callable[..., Parts], Callable[..., Array]]:
        """``encode, decode``."""
        return self.factory.run(self.arguments)

    @cached_property
    def is_random(self) -> bool:
        """Whether it rounds by chance."""
        return "bits" in inspect.signature(self.functions[0]).parameters

    def encode(self, x: Array, stream: Array | None) -> Parts:
        """The arrays that are kept of x."""
        bits = {} if stream is None else {"bits": random_bits(stream, x.shape)}
        return {name: cast(part, part.dtype) for name, part in self.functions[0](x, **bits).items()}

    def decode(self, parts: Parts) -> Array:
        """The tensor that these were made of, but for what was rounded off."""
        return self.functions[1](**parts)

    def validate(self) -> None:
        _ = self.functions  # what is wrong with the arguments shows where they are given


@jax.tree_util.register_pytree_with_keys_class
class Stored(Coded):
    """A tensor of a state in a format.

    Args:
        format: the format.
        length: of the last axis.
        dtype: in which it is computed with.
        parts: the arrays that the format keeps.
        stream: for one that rounds by chance, a uint32 scalar, another at each step.
    """

    def __init__(self, format: Format, length: int, dtype: DType, parts: Parts, stream: Array | None = None):
        self.format, self.length, self.dtype, self.parts, self.stream = format, length, dtype, parts, stream

    @classmethod
    def of(cls, format: Format, x: Array, stream: Array | None = None) -> "Stored":
        """A tensor in a format; `stream` is looked at if this rounds by chance."""
        dtype, stream = at_least_float32(x.dtype), stream if format.is_random else None
        return cls(format, x.shape[-1], dtype, format.encode(cast(x, dtype), stream), stream)

    def decode(self) -> Array:
        x = self.format.decode(self.parts)
        return cast(x if x.shape[-1] == self.length else x[..., : self.length], self.dtype)

    def encode(self, x: Array) -> "Stored":
        stream = None if self.stream is None else self.stream + WEYL
        return Stored(
            self.format, self.length, self.dtype, self.format.encode(cast(x, self.dtype), stream), stream
        )

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """The arrays by name, and what is known without them."""
        named = {**self.parts} if self.stream is None else {**self.parts, "stream": self.stream}
        names = tuple(named)
        aux = (self.format, self.length, self.dtype, names, self.stream is not None)
        return tuple((DictKey(name), named[name]) for name in names), aux

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> "Stored":
        """The node of these arrays."""
        format, length, dtype, names, has_stream = aux
        named = dict(zip(names, children, strict=True))
        stream = named.pop("stream") if has_stream else None
        return cls(format, length, dtype, named, stream)

    def __repr__(self) -> str:
        return f"Stored({self.format!r}, {self.parts})"


def format(body: Callable[P, tuple[Callable[..., Any], Callable[..., Any]]]) -> Callable[P, Format]:
    """Make a factory of a format: of a function of numbers and choices that returns ``encode, decode``.

    Its values print, compare, pickle and go into configs, where ``Format(encode, decode)`` does not.
    """
    return register(body, Format)


@format
def of_functions(encode: Callable[..., Any], decode: Callable[..., Any]) -> Any:
    return encode, decode


Format.made_of = staticmethod(of_functions)

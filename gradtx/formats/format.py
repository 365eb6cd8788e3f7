"""Formats: how a tensor of a state is kept in fewer bytes, as a value of two functions."""

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ParamSpec, TypeVar

from gradtx.arrays.numerics import cast
from gradtx.arrays.types import Array
from gradtx.formats.noise import random_bits
from gradtx.values.factory import register
from gradtx.values.value import Value

P = ParamSpec("P")
E = TypeVar("E", bound=Callable[..., Any])
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

    shown_as = "Format"
    offered = ("decode", "encode", "is_random", "is_unsigned")
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

    @cached_property
    def is_unsigned(self) -> bool:
        """Whether it holds numbers of at least 0 alone."""
        return getattr(self.functions[0], "is_unsigned", False)

    def encode(self, x: Array, stream: Array | None) -> Parts:
        """The arrays that are kept of x."""
        bits = {} if stream is None else {"bits": random_bits(stream, x.shape)}
        parts = self.functions[0](x, **bits)
        if reserved := {"form", "stream"} & parts.keys():
            raise ValueError(f"{self!r}: no part may be called {reserved.pop()!r}; give it another name")
        return {name: cast(part, part.dtype) for name, part in parts.items()}

    def decode(self, parts: Parts) -> Array:
        """The tensor that these were made of, but for what was rounded off."""
        return self.functions[1](**parts)

    def validate(self) -> None:
        _ = self.functions  # what is wrong with the arguments shows where they are given


def unsigned(encode: E) -> E:
    """Mark what encodes numbers of at least 0 alone."""
    encode.is_unsigned = True  # pyright: ignore[reportFunctionMemberAccess]  # a mark on a function
    return encode


def format(body: Callable[P, tuple[Callable[..., Any], Callable[..., Any]]]) -> Callable[P, Format]:
    """Make a factory of a format: of a function of numbers and choices that returns ``encode, decode``.

    Its values print, compare, pickle and go into configs, where ``Format(encode, decode)`` does not.
    """
    return register(body, Format)


def _of_class(body: Callable[P, Any]) -> Callable[P, Format]:
    return register(body, Format, name="formats.Format")


@_of_class
def of_functions(encode: Callable[..., Any], decode: Callable[..., Any]) -> Any:
    return encode, decode


Format.made_of = staticmethod(of_functions)

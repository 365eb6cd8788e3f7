"""Parts: what an argument of a recorded call is beside its numbers, and how both are compared."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Number: TypeAlias = Any
"""A leaf of a value: a Python number, an array, or what JAX puts in their place."""


class Part:
    """How one argument is put together again from its numbers."""


@dataclass(frozen=True)
class Leaf(Part):
    """A number or an array."""


LEAF = Leaf()


class Choice(Part):
    """Anything that is not a number: it is compared, never traced; by identity if it has no hash."""

    def __init__(self, value: object):
        self._value, self._hash = value, hash(value) if _hashable(value) else id(value)

    @property
    def value(self) -> object:
        """What was chosen."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Choice):
            return False
        a, b = self.value, other.value
        return a is b or (type(a) is type(b) and _hashable(a) and bool(a == b))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True)
class Node(Part):
    """A container: a dict (in the order it was written: first match wins), a sequence, or a pytree."""

    kind: Any
    keys: tuple[Any, ...]
    parts: tuple[Part, ...]


# --- numbers ----------------------------------------------------------------------------------------


def key_of(leaf: Number) -> Hashable:
    """What a number is compared by: it tells 2 from 2.0 and 0.0 from −0.0, and finds NaN equal to NaN."""
    if isinstance(leaf, Tracer):
        return id(leaf)
    if isinstance(leaf, jax.Array | np.ndarray):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        host = np.asarray(jax.random.key_data(cast(jax.Array, leaf)) if is_key else leaf)
        return str(leaf.dtype), host.shape, host.tobytes()
    if isinstance(leaf, int | float | complex):
        return type(leaf), repr(leaf)
    try:
        hash(leaf)
    except TypeError:
        return id(leaf)
    return leaf


def key_form(x: Any) -> str | None:
    """The kind of random key in an array, as `jax.random.wrap_key_data` takes it; None for numbers."""
    if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return None
    return str(jax.random.key_impl(x))


def is_number(x: object) -> bool:
    """Whether x is a Python or NumPy number (a bool is a choice, not a number)."""
    return isinstance(x, int | float | complex | np.number) and not isinstance(x, bool)


def is_concrete_scalar(x: object) -> bool:
    """Whether x is an array without axes whose number can be read now."""
    if isinstance(x, np.ndarray):
        return x.ndim == 0
    if not isinstance(x, jax.Array) or isinstance(x, Tracer) or x.ndim:
        return False
    return not jnp.issubdtype(x.dtype, jax.dtypes.prng_key) and x.is_fully_addressable


def canonical(x: object) -> Any:
    """The form in which an argument is recorded: Python numbers, and dtypes by name."""
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, np.dtype) or (isinstance(x, type) and hasattr(x, "dtype")):
        return jnp.dtype(x).name
    if isinstance(x, type) and issubclass(x, np.generic):
        return np.dtype(x).name
    if type(x) is dict:
        return {canonical(key): canonical(child) for key, child in x.items()}
    if type(x) is list:
        return [canonical(child) for child in x]
    return tuple(canonical(child) for child in x) if type(x) is tuple else x


def _hashable(x: object) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True

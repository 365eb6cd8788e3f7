"""The entries of a state dict: what one of them is worth in the place of a leaf of a state."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx.arrays.numerics import owned
from gradtx.arrays.types import Array


class Unfit(NamedTuple):
    """Stands in a dict for an entry that cannot be loaded, and says why."""

    problem: str


class Entry:
    """What stands in a dict for a leaf of a state, and why it cannot be loaded: "" if it can."""

    def __init__(self, given: Any, leaf: Any):
        self.leaf = leaf = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
        self.x, self.problem = as_array(given, leaf)
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


def as_array(x: Any, leaf: Any) -> tuple[Any, str]:
    """An array of what was given, in the form of key that the state has; and what is wrong with it."""
    if isinstance(x, Unfit):
        return None, x.problem
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

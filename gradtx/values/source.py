"""Source text of values: what `repr` prints and `eval` reads."""

import inspect
import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from gradtx.values.parts import key_form

WIDTH = 100
"""What is longer than this many characters stands on several lines."""


class Source(NamedTuple):
    """The text of something that has parts: what stands before and after them, and each with its label."""

    start: str
    parts: list[tuple[str, Any]]
    end: str


class Sourced:
    """What has a source text made of parts."""

    def source(self) -> Source:
        """Its text, in parts."""
        raise NotImplementedError


def laid_out(x: object, indent: int = 0, used: int = 0) -> str:
    """Source text on one line if it is short, otherwise with each part on a line of its own.

    Args:
        x: anything.
        indent: the columns that each of its lines begins with.
        used: how many columns of its first line are taken.
    """
    line, taken_apart = show(x), _source(x)
    if len(line) + indent + used <= WIDTH or taken_apart is None or not taken_apart.parts:
        return line
    inner = indent + 4
    parts = [
        f"{' ' * inner}{label}{laid_out(part, inner, len(label) + 1)}," for label, part in taken_apart.parts
    ]
    return "\n".join([taken_apart.start, *parts, f"{' ' * indent}{taken_apart.end}"])


def show(x: object) -> str:
    """Source text on one line."""
    taken_apart = _source(x)
    if taken_apart is not None:
        start, parts, end = taken_apart
        comma = "," if type(x) is tuple and len(parts) == 1 else ""
        return f"{start}{', '.join(label + show(part) for label, part in parts)}{comma}{end}"
    if isinstance(x, jax.Array | np.ndarray) and not isinstance(x, Tracer):
        return _show_array(x)
    if inspect.isfunction(x) or inspect.isclass(x):
        return x.__name__
    if isinstance(x, float) and not math.isfinite(x):
        return f"float('{x}')"
    if isinstance(x, complex):
        return f"complex({show(x.real)}, {show(x.imag)})"
    return repr(x)


def _source(x: object) -> Source | None:
    if isinstance(x, Sourced):
        return x.source()
    if type(x) is dict:
        return Source("{", [(f"{key!r}: ", child) for key, child in x.items()], "}")
    if type(x) is list:
        return Source("[", [("", child) for child in x], "]")
    if type(x) is tuple:
        return Source("(", [("", child) for child in x], ")")
    return None


def _show_array(x: jax.Array | np.ndarray) -> str:
    if (impl := key_form(x)) is not None:
        return f"jax.random.wrap_key_data({_show_array(jax.random.key_data(x))}, impl={impl!r})"
    # In the precision that JAX has now, it would cut what is of NumPy and wider.
    maker = "jax.numpy" if jax.dtypes.canonicalize_dtype(x.dtype) == x.dtype else "numpy"
    if not x.size:
        return f"{maker}.zeros({show(x.shape)}, dtype='{x.dtype}')"
    return f"{maker}.array({show(np.asarray(x).tolist())}, dtype='{x.dtype}')"

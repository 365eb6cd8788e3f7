"""Calling functions of the count, which a user may have written for numbers alone."""

import functools
from collections.abc import Callable
from typing import Any

from jax import errors


class Untraceable(TypeError):
    """A schedule wants a number in Python where there is a traced one."""


OF_TRACERS = (
    errors.ConcretizationTypeError,
    errors.TracerArrayConversionError,
    errors.TracerIntegerConversionError,
    errors.NonConcreteBooleanIndexError,
)
"""What JAX raises where Python or NumPy is to look at a number that is traced."""


def number_at(schedule: Callable[..., Any], *count: Any) -> Any:
    """What a schedule gives at a count.

    Raises:
        Untraceable: if it decides in Python, or computes with NumPy, and the count is traced; the message
            names it and what to write.
    """
    try:
        return schedule(*count)
    except OF_TRACERS as error:
        raise Untraceable(
            f"the schedule {_name(schedule)} needs the count as a number of Python: it decides by it with "
            "`if`, converts it, or hands it to NumPy. Inside jit, vmap, scan and cond the count is traced: "
            "write jnp.where(count < 10, a, b), or jax.lax.cond, and jax.numpy in place of numpy"
        ) from error


def _name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", None) or repr(function)

"""Branches that are decided at once where the condition is known."""

from collections.abc import Callable
from typing import TypeVar

import jax
from jax.core import Tracer

from gradtx.arrays.types import Array, PyTree

T = TypeVar("T")


def cond(condition: Array | bool, true: Callable[..., T], false: Callable[..., T], *operands: PyTree) -> T:
    """`jax.lax.cond`, decided at once where the condition is known: eagerly, nothing is compiled for it."""
    if isinstance(condition, Tracer):
        return jax.lax.cond(condition, true, false, *operands)
    return true(*operands) if condition else false(*operands)

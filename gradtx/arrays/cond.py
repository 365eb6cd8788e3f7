"""Branches: decided at once where the condition is known, and alike inside of `jax.shard_map`."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer

from gradtx.arrays.types import Array, PyTree
from gradtx.arrays.varying import Axes, in_shard_map, varied, varying_axes

T = TypeVar("T")


def cond(condition: Array | bool, true: Callable[..., T], false: Callable[..., T], *operands: PyTree) -> T:
    """`jax.lax.cond`, decided at once where the condition is known: eagerly, nothing is compiled for it.

    Inside of `shard_map` the result varies along all axes that the condition or a branch does.
    """
    if not isinstance(condition, Tracer):
        return true(*operands) if condition else false(*operands)
    if in_shard_map():
        kinds = zip(*(jax.make_jaxpr(branch)(*operands).out_avals for branch in (true, false)), strict=True)
        axes = [varying_axes(condition).union(*map(varying_axes, alternatives)) for alternatives in kinds]
        true, false = _varying(true, axes), _varying(false, axes)
    return jax.lax.cond(condition, true, false, *operands)


def select(condition: Array | bool, true: Callable[..., T], false: Callable[..., T], *operands: PyTree) -> T:
    """Both branches, and of each number that of the one.

    It is for a pass over tensors: XLA may copy what goes through a conditional.
    """
    return jax.tree.map(partial(jnp.where, condition), true(*operands), false(*operands))


def _varying(branch: Callable[..., T], axes: list[Axes]) -> Callable[..., T]:
    def run(*operands: PyTree) -> T:
        leaves, treedef = jax.tree.flatten(branch(*operands))
        return treedef.unflatten([varied(x, along) for x, along in zip(leaves, axes, strict=True)])

    return run

"""JAX's loops, also inside of `jax.shard_map` with its default checks.

There the type of a number says along which axes of the mesh it varies, and what a loop carries must come out
with the types it went in with: zeros, which vary along none, do not, once data has been added. Here what
goes in is taken to vary along every axis that what comes out does; and along those that decide when the
loop ends, for after another number of passes on each device nothing is the same on all.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax

from gradtx.arrays.types import Array, PyTree, Scalar
from gradtx.arrays.varying import in_shard_map, varied, varied_like, varying_axes

T = TypeVar("T")


def while_loop(goes_on: Callable[[T], Array], step: Callable[[T], T], carry: T) -> T:
    """`jax.lax.while_loop`."""
    if not in_shard_map():
        return jax.lax.while_loop(goes_on, step, carry)
    carry = settled(step, carry, goes_on)
    return jax.lax.while_loop(goes_on, lambda now: varied_like(step(now), carry), carry)


def at_most_once(condition: Array | None, function: Callable[[T], T], x: T) -> T:
    """function(x), computed only where the condition holds, and else x; None is a condition that holds.

    A loop of one pass or none, and no branch; it has no derivative. What in it does not depend on x, XLA
    computes before the loop, in any case.
    """
    if condition is None:
        return function(x)
    return fori_loop(0, condition.astype("int32"), lambda i, now: function(now), x)


def fori_loop(lower: Scalar, upper: Scalar, step: Callable[[Any, T], T], carry: T) -> T:
    """`jax.lax.fori_loop`."""
    if not in_shard_map():
        return jax.lax.fori_loop(lower, upper, step, carry)
    carry = settled(lambda now: step(lower, now), carry, lambda now: (lower, upper))
    return jax.lax.fori_loop(lower, upper, lambda i, now: varied_like(step(i, now), carry), carry)


def scan(
    step: Callable[[T, Any], tuple[T, PyTree]],
    carry: T,
    xs: PyTree = None,
    length: int | None = None,
    unroll: int | bool = 1,
) -> tuple[T, PyTree]:
    """`jax.lax.scan`."""
    if not in_shard_map():
        return jax.lax.scan(step, carry, xs, length, unroll=unroll)
    carry = settled(lambda now: step(now, jax.tree.map(lambda x: x[0], xs))[0], carry)

    def as_carried(now: T, x: Any) -> tuple[T, PyTree]:
        now, y = step(now, x)
        return varied_like(now, carry), y

    return jax.lax.scan(as_carried, carry, xs, length, unroll=unroll)


def settled(step: Callable[[T], T], carry: T, decides: Callable[[T], PyTree] = lambda now: ()) -> T:
    """The carry, varying along every axis that the carry after a step, or what decides, varies along.

    A wider carry may make wider results; axes are only added, so that this ends.
    """
    leaves, treedef = jax.tree.flatten(carry)
    while True:
        kinds = jax.make_jaxpr(lambda now: (step(now), decides(now)))(treedef.unflatten(leaves)).out_avals
        after, deciding = kinds[: len(leaves)], kinds[len(leaves) :]
        of_all = frozenset[str]().union(*map(varying_axes, deciding))
        wider = [varied(x, varying_axes(kind) | of_all) for x, kind in zip(leaves, after, strict=True)]
        if all(map(lambda x, y: x is y, wider, leaves)):
            return treedef.unflatten(leaves)
        leaves = wider

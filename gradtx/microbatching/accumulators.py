"""Accumulators: how the results of microbatches become one."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import cast, compute_dtype, is_inexact
from gradtx.arrays.types import Array


@dataclass(frozen=True)
class Accumulator:
    """How the results of microbatches become one, in four functions of trees.

    The result for microbatches with values x₀, …, xₙ₋₁ is that of::

        carry = init(shape and dtype of x₀)
        for i in range(n):
            carry = update(carry, xᵢ, i)
        result = finalize(carry)

    Args:
        init: ``f(value)`` with a tree of ShapeDtypeStructs: what is carried before the first.
        update: ``f(carry, value, index)``: what is carried after one more; the index is traced.
        finalize: ``f(carry)``: the result.
        aggregate: ``f(values)``, for `micro_vmap`: what becomes of the results of the examples of one
            microbatch, which are on a first axis.
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any], Any]
    finalize: Callable[[Any], Any]
    aggregate: Callable[[Any], Any]


class AccumulationType(enum.Enum):
    """The common ways to accumulate. Sums are carried in at least float32, and rounded once at the end.

    - ``SUM``: the sum over microbatches.
    - ``MEAN``: the sum over the number of microbatches, also if not all of them run.
    - ``RUNNING_MEAN``: the mean over those that run.
    - ``CONCAT``: their rows, in the order of the batch; 0 where a microbatch does not run.
    """

    MEAN = enum.auto()
    SUM = enum.auto()
    RUNNING_MEAN = enum.auto()
    CONCAT = enum.auto()


def combined(name: str, accumulator: Any, count: int, value: Any) -> Accumulator:
    """The one accumulator that a tree of them stands for.

    Args:
        name: of the function that errors are about.
        accumulator: an `Accumulator` or `AccumulationType`, or a tree of them that is a prefix of value.
        count: how many microbatches there are.
        value: the result of one, or its shapes and dtypes.
    """

    kinds, treedef = jax.tree.flatten(accumulator)
    try:
        parts = treedef.flatten_up_to(value)
    except (ValueError, TypeError):
        raise ValueError(
            f"{name}: accumulator must have the structure of what the function returns, or of a prefix, "
            f"got {treedef} for {jax.tree.structure(value)}"
        ) from None
    made = [_of_kind(name, kind, count, part) for kind, part in zip(kinds, parts, strict=True)]
    return _side_by_side(treedef, made)


def _side_by_side(treedef: Any, parts: list[Accumulator]) -> Accumulator:
    """One accumulator of several, each for what a tree has in its place."""

    def each(method: str, *trees: Any, shared: tuple[Any, ...] = ()) -> Any:
        rows = zip(parts, *map(treedef.flatten_up_to, trees), strict=True)
        return treedef.unflatten([getattr(part, method)(*row, *shared) for part, *row in rows])

    return Accumulator(
        init=partial(each, "init"),
        update=lambda carry, value, i: each("update", carry, value, shared=(i,)),
        finalize=partial(each, "finalize"),
        aggregate=partial(each, "aggregate"),
    )


def _of_kind(name: str, kind: Any, count: int, value: Any) -> Accumulator:
    """The accumulator of this kind for a tree of tensors."""
    if isinstance(kind, Accumulator):
        return kind
    if not isinstance(kind, AccumulationType):
        known = ", ".join(x.name for x in AccumulationType)
        raise TypeError(
            f"{name}: accumulator must be an Accumulator or an AccumulationType ({known}), got {kind!r}"
        )
    leaves, treedef = jax.tree.flatten(value)
    for x in leaves:
        if "MEAN" in kind.name and not is_inexact(x.dtype):
            raise TypeError(
                f"{name}: {kind.name} needs floating-point or complex values, got {x.dtype}; "
                "convert them, or take their SUM"
            )
    return _side_by_side(treedef, [_MAKERS[kind](count, x.dtype) for x in leaves])


def _sum(count: int, dtype: Any, finalize: Callable[[Array], Array] | None = None) -> Accumulator:
    del count
    return Accumulator(
        init=lambda x: jnp.zeros(x.shape, compute_dtype(dtype)),
        update=lambda carry, x, i: carry + cast(x, carry.dtype),
        finalize=lambda carry: cast(finalize(carry) if finalize else carry, dtype),
        aggregate=lambda xs: cast(jnp.sum(xs, axis=0, dtype=compute_dtype(dtype)), dtype),
    )


def _mean(count: int, dtype: Any) -> Accumulator:
    total = _sum(count, dtype, lambda carry: carry / count)
    return Accumulator(total.init, total.update, total.finalize, partial(jnp.mean, axis=0))


def _running_mean(count: int, dtype: Any) -> Accumulator:
    mean = _mean(count, dtype)
    return Accumulator(
        init=mean.init,
        update=lambda carry, x, i: carry + (cast(x, carry.dtype) - carry) / (i + 1),
        finalize=lambda carry: cast(carry, dtype),
        aggregate=mean.aggregate,
    )


def _concat(count: int, dtype: Any) -> Accumulator:
    return Accumulator(
        # The microbatch on the second axis: one row of each, as `reshape_batch_axis` took them.
        init=lambda x: jnp.zeros((*x.shape[:1], count, *x.shape[1:]), dtype),
        update=lambda carry, x, i: jax.lax.dynamic_update_index_in_dim(carry, x, i, min(x.ndim, 1)),
        finalize=lambda carry: carry.reshape(-1, *carry.shape[2:]),
        aggregate=lambda xs: xs,
    )


_MAKERS = {
    AccumulationType.SUM: _sum,
    AccumulationType.MEAN: _mean,
    AccumulationType.RUNNING_MEAN: _running_mean,
    AccumulationType.CONCAT: _concat,
}

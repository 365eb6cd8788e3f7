"""Batches: how a rule made of matrix products or decompositions runs for all tensors of one shape."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.types import Array, PyTree

Given = Sequence[tuple[PyTree, ...]]
"""The arguments of a function for each tensor: trees of one structure, with tensors of the same shapes."""


class Batch:
    """Tensors of one shape as they go through a function: one after the other. `Stack` joins them.

    A subclass says something else, such as which device computes which; it is compared by value.
    """

    joins = False
    """Whether tensors of one shape go into one call."""

    def map(self, function: Callable[..., PyTree], given: Given) -> list[PyTree]:
        """The results of the function, one for each tensor's arguments."""
        return [function(*own) for own in given]


@dataclass(frozen=True)
class Stack(Batch):
    """Tensors of one shape in one stack, over which the function is mapped by `jax.vmap`.

    Args:
        constrain: applied to each stack, of arguments and of results, whose first axis is the tensors':
            ``jax.lax.with_sharding_constraint`` with a sharding shares the work out. Default: as it is.
    """

    joins = True
    constrain: Callable[[Array], Array] | None = None

    def stack(self, trees: Sequence[PyTree]) -> PyTree:
        """Trees of one structure as one, with a new first axis."""
        return self._placed(jax.tree.map(lambda *tensors: jnp.stack(tensors), *trees))

    def unstack(self, stacked: PyTree, count: int) -> list[PyTree]:
        """The trees of which `stack` made one."""
        stacked = self._placed(stacked)
        return [jax.tree.map(partial(one_of, place), stacked) for place in _places(count)]

    def map(self, function: Callable[..., PyTree], given: Given) -> list[PyTree]:
        return self.unstack(jax.vmap(function)(*self.stack(given)), len(given))

    def _placed(self, stacked: PyTree) -> PyTree:
        return stacked if self.constrain is None else jax.tree.map(self.constrain, stacked)


def one_of(place: Array, stack: Array) -> Array:
    """One of a stack; the last, if the place is beyond."""
    start = (place, *[jnp.zeros_like(place)] * (stack.ndim - 1))
    size = (1, *stack.shape[1:])
    return jax.lax.dynamic_slice(stack, start, size, allow_negative_indices=False)[0]


def _places(count: int) -> list[Array]:
    """The numbers from 0 to a count, of which a compiler knows nothing.

    XLA compiles a kernel for each constant offset, which takes it 10 ms on a CPU, and one kernel for all
    offsets that are data. A constant whose entries are all equal, or evenly spaced, is not data.
    """
    rows = np.full((count, 3), -1, np.int32)
    rows[:, 0] = np.arange(count)
    return [jax.lax.optimization_barrier(jnp.asarray(row))[0] for row in rows]


LOOP, STACK = Batch(), Stack()
_BATCH: ContextVar[Batch | None] = ContextVar("batch", default=None)


@contextmanager
def batching(batch: Batch) -> Iterator[None]:
    """Within it, rules that ask for it run by this `Batch`, whatever the backend.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> params = {"a": jnp.eye(2), "b": jnp.ones((2, 2))}
        >>> tx = gradtx.contrib.scale_by_muon()
        >>> with gradtx.batching(gradtx.Stack()):
        ...     updates, _ = tx.update(params, tx.init(params), params)
        >>> updates["a"].shape
        (2, 2)
    """
    token = _BATCH.set(batch)
    try:
        yield
    finally:
        _BATCH.reset(token)


def batch_in_force() -> Batch:
    """What `batching` says; else a stack on accelerators, where each call launches kernels.

    On the CPU a stack is slower: it leaves the cache between two operations on it, and costs two copies.
    """
    return _BATCH.get() or (LOOP if jax.default_backend() == "cpu" else STACK)

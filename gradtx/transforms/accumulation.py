"""Accumulation without a wrapper."""

from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays.types import Array, Params
from gradtx.core.leafwise import leafwise
from gradtx.values.domains import Positive


class ApplyEvery(NamedTuple):
    """count: int32 scalar, updates so far; grad_acc: a tree like the params, their sum since the last
    that was emitted."""

    count: Array
    grad_acc: Params


@leafwise(state=ApplyEvery, elementwise=True)
def apply_every(k: Positive = 1):
    """Sum k updates and emit the sum with the last of them; the others become 0.

    What comes before it in a chain still sees every update: to accumulate the gradients of several
    batches into one step of an optimizer, use `MultiSteps`.

    Args:
        k: how many updates are summed, at least 1.
    """

    def init(param):
        return dict(grad_acc=jnp.zeros_like(param))

    def update(grad, grad_acc, step):
        place = (step - 1) % k
        grad_acc = jnp.where(place == 0, 0, grad_acc) + grad
        return jnp.where(place == k - 1, grad_acc, 0), dict(grad_acc=grad_acc)

    return init, update

"""The mean of gradients, over examples and over batches."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx import tree
from gradtx.arrays.numerics import at_least_float32, cast, safe_increment
from gradtx.arrays.trees import advanced, mapped
from gradtx.arrays.types import Array, Params, State, Updates
from gradtx.core.transformation import GradientTransformation, init_empty_state
from gradtx.core.treewise import treewise
from gradtx.experimental.aggregating.parts import Aggregator, MaybeAxis, PerElementUpdates
from gradtx.transforms.scaling import identity
from gradtx.values.parts import is_number


def wide(x: Any) -> Array:
    """A tensor in at least float32."""
    return cast(jnp.asarray(x), at_least_float32(jnp.result_type(x)))


def mean_over(per_elt_updates: PerElementUpdates, axis: int | Sequence[int]) -> Updates:
    """The mean over these axes, in at least float32."""
    axes = axis if isinstance(axis, int) else tuple(axis)
    return jax.tree.map(lambda x: jnp.mean(wide(x), axis=axes), per_elt_updates)


def average_per_element_updates(per_elt_axis: int | Sequence[int] = 0) -> Aggregator:
    """The mean over examples, without a state.

    Args:
        per_elt_axis: the axes of the examples in every tensor.
    """

    def update(
        per_elt_updates: PerElementUpdates, state: State, params: Params | None = None, **extra_args: Any
    ) -> tuple[Updates, State]:
        del params, extra_args
        return mean_over(per_elt_updates, per_elt_axis), state

    return Aggregator(init_empty_state, update)


class AccumulateAvgUpdatesState(NamedTuple):
    """micro_step: int32 scalar, batches since the last mean was complete; ready: bool scalar, whether the
    last update completed one; avg_grad: a tree like the params, the mean of the batches so far."""

    micro_step: Array
    ready: Array
    avg_grad: Updates


@treewise(state=AccumulateAvgUpdatesState, name="experimental.aggregating.accumulate_avg_updates")
def _accumulating(accumulation_steps: int):
    def init(params):
        return AccumulateAvgUpdatesState(
            jnp.zeros([], jnp.int32), jnp.array(False), tree.zeros_like(jax.tree.map(wide, params))
        )

    def update(updates, state):
        step = safe_increment(state.micro_step)
        ready = step >= accumulation_steps

        def further(grad, mean):
            return mean + (grad - mean) / step.astype(mean.real.dtype)

        mean = advanced(further, updates, state.avg_grad)
        updates = mapped(lambda grad, mean: jnp.where(ready, mean, 0), updates, mean)
        kept = advanced(lambda grad, mean: jnp.where(ready, 0, mean), updates, mean)
        return updates, AccumulateAvgUpdatesState(jnp.where(ready, 0, step), ready, kept)

    return init, update


def accumulate_avg_updates(accumulation_steps: int) -> GradientTransformation:
    """The mean of several batches; 0 until it is complete.

    `MultiSteps` around an optimizer does the same for an optimizer alone.

    Args:
        accumulation_steps: how many batches, at least 1. With 1, updates are left as they are.
    """
    if is_number(accumulation_steps) and accumulation_steps < 1:
        raise ValueError(
            f"accumulate_avg_updates: accumulation_steps must be at least 1, got {accumulation_steps}"
        )
    return (
        identity()
        if is_number(accumulation_steps) and accumulation_steps == 1
        else _accumulating(accumulation_steps)
    )


def average_incrementally_updates(
    per_elt_axis: MaybeAxis, accumulation_steps: int
) -> GradientTransformation | Aggregator:
    """The mean over examples and over several batches.

    Args:
        per_elt_axis: the axes of the examples in every tensor; None if there are none.
        accumulation_steps: how many batches, at least 1.

    Returns:
        A transformation if there are no axes, otherwise an `Aggregator`.
    """
    accumulate = accumulate_avg_updates(accumulation_steps)
    if per_elt_axis is None:
        return accumulate
    average = average_per_element_updates(per_elt_axis)

    def init(params: Params) -> State:
        return average.init(params), accumulate.init(params)

    def update(
        per_elt_updates: PerElementUpdates, state: State, params: Params | None = None, **extra_args: Any
    ) -> tuple[Updates, State]:
        updates, first = average.update(per_elt_updates, state[0], params, **extra_args)
        updates, second = accumulate.update(updates, state[1], params, **extra_args)
        return updates, (first, second)

    return Aggregator(init, update)

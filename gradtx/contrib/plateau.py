"""A plateau of the loss: smaller steps once it no longer falls."""

from typing import Annotated, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.errors import check_scalar
from gradtx.arrays.numerics import safe_increment
from gradtx.arrays.trees import scalar_dtype, scale_tree
from gradtx.arrays.types import Array
from gradtx.core.treewise import treewise
from gradtx.values.domains import AtLeastOne, Fraction, Interval, NonNegative, ScalarOrSchedule


class ReduceLROnPlateauState(NamedTuple):
    """Where a plateau stands.

    scale: scalar, the factor of updates; best_value: scalar, the least mean so far;
    plateau_count: int32 scalar, means since it that were no better;
    cooldown_count: int32 scalar, means for which the scale still rests;
    count: int32 scalar, values in the running mean; avg_value: scalar, that mean.
    """

    scale: Array
    best_value: Array
    plateau_count: Array
    cooldown_count: Array
    count: Array
    avg_value: Array


@treewise(state=ReduceLROnPlateauState, counts=False, on_shards=True)
def reduce_on_plateau(
    factor: Fraction = 0.1,
    patience: AtLeastOne = 10,
    rtol: Annotated[ScalarOrSchedule, Interval("[0, 1]")] = 1e-4,
    atol: NonNegative = 0.0,
    cooldown: NonNegative = 0,
    accumulation_size: AtLeastOne = 1,
    min_scale: NonNegative = 0.0,
):
    """Scale updates down when a value, most often the loss, has stopped falling.

    The value is given at each update: ``tx.update(grads, state, params, value=loss)``. Its mean over
    accumulation_size updates is better if it is below best − rtol·|best| − atol. After `patience` means
    that were not, scale ← max(factor·scale, min_scale); the update is scale·g.

    Args:
        factor: of the scale at each reduction, between 0 and 1.
        patience: after how many means that are no better the scale is reduced, at least 1.
        rtol: the share of the best value, whatever its sign, by which a better one is below it.
        atol: the same in absolute terms.
        cooldown: for how many means after a reduction nothing is counted.
        accumulation_size: how many values make a mean, at least 1. Take 1 for a validation loss, more for
            the loss of single batches.
        min_scale: the scale is not reduced below it.

    Raises:
        TypeError: at `update`, if it is called without ``value``.
    """

    def init(params):
        dtype, zero = scalar_dtype("contrib.reduce_on_plateau", params), jnp.zeros([], jnp.int32)
        return ReduceLROnPlateauState(
            scale=jnp.ones([], dtype),
            best_value=jnp.asarray(jnp.inf, dtype),
            plateau_count=zero,
            cooldown_count=jnp.copy(zero),
            count=jnp.copy(zero),
            avg_value=jnp.zeros([], dtype),
        )

    def looked(state):
        value, best = state.avg_value, state.best_value
        bound = jnp.where(jnp.isinf(best), best, best - rtol * jnp.abs(best) - atol)
        better, resting = value < bound, state.cooldown_count > 0
        bad = jnp.where(better | resting, 0, safe_increment(state.plateau_count))
        reduces = bad >= patience
        return ReduceLROnPlateauState(
            scale=jnp.where(reduces, jnp.maximum(factor * state.scale, min_scale), state.scale),
            best_value=jnp.where(better, value, best),
            plateau_count=jnp.where(reduces, 0, bad),
            cooldown_count=jnp.where(reduces, cooldown, jnp.maximum(state.cooldown_count - 1, 0)),
            count=jnp.zeros_like(state.count),
            avg_value=jnp.zeros_like(value),
        )

    def update(updates, state, params=None, *, value):
        check_scalar("contrib.reduce_on_plateau", "value", value)
        del params
        count = safe_increment(state.count)
        value = jnp.asarray(value, state.avg_value.dtype)
        mean = state.avg_value + (value - state.avg_value) / count.astype(value.dtype)
        state = state._replace(count=count, avg_value=mean)
        full = count >= accumulation_size
        pairs = zip(looked(state), state, strict=True)
        state = ReduceLROnPlateauState(*(jnp.where(full, new, old) for new, old in pairs))
        return scale_tree(updates, state.scale), state

    return init, update

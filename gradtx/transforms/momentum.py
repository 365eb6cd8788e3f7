"""Momentum: sums and averages of past updates."""

from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays import numerics
from gradtx.arrays.numerics import decay_towards
from gradtx.arrays.types import Array, Params
from gradtx.core.leafwise import leafwise
from gradtx.values.domains import Decay, DType, Number


class TraceState(NamedTuple):
    """trace: a tree like the params, the decaying sum of past updates."""

    trace: Params


@leafwise(state=TraceState, elementwise=True)
def trace(decay: Number, nesterov: bool = False, accumulator_dtype: DType = None):
    """Classical momentum: the decaying sum of past updates.

    vₜ = gₜ + decay·vₜ₋₁; the update is vₜ, or gₜ + decay·vₜ with Nesterov's look-ahead.

    Args:
        decay: share of the sum that is kept, usually 0.9.
        nesterov: whether to look ahead. Default: no.
        accumulator_dtype: dtype of the state. Default: the params', at least float32.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.
    """

    def init(param):
        return dict(trace=jnp.zeros_like(param, dtype=accumulator_dtype))

    def update(grad, trace):
        trace = grad + decay * trace
        return grad + decay * trace if nesterov else trace, dict(trace=trace)

    return init, update


class EmaState(NamedTuple):
    """count: int32 scalar, updates so far; ema: a tree like the params, the moving average."""

    count: Array
    ema: Params


@leafwise(state=EmaState, elementwise=True)
def ema(decay: Decay, debias: bool = True, accumulator_dtype: DType = None):
    """The exponential moving average of past updates.

    mₜ = decay·mₜ₋₁ + (1 − decay)·gₜ; the update is mₜ / (1 − decayᵗ), or mₜ without `debias`.

    Args:
        decay: share of the old average that is kept, in [0, 1).
        debias: whether to correct for the start at 0. Default: yes.
        accumulator_dtype: dtype of the state. Default: the params', at least float32.
    """

    def init(param):
        return dict(ema=jnp.zeros_like(param, dtype=accumulator_dtype))

    def update(grad, ema, step):
        ema = decay_towards(ema, grad, decay)
        return numerics.debias(ema, decay, step) if debias else ema, dict(ema=ema)

    return init, update

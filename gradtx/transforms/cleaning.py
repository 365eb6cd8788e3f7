"""Cleaning: updates without NaN, and without a mean."""

from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays.types import Params
from gradtx.core.leafwise import leafwise


class ZeroNansState(NamedTuple):
    """found_nan: a tree like the params of bool scalars, whether the last update had a NaN there."""

    found_nan: Params


@leafwise(state=ZeroNansState, others="hidden")
def zero_nans():
    """Replace NaN by 0, and tell in the state where there was one. Infinities stay."""

    def init(param):
        return dict(found_nan=jnp.zeros([], bool))

    def update(grad):
        nan = jnp.isnan(grad)
        return jnp.where(nan, 0, grad), dict(found_nan=jnp.any(nan))

    return init, update


@leafwise(others="hidden")
def centralize():
    """Subtract from each tensor's update its mean over all axes but the first.

    Scalars and vectors stay as they are.

    Source: Yong et al., Gradient centralization, arXiv:2004.01461.
    """

    def update(grad):
        axes = tuple(range(1, grad.ndim))
        return grad - jnp.mean(grad, axis=axes, keepdims=True) if axes and grad.size else grad

    return update

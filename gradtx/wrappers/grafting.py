"""Grafting: the direction of one transformation with the size of another."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import norm
from gradtx.arrays.trees import mapped
from gradtx.arrays.types import Array, State
from gradtx.core.transformation import GradientTransformation, InnerStates, check_transformation
from gradtx.core.treewise import treewise


class GraftedState(NamedTuple):
    """inner_state, magnitude_state: the states of the two transformations."""

    inner_state: State
    magnitude_state: State


def _both_states(arguments: Mapping[str, Any], state: State) -> InnerStates:
    return {
        f"{name}_state": [(arguments[name], getattr(state, f"{name}_state"))]
        for name in ("inner", "magnitude")
    }


@treewise(state=GraftedState, inner_states=_both_states)
def grafted(inner: GradientTransformation, magnitude: GradientTransformation):
    """The direction of one transformation with the size of another, tensor by tensor.

    With the updates u and v of the two, each from the same gradients, it is u·‖v‖ / ‖u‖; 0 where u is. So
    learning rates of the one whose size it is serve the other.

    Args:
        inner: gives the direction.
        magnitude: gives the size, such as `scale_by_adam`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.grafted(gradtx.scale_by_sign(), gradtx.identity())
        >>> params = {"w": jnp.array([1.0, 3.0, 5.0, 1.0])}
        >>> updates, _ = tx.update(params, tx.init(params))
        >>> print(updates["w"])
        [3. 3. 3. 3.]

    Source: Agarwal et al., Disentangling adaptive gradient methods from learning rates, arXiv:2002.11803.
    """
    check_transformation("grafted", "magnitude", magnitude)

    def resized(u: Array, v: Array) -> Array:
        size = norm(u)
        return u * (norm(v) / jnp.where(size == 0, 1, size))

    def init(params):
        return GraftedState(inner.init(params), magnitude.init(params))

    def update(updates, state, params=None, **extra):
        u, inner_state = inner.update(updates, state.inner_state, params, **extra)
        v, magnitude_state = magnitude.update(updates, state.magnitude_state, params, **extra)
        return mapped(resized, u, v), GraftedState(inner_state, magnitude_state)

    return init, update

"""Polyak's step size, from the value of the objective."""

from typing import Literal

import jax.numpy as jnp

from gradtx.arrays.errors import check_scalar
from gradtx.arrays.numerics import quotient
from gradtx.arrays.trees import global_norm, scale_tree
from gradtx.core.transformation import EmptyState, init_empty_state
from gradtx.core.treewise import treewise
from gradtx.values.domains import NonNegative, Number


@treewise(state=EmptyState, on_shards=True)
def scale_by_polyak(
    f_min: Number = 0.0,
    max_learning_rate: NonNegative = 1.0,
    eps: NonNegative = 0.0,
    variant: Literal["sps", "sps+"] = "sps",
):
    """Scale all updates by Polyak's step size: how far the objective is from its least value.

    The update is min((f − f_min) / (‖g‖² + eps), max_learning_rate)·g, with the norm over all tensors, and
    0 where ‖g‖² + eps is below 2.2e-16. It needs the value of the objective at the params:
    ``tx.update(grads, state, params, value=loss)``.

    Args:
        f_min: the least value of the objective, or a lower bound of it.
        max_learning_rate: the largest step size.
        eps: added to the squared norm, at least 0.
        variant: ``sps``; or ``sps+``, where a value below f_min counts as f_min, so that no step climbs.

    Raises:
        ValueError: for another variant.
        TypeError: at `update`, if it is called without ``value``.

    Source: Loizou et al., Stochastic Polyak step-size for SGD, arXiv:2002.10542; Garrigos et al.,
    Function value learning, arXiv:2307.14528.
    """
    if variant not in ("sps", "sps+"):
        raise ValueError(f"scale_by_polyak: variant must be sps or sps+, got {variant!r}")

    def update(updates, state, params=None, *, value):
        check_scalar("scale_by_polyak", "value", value)
        square = global_norm(updates) ** 2 + eps
        gap = jnp.asarray(value - f_min).astype(square.dtype)
        gap = jnp.maximum(gap, 0) if variant == "sps+" else gap
        rate = quotient(gap, square, float(jnp.finfo(float).eps))
        return scale_tree(updates, jnp.minimum(rate, max_learning_rate)), state

    return init_empty_state, update

"""Logarithms of probabilities, right also where a probability is 0 or 1."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.types import Array
from gradtx.losses.arguments import Axis


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_softmax(x: Array, axis: Axis) -> Array:
    """x − log Σ exp x. Entries of +∞ take all probability, in equal shares; NaN where all are −∞."""
    highest = jnp.max(x, axis, keepdims=True)
    shifted = jnp.where(x == jnp.inf, 0, x - highest)
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis, keepdims=True))


@log_softmax.defjvp
def _log_softmax_jvp(axis: Axis, primals: Any, tangents: Any) -> Any:
    (x,), (dx,) = primals, tangents
    log_q = log_softmax(x, axis)
    return log_q, dx - jnp.sum(jnp.exp(log_q) * dx, axis, keepdims=True)


def masked_log_softmax(x: Array, axis: Axis, mask: Array | None) -> Array:
    """`log_softmax` over the entries that a mask shows: −∞ elsewhere, and no NaN where it shows none."""
    if mask is None:
        return log_softmax(x, axis)
    any_shown = jnp.any(mask, axis, keepdims=True)
    return log_softmax(jnp.where(mask, x, jnp.where(any_shown, -jnp.inf, 0)), axis)


def weighted(weight: Array, log_p: Array) -> Array:
    """weight·log p, and 0 where weight and p are both 0."""
    return weight * jnp.where((weight == 0) & jnp.isneginf(log_p), 0, log_p)


def log_sum(x: Array, axis: int) -> Array:
    """log Σ exp x along an axis: −∞ with derivative 0 where all are −∞."""
    highest = jax.lax.stop_gradient(jnp.max(x, axis, keepdims=True))
    highest = jnp.where(jnp.isfinite(highest), highest, 0)
    total = jnp.sum(jnp.exp(x - highest), axis)
    logs = jnp.log(jnp.where(total == 0, 1, total)) + jnp.squeeze(highest, axis)
    return jnp.where(total == 0, -jnp.inf, logs)

"""Kullback-Leibler divergences of predicted distributions from the true ones."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.arguments import Axis, check_axis, fitting, floating, mask_of, masked, widened
from gradtx.losses.logarithms import weighted


def kl_divergence(
    log_predictions: ArrayLike, targets: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> Array:
    """The information lost where q stands for p: Σ p·(log p − log q).

    A target of 0 counts 0, also where log q is −∞; a positive one there makes the loss infinite.

    Args:
        log_predictions: log q, floating, of shape (…, classes, …).
        targets: p, floating, at least 0, of a shape that broadcasts with it.
        axis: the class axis, or several; None means all.
        where: which elements count, of a shape that broadcasts with the predictions. Default: all.

    Returns:
        The losses, without the class axis.

    Raises:
        TypeError: for arguments that are not floating.
        ValueError: if the shapes do not fit.

    Source: Kullback and Leibler, On information and sufficiency, 1951.
    """
    log_q, p, dtype = _compared("kl_divergence", log_predictions, targets, axis, where)
    return jnp.sum(_divergence(log_q, p), axis).astype(dtype)


def kl_divergence_with_log_targets(
    log_predictions: ArrayLike, log_targets: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> Array:
    """`kl_divergence` of targets given by their logarithms: Σ exp(log p)·(log p − log q).

    Args:
        log_predictions: log q, floating, of shape (…, classes, …).
        log_targets: log p, floating, of a shape that broadcasts with it; −∞ for a target of 0.
        axis: the class axis, or several; None means all.
        where: which elements count, of a shape that broadcasts with the predictions. Default: all.

    Returns:
        The losses, without the class axis.

    Raises:
        TypeError: for arguments that are not floating.
        ValueError: if the shapes do not fit.
    """
    log_q, log_p, dtype = _compared(
        "kl_divergence_with_log_targets", log_predictions, log_targets, axis, where, absent=-jnp.inf
    )
    finite = jnp.where(jnp.isneginf(log_p), 0, log_p)
    return -jnp.sum(weighted(jnp.exp(log_p), log_q - finite), axis).astype(dtype)


def generalized_kl_divergence(
    log_predictions: ArrayLike, targets: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> Array:
    """The divergence of positive numbers that need not add up to 1: Σ p·(log p − log q) + q − p.

    It is at least 0, and 0 only where p = q.

    Args:
        log_predictions: log q, floating, of shape (…, classes, …).
        targets: p, floating, at least 0, of a shape that broadcasts with it.
        axis: the class axis, or several; None means all.
        where: which elements count, of a shape that broadcasts with the predictions. Default: all.

    Returns:
        The losses, without the class axis.

    Raises:
        TypeError: for arguments that are not floating.
        ValueError: if the shapes do not fit.
    """
    log_q, p, dtype = _compared("generalized_kl_divergence", log_predictions, targets, axis, where)
    return jnp.sum(_divergence(log_q, p) + jnp.exp(log_q) - p, axis).astype(dtype)


convex_kl_divergence = generalized_kl_divergence
"""`generalized_kl_divergence`, by Optax's older name."""


def _divergence(log_q: Array, p: Array) -> Array:
    return -weighted(p, log_q - jnp.log(jnp.where(p == 0, 1, p)))


def _compared(
    name: str, log_q: ArrayLike, targets: ArrayLike, axis: Axis, where: ArrayLike | None, absent: float = 0
):
    """Both in the dtype to compute in; what a mask leaves out has probability 0 in both."""
    floating(name, log_predictions=log_q, targets=targets)
    fitting(name, log_predictions=log_q, targets=targets)
    (log_q, p), dtype = widened(name, log_q, targets)
    check_axis(name, axis, log_q, p)
    mask = mask_of(name, where, log_q)
    return masked(mask, log_q, -jnp.inf), masked(mask, p, absent), dtype

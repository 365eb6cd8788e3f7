"""Losses of real predictions against real targets, and of directions."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.arguments import (
    Axis,
    check_axis,
    fitting,
    floating,
    mask_of,
    masked,
    same_shape,
    widened,
    within,
)


def squared_error(predictions: ArrayLike, targets: ArrayLike | None = None) -> Array:
    """The squared error, (x − y)².

    Args:
        predictions: x, floating, of any shape.
        targets: y, of the same shape. Default: 0.

    Returns:
        One loss per element.

    Raises:
        TypeError: for predictions that are not floating.
        ValueError: if the shapes differ.
    """
    if targets is not None:
        same_shape("squared_error", predictions=predictions, targets=targets)
    error, dtype = _error("squared_error", predictions, targets)
    return jnp.square(error).astype(dtype)


def l2_loss(predictions: ArrayLike, targets: ArrayLike | None = None) -> Array:
    """Half the squared error, ½·(x − y)², whose derivative is the error.

    Args:
        predictions: x, floating, of any shape.
        targets: y, of the same shape. Default: 0.

    Returns:
        One loss per element.

    Raises:
        TypeError: for predictions that are not floating.
        ValueError: if the shapes differ.
    """
    if targets is not None:
        same_shape("l2_loss", predictions=predictions, targets=targets)
    error, dtype = _error("l2_loss", predictions, targets)
    return (0.5 * jnp.square(error)).astype(dtype)


def huber_loss(predictions: ArrayLike, targets: ArrayLike | None = None, *, delta: ArrayLike = 1.0) -> Array:
    """The squared error near 0 and the absolute error beyond: ½·e² or delta·(|e| − ½·delta), e = x − y.

    Args:
        predictions: x, floating, of any shape.
        targets: y, of a shape that broadcasts with it. Default: 0.
        delta: the |e| where the two pieces meet, at least 0. Default: 1.

    Returns:
        One loss per element.

    Raises:
        TypeError: for predictions that are not floating.
        ValueError: if the shapes do not broadcast, or delta is negative.

    Source: Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35, 1964.
    """
    within("huber_loss", "[0, inf]", delta=delta)
    error, dtype = _error("huber_loss", predictions, targets)
    return huber(error, delta).astype(dtype)


def huber(error: Array, delta: ArrayLike) -> Array:
    """½·e² where |e| < delta, and delta·(|e| − ½·delta) beyond."""
    # |e| whose derivative is 0 at 0 and NaN at NaN, where `jnp.abs` has 1 and −1.
    size = error * jax.lax.stop_gradient(jnp.sign(error))
    near = size < delta
    # The square sees 0 where it is not taken: an infinite error would turn its derivative NaN.
    return jnp.where(near, 0.5 * jnp.square(jnp.where(near, error, 0)), delta * (size - 0.5 * delta))


def log_cosh(predictions: ArrayLike, targets: ArrayLike | None = None) -> Array:
    """log cosh(x − y): about ½·e² near 0 and |e| − log 2 far from it, and smooth.

    Accurate for the smallest errors too; the derivative is tanh(x − y).

    Args:
        predictions: x, floating, of any shape.
        targets: y, of a shape that broadcasts with it. Default: 0.

    Returns:
        One loss per element.

    Raises:
        TypeError: for predictions that are not floating.
        ValueError: if the shapes do not broadcast.

    Source: Chen et al., Log hyperbolic cosine loss improves variational auto-encoder, 2019.
    """
    error, dtype = _error("log_cosh", predictions, targets)
    return _log_cosh(error).astype(dtype)


@jax.custom_jvp
def _log_cosh(error: Array) -> Array:
    size = jnp.abs(error)
    near = size < 1
    # cosh e − 1 = 2·sinh²(e / 2) keeps the digits that a difference loses.
    bend = jnp.log1p(2 * jnp.square(jnp.sinh(jnp.where(near, size, 0) / 2)))
    return jnp.where(near, bend, size + jnp.log1p(jnp.exp(-2 * size)) - jnp.log(2.0))


@_log_cosh.defjvp
def _log_cosh_jvp(primals: Any, tangents: Any) -> Any:
    (error,), (change,) = primals, tangents
    return _log_cosh(error), jnp.tanh(error) * change


def _error(name: str, predictions: ArrayLike, targets: ArrayLike | None) -> tuple[Array, Any]:
    """x − y, and the dtype of the result."""
    y = 0 if targets is None else targets
    fitting(name, predictions=predictions, targets=y)
    (x, y), dtype = widened(name, predictions, y)
    return x - y, dtype


def cosine_similarity(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: ArrayLike = 0.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> Array:
    """The cosine of the angle between two vectors: a·b / (‖a‖·‖b‖).

    A vector of zeros has no angle: its cosine is 0, and so is the derivative by it.

    Args:
        predictions: a, floating, of shape (…, n, …).
        targets: b, floating, of a shape that broadcasts with it.
        epsilon: what ‖a‖² and ‖b‖² are at the least, at least 0. Default: 0.
        axis: the axis of the vectors, or several; None means all.
        where: which elements count, of a shape that broadcasts with the predictions. Default: all.

    Returns:
        The cosines, without the axis of the vectors.

    Raises:
        TypeError: for arguments that are not floating.
        ValueError: if the shapes do not fit.
    """
    cosine, dtype = _cosine("cosine_similarity", predictions, targets, epsilon, axis, where)
    return cosine.astype(dtype)


def cosine_distance(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: ArrayLike = 0.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> Array:
    """1 − `cosine_similarity`: 0 for the same direction, 2 for the opposite one.

    Args:
        predictions: a, floating, of shape (…, n, …).
        targets: b, floating, of a shape that broadcasts with it.
        epsilon: what ‖a‖² and ‖b‖² are at the least, at least 0. Default: 0.
        axis: the axis of the vectors, or several; None means all.
        where: which elements count, of a shape that broadcasts with the predictions. Default: all.

    Returns:
        The distances, without the axis of the vectors.

    Raises:
        TypeError: for arguments that are not floating.
        ValueError: if the shapes do not fit.
    """
    cosine, dtype = _cosine("cosine_distance", predictions, targets, epsilon, axis, where)
    return (1 - cosine).astype(dtype)


def _cosine(name: str, a: Any, b: Any, epsilon: Any, axis: Axis, where: Any) -> tuple[Array, Any]:
    floating(name, predictions=a, targets=b)
    fitting(name, predictions=a, targets=b)
    (a, b), dtype = widened(name, a, b)
    check_axis(name, axis, a, b)
    mask = mask_of(name, where, a)
    a, b = masked(mask, a, 0), masked(mask, b, 0)
    return jnp.sum(unit(a, epsilon, axis) * unit(b, epsilon, axis), axis), dtype


def unit(x: Array, epsilon: ArrayLike, axis: Axis) -> Array:
    """x / ‖x‖, with ‖x‖² at least epsilon; 0, with derivative 0, for a vector of zeros."""
    square = jnp.maximum(jnp.sum(jnp.square(x), axis, keepdims=True), epsilon)
    none = square == 0
    return jnp.where(none, 0, x) / jnp.sqrt(jnp.where(none, 1, square))

"""Losses of real predictions against real targets."""

import warnings
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.regression import huber
from gradtx.torch.nn.functional._arguments import elementwise
from gradtx.torch.nn.functional._norm import magnitude
from gradtx.torch.nn.functional._reduction import reduced


def mse_loss(
    input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", weight: ArrayLike | None = None
) -> Array:
    """The squared error: (x − y)².

    Args:
        input: x, the predictions, of any shape.
        target: y, of the same shape; another one is broadcast, with a warning.
        reduction: 'none', 'mean' or 'sum'.
        weight: factors of the same shape, by whose sum the mean then divides. Default: none.

    Raises:
        RuntimeError: if the shapes do not broadcast, or the input is of integers.
        ValueError: for a weight of another shape, or an unknown reduction.
    """
    error, factor, dtype = _error("mse_loss", input, target, weight)
    count = None if weight is None else jnp.sum(factor)
    return reduced(factor * jnp.square(error), reduction, dtype, count)


def l1_loss(
    input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", weight: ArrayLike | None = None
) -> Array:
    """The absolute error: |x − y|, with derivative 0 where they are equal.

    Args:
        input: x, the predictions, of any shape, real or complex. With respect to complex ones, the
            gradient is the conjugate of PyTorch's, as everywhere in JAX.
        target: y, of the same shape; another one is broadcast, with a warning.
        reduction: 'none', 'mean' or 'sum'.
        weight: factors of the same shape, by whose sum the mean then divides. Default: none.

    Raises:
        RuntimeError: if the shapes do not broadcast, or the input is of integers.
        ValueError: for a weight of another shape, or an unknown reduction.
    """
    error, factor, dtype = _error("l1_loss", input, target, weight, kind=jnp.inexact)
    count = None if weight is None else jnp.sum(factor)
    return reduced(factor * magnitude(error), reduction, dtype, count)


def smooth_l1_loss(
    input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", beta: float = 1.0
) -> Array:
    """The absolute error, rounded off near 0: d² / (2·beta) where |d| < beta, and |d| − beta / 2 beyond.

    Here d = x − y. It is `huber_loss` of delta = beta, divided by beta.

    Args:
        input: x, the predictions, of any shape.
        target: y, of the same shape; another one is broadcast, with a warning.
        reduction: 'none', 'mean' or 'sum'.
        beta: where the two pieces meet, at least 0; 0 is `l1_loss`.

    Raises:
        RuntimeError: if beta is negative, the shapes do not broadcast, or the input is of integers.
        ValueError: for an unknown reduction.
    """
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss does not support negative values for beta. It is {beta}")
    error, _, dtype = _error("smooth_l1_loss", input, target)
    losses = magnitude(error) if beta == 0 else huber(error, beta) / beta
    return reduced(losses, reduction, dtype)


def huber_loss(
    input: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    delta: float = 1.0,
    *,
    weight: ArrayLike | None = None,
) -> Array:
    """The squared error near 0 and the absolute error beyond: d² / 2 or delta·(|d| − delta / 2), d = x − y.

    Args:
        input: x, the predictions, of any shape.
        target: y, of the same shape; another one is broadcast, with a warning.
        reduction: 'none', 'mean' or 'sum'.
        delta: the |d| where the two pieces meet, above 0.
        weight: factors of the same shape. The mean divides by the number of losses, as PyTorch has it.

    Raises:
        RuntimeError: if delta is not positive, the shapes do not broadcast, or the input is of integers.
        ValueError: for a weight of another shape, or an unknown reduction.

    Source: Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35, 1964.
    """
    if delta <= 0:
        raise RuntimeError(f"huber_loss does not support non-positive values for delta. It is {delta}")
    error, factor, dtype = _error("huber_loss", input, target, weight)
    return reduced(factor * huber(error, delta), reduction, dtype)


def _error(
    name: str, input: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, kind: Any = jnp.floating
) -> tuple[Array, Array, Any]:
    """x − y, the weight of each element (1 if there is none), and the dtype of the result."""
    if weight is not None and jnp.shape(weight) != jnp.shape(input):
        raise ValueError(
            f"Weights and input must have the same size. They have {jnp.shape(weight)} and {jnp.shape(input)}"
        )
    (x, y, factor), dtype = elementwise(name, input, target, 1 if weight is None else weight, kind=kind)
    if x.shape != y.shape:
        warnings.warn(
            f"Using a target size ({y.shape}) that is different to the input size ({x.shape}). This will "
            "likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
            UserWarning,
            stacklevel=4,
        )
    return x - y, factor.real, dtype

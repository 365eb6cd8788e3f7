"""Negative log-likelihoods of counts and real numbers, and the divergence of two distributions."""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.arguments import check_each
from gradtx.torch.nn.functional._arguments import Shape, elementwise
from gradtx.torch.nn.functional._reduction import REDUCTIONS, check_reduction, reduced


def poisson_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    log_input: bool = True,
    full: bool = False,
    *,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Array:
    """The negative log-likelihood of a count y under a Poisson distribution, up to a term in y.

    eˣ − y·x if the input x is the logarithm of the rate, and x − y·log(x + eps) if it is the rate.
    With full, y·log y − y + ½·log(2πy) is added where y > 1: Stirling's approximation of log y!.

    Args:
        input: x, of any shape.
        target: y, of a shape that broadcasts with it.
        log_input: whether x is the logarithm of the rate.
        full: whether to add Stirling's term.
        eps: keeps the logarithm of a rate of 0 finite.
        reduction: 'none', 'mean' or 'sum'.

    Raises:
        RuntimeError: if the shapes do not broadcast, or all is of integers.
        ValueError: for an unknown reduction.
    """
    (input, target), dtype = elementwise("poisson_nll_loss", input, target)
    losses = jnp.exp(input) - target * input if log_input else input - target * jnp.log(input + eps)
    if full:
        small = target <= 1
        count = jnp.where(small, 1, target)
        stirling = count * jnp.log(count) - count + 0.5 * jnp.log(2 * math.pi * count)
        losses += jnp.where(small, 0, stirling)
    return reduced(losses, reduction, dtype)


def gaussian_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    var: ArrayLike,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Array:
    """The negative log-likelihood of y under a normal distribution of mean x and variance v.

    ½·(log v + (x − y)² / v) with v = max(var, eps), and ½·log 2π more if full. The derivative with
    respect to var ignores the maximum, so that a variance that is too small still learns.

    Args:
        input: x, of any shape.
        target: y, of a shape that broadcasts with it.
        var: a number, or an array of the shape of x; one axis may be of length 1, or the last may lack.
        full: whether to add the constant.
        eps: the least variance, above 0.
        reduction: 'none', 'mean' or 'sum'.

    Raises:
        ValueError: if var is negative anywhere (seen only where it is not traced) or of another shape,
            or for an unknown reduction.
        RuntimeError: if input and target do not broadcast, or all is of integers.

    Source: Nix and Weigend, Estimating the mean and variance of the target probability distribution,
    ICNN 1994.
    """
    check_reduction(reduction)
    scale = _of_each(jnp.asarray(var), jnp.shape(input), isinstance(var, int | float))
    (input, target, scale), dtype = elementwise("gaussian_nll_loss", input, target, scale)
    check_each(scale, ~(scale < 0), "var has negative entry/entries: {}")
    v = jnp.where(scale < eps, scale + jax.lax.stop_gradient(eps - scale), scale)
    losses = 0.5 * (jnp.log(v) + jnp.square(input - target) / v)
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction, dtype)


def _of_each(var: Array, shape: Shape, is_number: bool) -> Array:
    """Variances that broadcast to means of this shape."""
    if is_number or var.shape == shape:
        return var
    if var.shape == shape[:-1]:
        return var[..., None]
    differing = [v for v, n in zip(var.shape, shape, strict=False) if v != n]
    if var.ndim == len(shape) and differing == [1]:
        return var
    raise ValueError(f"var is of incorrect size: {var.shape} for an input of {shape}")


def kl_div(
    input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", log_target: bool = False
) -> Array:
    """The Kullback–Leibler divergence of the distribution p from q: p·(log p − log q), element by element.

    Where p is 0, the loss is 0 (and NaN if log q is infinite).

    Args:
        input: log q, of any shape.
        target: p, or log p if log_target; of a shape that broadcasts with the input.
        reduction: 'none', 'sum', 'batchmean' (the sum divided by the length of the first axis: the
            divergence itself) or 'mean' (divided by the number of elements). PyTorch warns of
            'mean', whose meaning it plans to change.
        log_target: whether the target is log p.

    Raises:
        RuntimeError: if the shapes do not broadcast, or all is of integers.
        ValueError: for an unknown reduction.
    """
    check_reduction(reduction, (*REDUCTIONS, "batchmean"))
    (input, target), dtype = elementwise("kl_div", input, target)
    losses = jnp.exp(target) * (target - input) if log_target else xlogy(target, target) - target * input
    if reduction == "batchmean":
        return reduced(losses, "mean", dtype, count=input.shape[0] if input.ndim else 1)
    return reduced(losses, reduction, dtype)

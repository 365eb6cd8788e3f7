"""Losses of probabilities of yes against no, one for each element."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.arguments import check_each
from gradtx.torch.nn.functional._arguments import EPSILON, check_broadcasts_to, widened
from gradtx.torch.nn.functional._reduction import reduced


def binary_cross_entropy(
    input: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, *, reduction: str = "mean"
) -> Array:
    """The cross entropy of a probability y and a predicted one x: −w·(y·log x + (1 − y)·log(1 − x)).

    The logarithms are at least −100, so that the loss is finite at 0 and 1. The derivative by x is
    w·(x − y) / max(x·(1 − x), 10⁻¹²), the derivative by y is that without the bounds.
    `binary_cross_entropy_with_logits` needs neither.

    Args:
        input: x, in [0, 1].
        target: y, in [0, 1], of the same shape.
        weight: w, of a shape that broadcasts to it. Default: 1.
        reduction: 'none', 'mean' or 'sum'.

    Raises:
        RuntimeError: if input or target leave [0, 1] (seen only where they are not traced), for a
            weight that does not broadcast to them, or if all is of integers.
        ValueError: if the shapes differ, or for an unknown reduction.
    """
    if jnp.shape(target) != jnp.shape(input):
        raise ValueError(
            f"Using a target size ({jnp.shape(target)}) that is different to the input size "
            f"({jnp.shape(input)}) is deprecated. Please ensure they have the same size."
        )
    (x, y, w), dtype = widened("binary_cross_entropy", input, target, 1 if weight is None else weight)
    check_broadcasts_to(w.shape, x.shape)
    for name, numbers in (("input", x), ("target", y)):
        message = f"all elements of {name} should be between 0 and 1, not {{}}"
        check_each(numbers, (numbers >= 0) & (numbers <= 1), message, RuntimeError)
    return reduced(w * _bounded_cross_entropy(x, y), reduction, dtype)


@jax.custom_jvp
def _bounded_cross_entropy(x: Array, y: Array) -> Array:
    return (y - 1) * jnp.maximum(jnp.log1p(-x), -100) - y * jnp.maximum(jnp.log(x), -100)


def _bounded_cross_entropy_jvp(primals: Any, tangents: Any) -> Any:
    (x, y), (dx, dy) = primals, tangents
    change = jnp.zeros_like(x)
    if not isinstance(dx, SymbolicZero):
        change += (x - y) / jnp.maximum(x * (1 - x), EPSILON) * dx
    if not isinstance(dy, SymbolicZero):
        change += (jnp.log1p(-x) - jnp.log(x)) * dy
    return _bounded_cross_entropy(x, y), change


_bounded_cross_entropy.defjvp(_bounded_cross_entropy_jvp, symbolic_zeros=True)


def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
) -> Array:
    """The cross entropy of a probability y and the sigmoid of a score x, accurate for any score.

    −w·(p·y·log σ(x) + (1 − y)·log(1 − σ(x))).

    Args:
        input: x, without bounds.
        target: y, in [0, 1], of the same shape.
        weight: w, of a shape that broadcasts to it. Default: 1.
        reduction: 'none', 'mean' or 'sum'.
        pos_weight: p, how much more a yes counts than a no, of a shape that broadcasts to the input's:
            most often one number for each of the last axis. Default: 1.

    Raises:
        ValueError: if the shapes of input and target differ, or for an unknown reduction.
        RuntimeError: for weights that do not broadcast to them, or if all is of integers.
    """
    if jnp.shape(target) != jnp.shape(input):
        raise ValueError(
            f"Target size ({jnp.shape(target)}) must be the same as input size ({jnp.shape(input)})"
        )
    (x, y, w, p), dtype = widened(
        "binary_cross_entropy_with_logits",
        input,
        target,
        1 if weight is None else weight,
        1 if pos_weight is None else pos_weight,
    )
    for factor in (w, p):
        check_broadcasts_to(factor.shape, x.shape)
    # Without a p its term would be 0·∞ for an infinite x.
    times = 1 if pos_weight is None else 1 + (p - 1) * y
    losses = (1 - y) * x - times * jax.nn.log_sigmoid(x)
    return reduced(w * losses, reduction, dtype)

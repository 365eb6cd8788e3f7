"""From the loss of each element to one number."""

from collections.abc import Collection
from typing import Any

import jax.numpy as jnp

from gradtx.arrays.numerics import cast
from gradtx.arrays.types import Array, Scalar

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(reduction: Any, known: Collection[str] = REDUCTIONS) -> None:
    """Raise unless there is such a reduction."""
    if reduction not in known:
        raise ValueError(f"{reduction} is not a valid value for reduction; it is one of {', '.join(known)}")


def reduced(losses: Array, reduction: str, dtype: Any, count: Scalar | None = None) -> Array:
    """The losses, their sum or their mean, in this dtype (for complex, in that of its parts).

    Args:
        losses: one for each element.
        reduction: 'none', 'sum' or 'mean'.
        dtype: of the result.
        count: what the mean divides by. Default: the number of losses; the mean of none is NaN.
    """
    check_reduction(reduction)
    if reduction != "none":
        losses_sum = jnp.sum(losses)
        losses = losses_sum if reduction == "sum" else losses_sum / (losses.size if count is None else count)
    return cast(losses, jnp.finfo(dtype).dtype)

"""Fenchel-Young losses: made from a maximum, and 0 where it is reached."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.errors import check_callable
from gradtx.arrays.types import Array
from gradtx.losses.arguments import fitting, widened
from gradtx.losses.logarithms import weighted


def make_fenchel_young_loss(max_fun: Callable[..., ArrayLike]) -> Callable[..., Array]:
    """The loss of which a maximum is the essence: F(s) − y·s.

    With F(s) = max_p (p·s − Ω(p)), its gradient is the p that reaches the maximum, minus y: a loss for
    any predictor that is the solution of such a problem. With F = logsumexp it is the cross entropy.

    Args:
        max_fun: F, from scores of shape (n,) to a number; further arguments of the loss go to it.

    Returns:
        ``loss(scores, targets, *args, **kwargs)``, for scores and targets of shape (…, n).

    Source: Blondel et al., Learning with Fenchel-Young losses, arXiv:1901.02324.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> cross_entropy = gradtx.losses.make_fenchel_young_loss(jax.nn.logsumexp)
        >>> print(cross_entropy(jnp.zeros((2, 4)), jnp.eye(4)[:2]).round(4))
        [1.3863 1.3863]
    """

    check_callable("make_fenchel_young_loss", "max_fun", max_fun)

    def fenchel_young_loss(scores: ArrayLike, targets: ArrayLike, *args: Any, **kwargs: Any) -> Array:
        shape = fitting("fenchel_young_loss", scores=scores, targets=targets)
        (s, y), dtype = widened("fenchel_young_loss", scores, targets)
        if s.ndim == 0:
            raise ValueError("fenchel_young_loss: scores must have at least one dimension, got shape ()")
        rows = s.reshape(-1, s.shape[-1])
        most = jax.vmap(lambda row: jnp.asarray(max_fun(row, *args, **kwargs)))(rows)
        if most.ndim > 1:
            raise ValueError(
                f"fenchel_young_loss: max_fun must return a number, got the shape {most.shape[1:]}"
            )
        total = most.reshape(s.shape[:-1]) - jnp.sum(weighted(y, s), -1)
        return jnp.broadcast_to(total, shape[:-1]).astype(dtype)

    return fenchel_young_loss

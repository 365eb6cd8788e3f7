"""Gradient descent with Polyak's step size."""

from typing import Literal

from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.optimizers.sgd import sgd
from gradtx.transforms.polyak import scale_by_polyak
from gradtx.values.domains import NonNegative, Number


@recipe
def polyak_sgd(
    max_learning_rate: NonNegative = 1.0,
    scaling: Number = 1.0,
    f_min: Number = 0.0,
    eps: NonNegative = 0.0,
    variant: Literal["sps", "sps+"] = "sps",
) -> GradientTransformation:
    """Gradient descent whose step size follows from how far the loss is from its least value.

    p ← p − scaling·min((f − f_min) / (‖g‖² + eps), max_learning_rate)·g, as in `scale_by_polyak`.

    It needs the loss: ``tx.update(grads, state, params, value=loss)``.

    Args:
        max_learning_rate, f_min, eps, variant: as in `scale_by_polyak`.
        scaling: factor of the gradients before the step size is found; it may be a schedule.

    Source: Loizou et al., Stochastic Polyak step-size for SGD, arXiv:2002.10542.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.polyak_sgd(), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params, value=1.0)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.8 0.4
    """
    return chain(sgd(scaling), scale_by_polyak(f_min, max_learning_rate, eps, variant))

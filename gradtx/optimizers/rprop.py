"""Rprop."""

from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.scaling import scale
from gradtx.transforms.sign import scale_by_rprop
from gradtx.values.domains import AtLeastOne, Fraction, NonNegative, Positive


@recipe
def rprop(
    learning_rate: Positive,
    eta_minus: Fraction = 0.5,
    eta_plus: AtLeastOne = 1.2,
    min_step_size: NonNegative = 1e-6,
    max_step_size: NonNegative = 50.0,
) -> GradientTransformation:
    """Rprop: each coordinate has its own step size, which grows until its gradient turns.

    p ← p − s·sign(g), with step sizes s that grow by eta_plus and shrink by eta_minus, as in
    `scale_by_rprop`.

    For full batches, not for noisy gradients.

    Args:
        learning_rate: the first step size, above 0.
        eta_minus, eta_plus, min_step_size, max_step_size: as in `scale_by_rprop`.

    Source: Riedmiller and Braun, A direct adaptive method for faster backpropagation learning, 1993.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.rprop(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    sizes = scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size)
    return chain(sizes, scale(-1.0))

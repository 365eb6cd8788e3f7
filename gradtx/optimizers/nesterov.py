"""Adan: adaptive steps with a look-ahead of their own."""

from gradtx.arrays.types import Selector
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.differences import scale_by_adan
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.domains import Decay, NonNegative, Number


@recipe
def adan(
    learning_rate: Number,
    b1: Decay = 0.98,
    b2: Decay = 0.92,
    b3: Decay = 0.99,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 1e-8,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """Adan: Nesterov's look-ahead in adaptive steps, from gradients and what they have changed by.

    p ← p − learning_rate·((m̂ + b2·v̂) / (√(n̂ + eps_root) + eps) + weight_decay·p), where v is the mean of
    g − g₋₁ and n that of |g + b2·(g − g₋₁)|², as in `scale_by_adan`.

    Args:
        learning_rate: the step size.
        b1, b2, b3, eps, eps_root: as in `scale_by_adan`.
        weight_decay: strength of the decay, multiplied by the learning rate as in `adamw`; the paper
            divides the params by 1 + learning_rate·weight_decay instead.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Xie et al., Adan: adaptive Nesterov momentum algorithm, arXiv:2208.06677.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.adan(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    return chain(
        scale_by_adan(b1, b2, b3, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

"""Adaptive directions whose divisor does not know the gradient that it divides: ACProp and ADOPT."""

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, debias, decay_towards, real_like, sqrt
from gradtx.arrays.types import Selector
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.adaptive import ScaleByAdamState
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.transforms.variance import ScaleByBeliefState
from gradtx.values.domains import Decay, DType, NonNegative, Number


@leafwise(state=ScaleByBeliefState, elementwise=True, unsigned=("nu",))
def scale_by_acprop(
    b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-16, eps_root: NonNegative = 1e-16
):
    """ACProp's direction: the gradient over how far earlier gradients were from their mean.

    The update is gₜ / (√ŝₜ₋₁ + eps) with ŝₜ₋₁ = sₜ₋₁ / (1 − b2ᵗ⁻¹), and ŝ₀ = 1; then
    sₜ = b2·sₜ₋₁ + (1 − b2)·|gₜ − mₜ₋₁|² + eps_root,  mₜ = b1·mₜ₋₁ + (1 − b1)·gₜ.

    Args:
        b1: decay of the mean, in [0, 1).
        b2: decay of the squared distance, in [0, 1).
        eps: added to the root, at least 0.
        eps_root: added to s at every update, at least 0; above 0 for derivatives through the optimizer.

    Source: Zhuang et al., Momentum centering and asynchronous update for adaptive gradient methods,
    arXiv:2110.05454.
    """

    def init(param):
        return dict(mu=jnp.zeros_like(param), nu=real_like(param))

    def update(grad, mu, nu, step):
        before = debias(nu, b2, jnp.maximum(step - 1, 1))
        direction = grad / (sqrt(jnp.where(step == 1, 1, before)) + eps)
        nu = decay_towards(nu, abs_sq(grad - mu), b2) + eps_root
        return direction, dict(mu=decay_towards(mu, grad, b1), nu=nu)

    return init, update


@recipe
def acprop(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """ACProp: AdaBelief without momentum in the numerator, its divisor one step behind.

    p ← p − learning_rate·(g / (√ŝ + eps) + weight_decay·p), where s is the mean of |g − m|² before this
    gradient, as in `scale_by_acprop`.

    Args:
        learning_rate: the step size.
        b1, b2, eps, eps_root: as in `scale_by_acprop`.
        weight_decay: strength of the decay, which is multiplied by the learning rate.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Zhuang et al., Momentum centering and asynchronous update for adaptive gradient methods,
    arXiv:2110.05454.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.acprop(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.05
    """
    return chain(
        scale_by_acprop(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@leafwise(state=ScaleByAdamState, elementwise=True, unsigned=("nu",))
def scale_by_adopt(
    b1: Decay = 0.9,
    b2: Decay = 0.9999,
    eps: NonNegative = 1e-6,
    mu_dtype: DType = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: NonNegative | None = None,
):
    """ADOPT's direction: the mean of gradients, each divided by the root mean square of those before it.

    cₜ = clip(gₜ / max(√vₜ₋₁, eps), ±clip_value),  mₜ = b1·mₜ₋₁ + (1 − b1)·cₜ,
    vₜ = b2·vₜ₋₁ + (1 − b2)·|gₜ|²; the update is mₜ. The first gradient only sets v₁ = |g₁|², m₁ = 0.

    Args:
        b1: decay of the mean, in [0, 1).
        b2: decay of the mean square, in [0, 1).
        eps: lower bound of the divisor, above 0 where a gradient may be 0.
        mu_dtype: dtype of the mean. Default: the params', at least float32.
        nesterov: whether to look ahead: the update is b1·mₜ + (1 − b1)·cₜ.
        use_clipping: whether to clip, which is defined for real tensors.
        clip_value_fn: the bound, a function of the count of updates so far. Default: count^¼.

    Source: Taniguchi et al., ADOPT: modified Adam can converge with any β2 with the optimal rate,
    arXiv:2411.02853.
    """

    def init(param):
        return dict(mu=jnp.zeros_like(param, dtype=mu_dtype), nu=real_like(param))

    def update(grad, mu, nu, step):
        first = step == 1
        scaled = grad / jnp.maximum(sqrt(nu), eps)
        if use_clipping:
            count = (step - 1).astype(grad.dtype)
            bound = sqrt(sqrt(count)) if clip_value_fn is None else clip_value_fn
            scaled = jnp.clip(scaled, -bound, bound)
        mu = jnp.where(first, mu, decay_towards(mu, scaled, b1))
        ahead = jnp.where(first, mu, decay_towards(mu, scaled, b1)) if nesterov else mu
        nu = jnp.where(first, abs_sq(grad), decay_towards(nu, abs_sq(grad), b2))
        return ahead, dict(mu=mu, nu=nu)

    return init, update


@recipe
def adopt(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.9999,
    eps: NonNegative = 1e-6,
    mu_dtype: DType = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: NonNegative | None = None,
) -> GradientTransformation:
    """ADOPT: Adam that converges for every b2, because its divisor is one step behind.

    p ← p − learning_rate·m, where m is the mean of g / max(√v, eps), with v from before g, as in
    `scale_by_adopt`.

    Args:
        learning_rate: the step size.
        b1, b2, eps, mu_dtype, nesterov, use_clipping, clip_value_fn: as in `scale_by_adopt`.

    Source: Taniguchi et al., ADOPT: modified Adam can converge with any β2 with the optimal rate,
    arXiv:2411.02853.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.adopt(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0 -0
    """
    direction = scale_by_adopt(
        b1, b2, eps, mu_dtype, nesterov=nesterov, use_clipping=use_clipping, clip_value_fn=clip_value_fn
    )
    return chain(direction, scale_by_learning_rate(learning_rate))

"""AdaBelief, RAdam and Yogi: Adam with more care for its second moment."""

from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.rectified import Threshold, scale_by_radam
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.transforms.variance import scale_by_belief, scale_by_yogi
from gradtx.values.domains import Decay, NonNegative, Number


@recipe
def adabelief(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """AdaBelief: large steps where gradients are as expected, small ones where they are not.

    p ← p − learning_rate·m̂ / (√ŝ + eps), where s is the mean of |g − m|², as in `scale_by_belief`.

    Args:
        learning_rate: the step size.
        b1, b2, eps, eps_root, nesterov: as in `scale_by_belief`.

    Source: Zhuang et al., AdaBelief optimizer, arXiv:2010.07468.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.adabelief(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.111 0.111
    """
    direction = scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov)
    return chain(direction, scale_by_learning_rate(learning_rate))


@recipe
def radam(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    threshold: Threshold = 5.0,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """RAdam: Adam that takes steps of momentum until it knows the variance of its divisor.

    p ← p − learning_rate·r·m̂ / (√(v̂ + eps_root) + eps) once r is known, and p − learning_rate·m̂ until
    then, as in `scale_by_radam`.

    Args:
        learning_rate: the step size.
        b1, b2, eps, eps_root, threshold, nesterov: as in `scale_by_radam`.

    Source: Liu et al., On the variance of the adaptive learning rate and beyond, arXiv:1908.03265.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.radam(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.05
    """
    direction = scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov)
    return chain(direction, scale_by_learning_rate(learning_rate))


@recipe
def yogi(
    learning_rate: Number, b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-3
) -> GradientTransformation:
    """Yogi: Adam whose second moment grows and shrinks by no more than the gradient's square.

    p ← p − learning_rate·m̂ / (√v̂ + eps) with v ← v − (1 − b2)·sign(v − |g|²)·|g|², as in `scale_by_yogi`.

    Args:
        learning_rate: the step size.
        b1, b2, eps: as in `scale_by_yogi`.

    Source: Zaheer et al., Adaptive methods for nonconvex optimization, NeurIPS 2018.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.yogi(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.0999 0.0996
    """
    return chain(scale_by_yogi(b1, b2, eps), scale_by_learning_rate(learning_rate))

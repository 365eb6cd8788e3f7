"""Adagrad, Adadelta, RMSProp, LaProp, Amos and AdaHessian: steps divided by how large gradients have been."""

from gradtx.arrays.types import Selector
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.adaptive import (
    scale_by_adadelta,
    scale_by_laprop,
    scale_by_rms,
    scale_by_rss,
    scale_by_stddev,
)
from gradtx.transforms.blocks import scale_by_amos
from gradtx.transforms.clipping import clip
from gradtx.transforms.curvature import scale_by_adahessian
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.momentum import ema, trace
from gradtx.transforms.scaling import identity, scale_by_learning_rate
from gradtx.values.domains import Decay, NonNegative, Number, Positive


@recipe
def adagrad(
    learning_rate: Number, initial_accumulator_value: NonNegative = 0.1, eps: NonNegative = 1e-7
) -> GradientTransformation:
    """Adagrad: steps divided by the root of the sum of all squared gradients.

    p ← p − learning_rate·g / √(s + eps), where s is the sum of all |g|², as in `scale_by_rss`.

    Args:
        learning_rate: the step size.
        initial_accumulator_value, eps: as in `scale_by_rss`.

    Source: Duchi et al., Adaptive subgradient methods, JMLR 12, 2011.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.adagrad(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.0953 0.0845
    """
    return chain(scale_by_rss(initial_accumulator_value, eps), scale_by_learning_rate(learning_rate))


@recipe
def adadelta(
    learning_rate: Number | None = None,
    rho: Decay = 0.9,
    eps: NonNegative = 1e-6,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector | None = None,
) -> GradientTransformation:
    """AdaDelta: gradients over their root mean square, times that of past updates.

    p ← p − learning_rate·√(s + eps) / √(v + eps)·(g + weight_decay·p), where v and s are the means of
    squares of that sum and of steps, as in `scale_by_adadelta`.

    Args:
        learning_rate: the step size, 1 in the paper. Default: none, and then the updates point uphill, as
            those of Optax do.
        rho, eps: as in `scale_by_adadelta`.
        weight_decay: strength of the decay, added to the gradient.
        weight_decay_mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Zeiler, ADADELTA, arXiv:1212.5701.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.adadelta(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.000316 0.000316
    """
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_adadelta(rho, eps),
        scale_by_learning_rate(learning_rate),
    )


@recipe
def rmsprop(
    learning_rate: Number,
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: NonNegative = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Number | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> GradientTransformation:
    """RMSProp: steps divided by the root of the moving mean of squared gradients.

    p ← p − learning_rate·g / √(v + eps), where v is the mean of |g|², as in `scale_by_rms`; centred, its
    variance, as in `scale_by_stddev`. With momentum, b ← momentum·b + learning_rate·g / √(v + eps) and p ←
    p − b.

    Args:
        learning_rate: the step size; it is applied before the momentum.
        decay, eps, initial_scale, eps_in_sqrt, bias_correction: as in `scale_by_rms`.
        centered: whether to divide by the standard deviation instead, as in `scale_by_stddev`.
        momentum: decay of a momentum on the steps. Default: none.
        nesterov: whether that momentum looks ahead.

    Source: Tieleman and Hinton, lecture 6.5, 2012; centred: Graves, arXiv:1308.0850.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.rmsprop(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.316 0.316
    """
    scale_by = scale_by_stddev if centered else scale_by_rms
    return chain(
        scale_by(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
        identity() if momentum is None else trace(momentum, nesterov),
    )


@recipe
def laprop(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-15,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """LaProp: momentum of gradients that are divided first, so that no choice of betas makes steps explode.

    p ← p − learning_rate·(m̂ + weight_decay·p), where m is the mean of g / (√v̂ + eps), as in
    `scale_by_laprop`.

    Args:
        learning_rate: the step size.
        b1, b2, eps: as in `scale_by_laprop`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Ziyin et al., LaProp: separating momentum and adaptivity in Adam, arXiv:2002.04839.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.laprop(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    return chain(
        scale_by_laprop(b1, b2, eps),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@recipe
def amos(
    learning_rate: NonNegative,
    eta: Selector = 1.0,
    blocks: Selector | None = None,
    beta: Decay = 0.999,
    zeta: NonNegative = 0.25,
    momentum: Decay | None = None,
    clip_value: NonNegative | None = None,
) -> GradientTransformation:
    """Amos: steps and weight decay that fade by themselves, towards a scale that is known of each param.

    p ← p − d·(ξ·eta·g / √v̂ + γ/2·p) with ξ = learning_rate, and with d and γ that fall as in
    `scale_by_amos`.

    Args:
        learning_rate, eta, blocks, beta, zeta: as in `scale_by_amos`.
        momentum: decay of an average of the updates. Default: none, and no state for it.
        clip_value: the largest magnitude of a gradient. Default: no bound.

    Source: Tian and Parikh, Amos: an Adam-style optimizer with adaptive weight decay towards model-oriented
    scale, arXiv:2210.11693.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.amos(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.131 0.0582
    """
    stages = [scale_by_amos(learning_rate, eta, blocks, beta, zeta)]
    if clip_value is not None:
        stages.insert(0, clip(clip_value))
    if momentum is not None:
        stages.append(ema(momentum, debias=False))
    return chain(*stages)


@recipe
def adahessian(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-4,
    hessian_power: Positive = 1.0,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
    *,
    spatial_average: bool = True,
) -> GradientTransformation:
    """AdaHessian: Adam that divides by the Hessian's diagonal, which it is told.

    p ← p − learning_rate·(m̂ / (v̂^(hessian_power/2) + eps) + weight_decay·p), where v is the mean of
    squares of the Hessian's diagonal, as in `scale_by_adahessian`.

    ``tx.update(grads, state, params, hessian=hutchinson_diagonal(loss, params, key))``.

    Args:
        learning_rate: the step size; the authors take 0.15 where Adam has 1e-3.
        b1, b2, eps, hessian_power, spatial_average: as in `scale_by_adahessian`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Yao et al., AdaHessian: an adaptive second order optimizer for machine learning, arXiv:2006.00719.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.adahessian(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params, hessian={"w": jnp.ones(2)})
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.05
    """
    return chain(
        scale_by_adahessian(b1, b2, eps, hessian_power, spatial_average),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

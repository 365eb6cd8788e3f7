"""MARS, Grams, AdamP, SGDP: familiar optimizers whose gradients or updates are corrected."""

from gradtx.arrays.types import Selector
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.adaptive import scale_by_adam
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.differences import reduce_variance
from gradtx.transforms.momentum import trace
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.domains import Decay, NonNegative, Number, Static
from gradtx.wrappers.agreement import with_gradient_signs
from gradtx.wrappers.tangential import Share, tangential


@recipe
def mars(
    learning_rate: Number,
    b1: Decay = 0.95,
    b2: Decay = 0.99,
    eps: NonNegative = 1e-8,
    gamma: Number = 0.025,
    max_norm: NonNegative = 1.0,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
    *,
    exact: bool = False,
) -> GradientTransformation:
    """MARS-AdamW: AdamW on gradients that are corrected by what they have changed by.

    p ← p − learning_rate·(m̂ / (√v̂ + eps) + weight_decay·p), with the moments of `scale_by_adam`, of c = g
    + gamma·b1/(1 − b1)·(g − g₋₁), shortened to max_norm, in the place of g, as in `reduce_variance`.

    The authors train vectors with AdamW instead, with betas of 0.9 and 0.95: `partition` does that.

    Args:
        learning_rate: the step size.
        b1, gamma, max_norm, exact: as in `reduce_variance`; b1 is Adam's too.
        b2, eps: as in `scale_by_adam`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Yuan et al., MARS: unleashing the power of variance reduction for training large models,
    arXiv:2411.10438.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.mars(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    return chain(
        reduce_variance(gamma, b1, max_norm, exact=exact),
        scale_by_adam(b1, b2, eps),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@recipe
def grams(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """Grams: steps of the sizes that Adam gives them, in the direction of the present gradient.

    p ← p − learning_rate·(|u|·sign(g) + weight_decay·p) with u = m̂ / (√v̂ + eps) of `scale_by_adam`.

    Args:
        learning_rate: the step size.
        b1, b2, eps: as in `scale_by_adam`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Cao et al., Grams: gradient descent with adaptive momentum scaling, arXiv:2412.17107. Its
    published code adds eps to the root before that is corrected for its start at 0.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.grams(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    return chain(
        with_gradient_signs(scale_by_adam(b1, b2, eps), uphill=True),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@recipe
def adamp(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    delta: NonNegative = 0.1,
    weight_decay: Number = 0.0,
    wd_ratio: Share = 0.1,
    channel_axis: Static[int] = -1,
) -> GradientTransformation:
    """AdamP: AdamW that leaves the norms of scale-invariant weights alone.

    p ← p − learning_rate·(u − ⟨p̂, u⟩·p̂ + wd_ratio·weight_decay·p) with p̂ = p/‖p‖ for weights that are
    scale-invariant, and p − learning_rate·(u + weight_decay·p) for others; u is of `scale_by_adam`, and
    `tangential` tells them apart.

    Args:
        learning_rate: the step size.
        b1, b2, eps: as in `scale_by_adam`.
        delta, weight_decay, wd_ratio, channel_axis: as in `tangential`.

    Source: Heo et al., AdamP, arXiv:2006.08217.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.adamp(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    direction = tangential(scale_by_adam(b1, b2, eps), delta, weight_decay, wd_ratio, eps, channel_axis)
    return chain(direction, scale_by_learning_rate(learning_rate))


@recipe
def sgdp(
    learning_rate: Number,
    momentum: Number = 0.9,
    nesterov: bool = False,
    eps: NonNegative = 1e-8,
    delta: NonNegative = 0.1,
    weight_decay: Number = 0.0,
    wd_ratio: Share = 0.1,
    channel_axis: Static[int] = -1,
) -> GradientTransformation:
    """SGDP: momentum that leaves the norms of scale-invariant weights alone.

    As `adamp`, with u = b of `trace`, b ← momentum·b + g, in the place of Adam's direction.

    Args:
        learning_rate: the step size.
        momentum, nesterov: as `decay` and `nesterov` in `trace`.
        eps, delta, weight_decay, wd_ratio, channel_axis: as in `tangential`. The authors' weight decay is
            divided by 1 − momentum, which is left to you.

    Source: Heo et al., AdamP, arXiv:2006.08217. Without Nesterov's look-ahead, its published code also takes
    the radial part out of the momentum that it keeps, which the paper does not.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.sgdp(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.05
    """
    direction = tangential(trace(momentum, nesterov), delta, weight_decay, wd_ratio, eps, channel_axis)
    return chain(direction, scale_by_learning_rate(learning_rate))

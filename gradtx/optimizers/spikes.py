"""StableAdamW, SPAM, Stable-SPAM: Adam for gradients with spikes."""

from gradtx.arrays.types import Selector
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.adaptive import scale_by_adam
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.transforms.spikes import clip_spikes, scale_by_spam, scale_by_stable_adam, scale_to_usual_norm
from gradtx.values.domains import AtLeastOne, Decay, NonNegative, Number, Positive
from gradtx.wrappers.restarting import restarting


@recipe
def stable_adamw(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.99,
    eps: NonNegative = 1e-8,
    weight_decay: Number = 1e-2,
) -> GradientTransformation:
    """StableAdamW: AdamW whose steps are shorter where gradients are larger than it has learnt to expect.

    p ← p − learning_rate·(m̂ / (√v̂ + eps) + weight_decay·p) / max(1, RMS) with RMS = √mean(|g|² / v̂), as
    in `scale_by_stable_adam`.

    Args:
        learning_rate: the step size.
        b1, b2, eps, weight_decay: as in `scale_by_stable_adam`.

    Source: Wortsman et al., Stable and low-precision training for large-scale vision-language models,
    arXiv:2304.13013.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.stable_adamw(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.101 0.099
    """
    return chain(scale_by_stable_adam(b1, b2, eps, weight_decay), scale_by_learning_rate(learning_rate))


@recipe
def spam(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    threshold: Positive = 5000.0,
    period: AtLeastOne = 500,
    warmup: NonNegative = 150,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """SPAM: AdamW with spikes clipped, and moments that are forgotten from time to time.

    p ← p − learning_rate·(√(1 − b2ᵗ)/(1 − b1ᵗ)·m / (√v + eps) + weight_decay·p), with moments of clipped
    gradients that begin anew, as in `scale_by_spam`.

    Args:
        learning_rate: the step size.
        b1, b2, eps, threshold, period, warmup: as in `scale_by_spam`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Huang et al., SPAM, arXiv:2501.06842.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.spam(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    return chain(
        scale_by_spam(b1, b2, eps, threshold, period, warmup),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@recipe
def stable_spam(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    gamma1: Decay = 0.7,
    gamma2: Decay = 0.9,
    theta: Decay = 0.999,
    period: AtLeastOne = 1000,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """Stable-SPAM: AdamW on gradients without spikes and of steady norms, begun anew from time to time.

    p ← p − learning_rate·(m̂ / (√v̂ + eps) + weight_decay·p), with the moments of `scale_by_adam`, begun
    anew by `restarting`, of gradients that `clip_spikes` and `scale_to_usual_norm` have tamed.

    Args:
        learning_rate: the step size.
        b1, b2, eps: as in `scale_by_adam`.
        gamma1, gamma2: the decays of `scale_to_usual_norm`.
        theta: the decay of `clip_spikes`.
        period: as in `restarting`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Huang et al., Stable-SPAM, arXiv:2502.17055. Its published code, when it begins anew, debiases
    the averages of sizes as if they had begun anew too; here they are debiased by what they hold.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.stable_spam(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    return chain(
        clip_spikes(theta),
        scale_to_usual_norm(gamma1, gamma2, eps),
        restarting(scale_by_adam(b1, b2, eps), period),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

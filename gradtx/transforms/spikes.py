"""Spikes: gradients brought down to the size of those before them."""

from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import (
    abs_sq,
    debias,
    decay_towards,
    largest,
    norm,
    one_minus_power,
    quotient,
    real_dtype,
    real_like,
    rms,
    sqrt,
)
from gradtx.arrays.types import Array, Params
from gradtx.core.leafwise import leafwise
from gradtx.transforms.adaptive import ScaleByAdamState
from gradtx.values.domains import AtLeastOne, Decay, NonNegative, Number, Positive


class ClipSpikesState(NamedTuple):
    """count: int32 scalar, updates so far; largest: a tree of scalars, the mean of largest magnitudes."""

    count: Array
    largest: Params


@leafwise(state=ClipSpikesState, unsigned=("largest",))
def clip_spikes(decay: Decay = 0.999):
    """Bring the numbers of a gradient that are spikes down to the usual size of its largest.

    With xₜ = max |gₜ| over a tensor and its debiased moving average x̂ₜ, the update is gₜ where |gₜ| ≤ x̂ₜ,
    and gₜ·x̂ₜ / xₜ elsewhere.

    Args:
        decay: decay of the average, in [0, 1).

    Source: Huang et al., Stable-SPAM: how to train in 4-bit more stably than 16-bit Adam, arXiv:2502.17055.
    """

    def init(param):
        return dict(largest=jnp.zeros([], real_dtype(param)))

    def update(grad, largest, step):
        most = _largest(grad)
        largest = decay_towards(largest, most, decay)
        usual = debias(largest, decay, step)
        # So that a NaN, with which no comparison holds, shows everywhere.
        return jnp.where(jnp.abs(grad) <= usual, grad, quotient(grad * usual, most)), dict(largest=largest)

    return init, update


_largest = largest


class ScaleToUsualNormState(NamedTuple):
    """count: int32 scalar, updates so far; mu, nu: trees of scalars, the means of norms and of their
    squares."""

    count: Array
    mu: Params
    nu: Params


@leafwise(state=ScaleToUsualNormState, unsigned=("mu", "nu"))
def scale_to_usual_norm(b1: Decay = 0.7, b2: Decay = 0.9, eps: NonNegative = 1e-8):
    """Give each tensor's gradient a norm that follows from the norms so far, and is about 1.

    With the moving averages m̂ of ‖g‖ and v̂ of ‖g‖², both debiased, the update is g / ‖g‖·m̂ / (√v̂ + eps),
    and 0 for a gradient of 0.

    Args:
        b1: decay of the mean of norms, in [0, 1).
        b2: decay of the mean of their squares, in [0, 1).
        eps: added to the root, at least 0.

    Source: Huang et al., Stable-SPAM: how to train in 4-bit more stably than 16-bit Adam, arXiv:2502.17055.
    """

    def init(param):
        return dict(mu=jnp.zeros([], real_dtype(param)), nu=jnp.zeros([], real_dtype(param)))

    def update(grad, mu, nu, step):
        size = norm(grad)
        mu, nu = decay_towards(mu, size, b1), decay_towards(nu, size**2, b2)
        target = debias(mu, b1, step) / (sqrt(debias(nu, b2, step)) + eps)
        return grad * quotient(target, size), dict(mu=mu, nu=nu)

    return init, update


@leafwise(state=ScaleByAdamState, elementwise=True, unsigned=("nu",))
def scale_by_spam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    threshold: Positive = 5000.0,
    period: AtLeastOne = 500,
    warmup: NonNegative = 150,
    patience: NonNegative = 20,
):
    """SPAM's direction: Adam's, with spikes clipped, and moments that are forgotten from time to time.

    Where |gₜ|² > threshold·vₜ₋₁ the gradient becomes sign(gₜ)·√(threshold·vₜ₋₁). At every update whose number
    is a multiple of the period both moments begin at 0 again, without a correction of that start; from then
    on nothing is clipped for as many updates as `patience` says, as at the very start, and with s updates
    since then the direction is multiplied by 1 − 0.99·(1 + cos(π·s/(warmup + 1)))/2 while s < warmup.
    The direction is mₜ / (1 − b1ᵗ)·√(1 − b2ᵗ) / (√vₜ + eps).

    Args:
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        eps: added to the root before it is corrected for its start at 0, at least 0.
        threshold: how many times its mean a square may be, above 0.
        period: how many updates lie between two fresh starts, at least 1.
        warmup: the length of the warm-up after one, at least 0.
        patience: how many updates the second moment has to form.

    Source: Huang et al., SPAM: spike-aware Adam with momentum reset for stable LLM training,
    arXiv:2501.06842, with the warm-up of its published code.
    """

    def init(param):
        return dict(mu=jnp.zeros_like(param), nu=real_like(param))

    def update(grad, mu, nu, step):
        since = step % period
        mu, nu = jnp.where(since == 0, 0, mu), jnp.where(since == 0, 0, nu)
        within = (abs_sq(grad) <= threshold * nu) | (since < patience)
        grad = jnp.where(within, grad, jnp.sign(grad) * sqrt(threshold * nu))
        mu = decay_towards(mu, grad, b1)
        nu = decay_towards(nu, abs_sq(grad), b2)
        share = since.astype(nu.dtype) / (warmup + 1)
        rising = 1 - 0.99 * (1 + jnp.cos(jnp.pi * share)) / 2
        rate = jnp.where((since < warmup) & (step >= period), rising, 1)
        corrected = debias(mu, b1, step) * sqrt(one_minus_power(b2, step.astype(nu.dtype)))
        return rate * corrected / (sqrt(nu) + eps), dict(mu=mu, nu=nu)

    return init, update


@leafwise(state=ScaleByAdamState, unsigned=("nu",))
def scale_by_stable_adam(
    b1: Decay = 0.9, b2: Decay = 0.99, eps: NonNegative = 1e-8, weight_decay: Number = 0.0
):
    """StableAdamW's direction: Adam's, shorter where gradients are larger than their mean square knows.

    With m̂ₜ and v̂ₜ as in `scale_by_adam` and RMSₜ = √(mean(|gₜ|² / max(v̂ₜ, eps²))) over a tensor, the update
    is (m̂ₜ / (√v̂ₜ + eps) + weight_decay·pₜ) / max(1, RMSₜ). `clip_by_block_rms` bounds any direction by the
    root mean square of the direction itself.

    Args:
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        eps: added to the root, at least 0.
        weight_decay: strength of the decoupled decay, which is shortened too; other numbers for some of the
            params by `groups`.

    Source: Wortsman et al., Stable and low-precision training for large-scale vision-language models,
    arXiv:2304.13013, algorithm 2.
    """

    def init(param):
        return dict(mu=jnp.zeros_like(param), nu=real_like(param))

    def update(grad, param, mu, nu, step):
        mu = decay_towards(mu, grad, b1)
        nu = decay_towards(nu, abs_sq(grad), b2)
        root = sqrt(debias(nu, b2, step))
        size = rms(quotient(grad, jnp.maximum(root, eps)))
        direction = debias(mu, b1, step) / (root + eps) + weight_decay * param
        return direction / jnp.maximum(1, size), dict(mu=mu, nu=nu)

    return init, update

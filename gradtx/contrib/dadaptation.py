"""D-Adaptation: AdamW that estimates its learning rate from the distance to the solution."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, decay_towards, one_minus_power, quotient, safe_increment, sqrt
from gradtx.arrays.trees import advanced, inner_product, mapped, scalar_dtype, total, widened, zeros
from gradtx.arrays.types import Array, Params, Scalar
from gradtx.core.treewise import treewise
from gradtx.values.domains import Decay, Interval, NonNegative, Number, Positive
from gradtx.values.parts import is_number


def _check_betas(name: str, betas: Any) -> None:
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise TypeError(f"{name}: betas must be two numbers, got {betas!r}")
    for beta in betas:
        if is_number(beta) and not (domain := Interval("[0, 1)")).holds(beta):
            raise ValueError(f"{name}: {domain.error('betas', beta)}")


def _corrected(learning_rate: Scalar, betas: Any, count: Array, dtype: Any) -> Any:
    """The learning rate times the bias corrections of both moments."""
    b1, b2 = betas
    step = safe_increment(count).astype(dtype)
    return learning_rate * sqrt(one_minus_power(b2, step)) / one_minus_power(b1, step)


def _at_least(old: Array, numerator: Any, denominator: Any) -> Array:
    """The larger of an estimate and numerator / denominator, which counts only for a denominator above 0."""
    return jnp.maximum(old, quotient(numerator, denominator))


class ProdigyState(NamedTuple):
    """exp_avg, exp_avg_sq, grad_sum, params0: trees like the params, the moments, the sum of gradients, which
    decays, and the first params; estim_lr, numerator_weighted: scalars, the estimate of the learning rate and
    its numerator; count: int32 scalar, updates so far."""

    exp_avg: Params
    exp_avg_sq: Params
    grad_sum: Params
    params0: Params
    estim_lr: Array
    numerator_weighted: Array
    count: Array


@treewise(state=ProdigyState, others="refused", on_shards=True)
def prodigy(
    learning_rate: Number = 1.0,
    betas: tuple[Any, Any] = (0.9, 0.999),
    beta3: Decay | None = None,
    eps: NonNegative = 1e-8,
    estim_lr0: Positive = 1e-6,
    estim_lr_coef: Positive = 1.0,
    weight_decay: Number = 0.0,
    safeguard_warmup: bool = False,
    *,
    bias_correction: bool = True,
):
    """Prodigy: AdamW that finds its learning rate, faster than D-Adaptation does.

    With γₜ = dₜ·learning_rate·√(1 − b2ᵗ) / (1 − b1ᵗ), where dₜ is the estimate, and d₀ = estim_lr0:
    m = b1·m + (1 − b1)·dₜ·gₜ,  v = b2·v + (1 − b2)·|dₜ·gₜ|²,
    r = b3·r + γₜ·dₜ/d₀·⟨gₜ, x₀ − xₜ⟩,  s = b3·s + γₜ·dₜ/d₀·gₜ,  dₜ₊₁ = max(dₜ, coef·r / ‖s‖₁);
    the update is −γₜ·(m / (√v + dₜ₊₁·eps) + weight_decay·xₜ).

    Args:
        learning_rate: a factor of the estimate: a schedule that begins near 1, and may decay to 0.
        betas: decays of the two moments, each in [0, 1).
        beta3: decay of r and s, in [0, 1). Default: the root of the second beta.
        eps: added to the root, times the estimate.
        estim_lr0: the first estimate, which should be too small.
        estim_lr_coef: a factor of new estimates.
        weight_decay: strength of the decoupled weight decay.
        safeguard_warmup: whether to leave the learning rate out of s, for schedules that warm up.
        bias_correction: whether γₜ has √(1 − b2ᵗ) / (1 − b1ᵗ) in it, as in Optax; without, γₜ is
            dₜ·learning_rate, as in the authors' package unless one asks for it (`use_bias_correction`).

    Source: Mishchenko and Defazio, Prodigy, arXiv:2306.06101.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.prodigy(), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -1e-06 1e-06
    """
    _check_betas("contrib.prodigy", betas)
    b1, b2 = betas
    b3 = b2**0.5 if beta3 is None else beta3

    def init(params):
        dtype = scalar_dtype("contrib.prodigy", params)
        return ProdigyState(
            exp_avg=zeros(params),
            exp_avg_sq=zeros(params, real=True),
            grad_sum=zeros(params),
            params0=widened(params),
            estim_lr=jnp.asarray(estim_lr0, dtype),
            numerator_weighted=jnp.zeros([], dtype),
            count=jnp.zeros([], jnp.int32),
        )

    def update(updates, state, params):
        d = state.estim_lr
        rate = d * (
            _corrected(learning_rate, betas, state.count, d.dtype) if bias_correction else learning_rate
        )
        mu = advanced(lambda g, m: decay_towards(m, d * g, b1), updates, state.exp_avg)
        nu = advanced(lambda g, v: decay_towards(v, abs_sq(d * g), b2), updates, state.exp_avg_sq)
        weight = (d if safeguard_warmup else rate) * d / estim_lr0
        s = advanced(lambda g, s: b3 * s + weight * g, updates, state.grad_sum)
        gain = total(lambda g, x0, x: inner_product(g, x0 - x), updates, state.params0, params)
        r = b3 * state.numerator_weighted + rate * d / estim_lr0 * gain
        d = _at_least(d, estim_lr_coef * r, total(lambda _, s: jnp.sum(jnp.abs(s)), updates, s))
        steps = mapped(
            lambda _, m, v, x: -rate * (m / (sqrt(v) + d * eps) + weight_decay * x), updates, mu, nu, params
        )
        return steps, ProdigyState(mu, nu, s, state.params0, d, r, safe_increment(state.count))

    return init, update


class DAdaptAdamWState(NamedTuple):
    """exp_avg, exp_avg_sq, grad_sum: trees like the params, the moments and the mean of gradients; estim_lr,
    numerator_weighted: scalars, the estimate of the learning rate and its numerator; count: int32 scalar,
    updates so far."""

    exp_avg: Params
    exp_avg_sq: Params
    grad_sum: Params
    estim_lr: Array
    numerator_weighted: Array
    count: Array


@treewise(state=DAdaptAdamWState, others="refused", on_shards=True)
def dadapt_adamw(
    learning_rate: Number = 1.0,
    betas: tuple[Any, Any] = (0.9, 0.999),
    eps: Positive = 1e-8,
    estim_lr0: Positive = 1e-6,
    weight_decay: Number = 0.0,
):
    """D-Adapted AdamW: it estimates the distance to the solution, and with it the learning rate.

    With γₜ = dₜ·learning_rate·√(1 − b2ᵗ) / (1 − b1ᵗ), where dₜ is the estimate, and b3 = √b2:
    r = b3·r + (1 − b3)·γₜ·⟨gₜ, s / (√v + eps)⟩, from s and v before this gradient; then
    m = b1·m + (1 − b1)·γₜ·gₜ,  v = b2·v + (1 − b2)·|gₜ|²,  s = b3·s + (1 − b3)·γₜ·gₜ,
    dₜ₊₁ = max(dₜ, r / ((1 − b3)·‖s‖₁)); the update is −m / (√v + eps) − γₜ·weight_decay·xₜ.

    Args:
        learning_rate: a factor of the estimate: a schedule that begins near 1, and may decay to 0.
        betas: decays of the two moments, each in [0, 1).
        eps: added to the root, above 0.
        estim_lr0: the first estimate, which should be too small.
        weight_decay: strength of the decoupled weight decay.

    Source: Defazio and Mishchenko, Learning-rate-free learning by D-Adaptation, arXiv:2301.07733.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.dadapt_adamw(), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -1e-06 1e-06
    """
    _check_betas("contrib.dadapt_adamw", betas)
    b1, b2 = betas
    b3 = b2**0.5

    def init(params):
        dtype = scalar_dtype("contrib.dadapt_adamw", params)
        return DAdaptAdamWState(
            exp_avg=zeros(params),
            exp_avg_sq=zeros(params, real=True),
            grad_sum=zeros(params),
            estim_lr=jnp.asarray(estim_lr0, dtype),
            numerator_weighted=jnp.zeros([], dtype),
            count=jnp.zeros([], jnp.int32),
        )

    def update(updates, state, params):
        d, s, nu = state.estim_lr, state.grad_sum, state.exp_avg_sq
        rate = d * _corrected(learning_rate, betas, state.count, d.dtype)
        gain = total(lambda g, s, v: inner_product(g, s / (sqrt(v) + eps)), updates, s, nu)
        r = decay_towards(state.numerator_weighted, rate * gain, b3)
        mu = advanced(lambda g, m: decay_towards(m, rate * g, b1), updates, state.exp_avg)
        nu = advanced(lambda g, v: decay_towards(v, abs_sq(g), b2), updates, nu)
        s = advanced(lambda g, s: decay_towards(s, rate * g, b3), updates, s)
        d = _at_least(d, r, (1 - b3) * total(lambda _, s: jnp.sum(jnp.abs(s)), updates, s))
        steps = mapped(
            lambda _, m, v, x: -m / (sqrt(v) + eps) - weight_decay * rate * x, updates, mu, nu, params
        )
        return steps, DAdaptAdamWState(mu, nu, s, d, r, safe_increment(state.count))

    return init, update

"""Adaptive scaling: each number of an update divided by how large it has been."""

from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, debias, decay_towards, quotient, real_like, safe_increment, sqrt
from gradtx.arrays.types import Array, Params, Scalar
from gradtx.core.leafwise import leafwise
from gradtx.values.domains import Decay, DType, NonNegative


class ScaleByAdamState(NamedTuple):
    """count: int32 scalar, updates so far; mu, nu: trees like the params, first and second moment."""

    count: Array
    mu: Params
    nu: Params


def debiased_mean(mu: Array, grad: Array, decay: Scalar, step: Array, nesterov: bool = False) -> Array:
    """m̂ of `scale_by_adam`: the debiased mean, with Nesterov's look-ahead if it is asked for."""
    if not nesterov:
        return debias(mu, decay, step)
    return decay * debias(mu, decay, safe_increment(step)) + (1 - decay) * debias(grad, decay, step)


@leafwise(state=ScaleByAdamState, elementwise=True, unsigned=("nu",))
def scale_by_adam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
    *,
    nesterov: bool = False,
):
    """Adam's direction: the mean of past gradients over the root of their mean square.

    mₜ = b1·mₜ₋₁ + (1 − b1)·gₜ,  vₜ = b2·vₜ₋₁ + (1 − b2)·|gₜ|²,
    m̂ = mₜ / (1 − b1ᵗ),  v̂ = vₜ / (1 − b2ᵗ); the update is m̂ / (√(v̂ + eps_root) + eps).
    With Nesterov's look-ahead, m̂ = b1·mₜ / (1 − b1ᵗ⁺¹) + (1 − b1)·gₜ / (1 − b1ᵗ).

    Args:
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        eps: added to the root, at least 0.
        eps_root: added inside the root, at least 0; for derivatives through the optimizer.
        mu_dtype: dtype of the first moment. Default: the params', at least float32.
        nesterov: whether to look ahead.

    Source: Kingma and Ba, Adam, arXiv:1412.6980; Dozat, Incorporating Nesterov momentum into Adam, 2016.
    """

    def init(param):
        return dict(mu=jnp.zeros_like(param, dtype=mu_dtype), nu=real_like(param))

    def update(grad, mu, nu, step):
        mu = decay_towards(mu, grad, b1)
        nu = decay_towards(nu, abs_sq(grad), b2)
        mu_hat = debiased_mean(mu, grad, b1, step, nesterov)
        nu_hat = debias(nu, b2, step)
        return mu_hat / (sqrt(nu_hat + eps_root) + eps), dict(mu=mu, nu=nu)

    return init, update


class ScaleByAmsgradState(NamedTuple):
    """count: int32 scalar, updates so far; mu, nu, nu_max: trees like the params, first and second
    moment and the largest second moment seen."""

    count: Array
    mu: Params
    nu: Params
    nu_max: Params


@leafwise(state=ScaleByAmsgradState, elementwise=True, unsigned=("nu", "nu_max"))
def scale_by_amsgrad(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
):
    """AMSGrad's direction: Adam's, with a second moment that never shrinks.

    m̂ and v̂ as in `scale_by_adam`, v_max = max(v_max, v̂); the update is m̂ / (√(v_max + eps_root) + eps).

    Args:
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        eps: added to the root, at least 0.
        eps_root: added inside the root, at least 0.
        mu_dtype: dtype of the first moment. Default: the params', at least float32.
        bias_correction_mu: whether to divide m by 1 − b1ᵗ.
        bias_correction_nu: whether to divide v by 1 − b2ᵗ before the maximum is taken.

    Source: Reddi et al., On the convergence of Adam and beyond, arXiv:1904.09237.
    """

    def init(param):
        nu = real_like(param)
        return dict(mu=jnp.zeros_like(param, dtype=mu_dtype), nu=nu, nu_max=jnp.zeros_like(nu))

    def update(grad, mu, nu, nu_max, step):
        mu = decay_towards(mu, grad, b1)
        nu = decay_towards(nu, abs_sq(grad), b2)
        mu_hat = debias(mu, b1, step) if bias_correction_mu else mu
        nu_max = jnp.maximum(nu_max, debias(nu, b2, step) if bias_correction_nu else nu)
        return mu_hat / (sqrt(nu_max + eps_root) + eps), dict(mu=mu, nu=nu, nu_max=nu_max)

    return init, update


@leafwise(state=ScaleByAdamState, elementwise=True, unsigned=("nu",))
def scale_by_adamax(b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-8):
    """Adamax's direction: the mean of past gradients over their largest size, which decays.

    mₜ = b1·mₜ₋₁ + (1 − b1)·gₜ,  uₜ = max(b2·uₜ₋₁, |gₜ| + eps); the update is mₜ / (1 − b1ᵗ) / uₜ.

    Args:
        b1: decay of the mean, in [0, 1).
        b2: decay of the largest size, in [0, 1).
        eps: keeps the divisor above 0.

    Source: Kingma and Ba, Adam, arXiv:1412.6980, section 7.1.
    """

    def init(param):
        return dict(mu=jnp.zeros_like(param), nu=real_like(param))

    def update(grad, mu, nu, step):
        mu = decay_towards(mu, grad, b1)
        nu = jnp.maximum(b2 * nu, jnp.abs(grad) + eps)
        return quotient(debias(mu, b1, step), nu), dict(mu=mu, nu=nu)

    return init, update


@leafwise(state=ScaleByAdamState, elementwise=True, unsigned=("nu",))
def scale_by_laprop(b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-15):
    """LaProp's direction: the mean of past gradients, each of which was divided by its own root mean square.

    vₜ = b2·vₜ₋₁ + (1 − b2)·|gₜ|²,  mₜ = b1·mₜ₋₁ + (1 − b1)·gₜ / (√(vₜ / (1 − b2ᵗ)) + eps);
    the update is mₜ / (1 − b1ᵗ). Adam divides the mean instead, and is unstable where b1² is above b2.

    Args:
        b1: decay of the mean, in [0, 1).
        b2: decay of the mean square, in [0, 1).
        eps: added to the root, at least 0.

    Source: Ziyin et al., LaProp: separating momentum and adaptivity in Adam, arXiv:2002.04839; the learning
    rate comes after the mean, as in the paper. Its published code has it inside, which is the same while the
    rate stays.
    """

    def init(param):
        return dict(mu=jnp.zeros_like(param), nu=real_like(param))

    def update(grad, mu, nu, step):
        nu = decay_towards(nu, abs_sq(grad), b2)
        mu = decay_towards(mu, grad / (sqrt(debias(nu, b2, step)) + eps), b1)
        return debias(mu, b1, step), dict(mu=mu, nu=nu)

    return init, update


class ScaleByAdaDeltaState(NamedTuple):
    """e_g, e_x: trees like the params, the mean squares of gradients and of updates."""

    e_g: Params
    e_x: Params


@leafwise(state=ScaleByAdaDeltaState, elementwise=True, unsigned=("e_g", "e_x"))
def scale_by_adadelta(rho: Decay = 0.9, eps: NonNegative = 1e-6):
    """AdaDelta's direction: gradients over their root mean square, times that of past updates.

    vₜ = rho·vₜ₋₁ + (1 − rho)·|gₜ|²,  dₜ = √(sₜ₋₁ + eps) / √(vₜ + eps) · gₜ,
    sₜ = rho·sₜ₋₁ + (1 − rho)·|dₜ|²; the update is dₜ.

    Args:
        rho: share of the old mean squares that is kept, in [0, 1).
        eps: added inside both roots; it is what the first updates are made of.

    Source: Zeiler, ADADELTA, arXiv:1212.5701.
    """

    def init(param):
        return dict(e_g=real_like(param), e_x=real_like(param))

    def update(grad, e_g, e_x):
        e_g = decay_towards(e_g, abs_sq(grad), rho)
        delta = sqrt(e_x + eps) / sqrt(e_g + eps) * grad
        return delta, dict(e_g=e_g, e_x=decay_towards(e_x, abs_sq(delta), rho))

    return init, update


def divide_by_root(grad: Array, mean_square: Array, eps, eps_in_sqrt: bool) -> Array:
    """grad / √(v + eps), or grad / (√v + eps)."""
    if eps_in_sqrt:
        return grad / sqrt(mean_square + eps)
    return grad / (sqrt(mean_square) + eps)


class ScaleByRmsState(NamedTuple):
    """nu: a tree like the params, the mean of squares."""

    nu: Params


class ScaleByRmsWithCountState(NamedTuple):
    """count: int32 scalar, updates so far; nu: a tree like the params, the mean of squares."""

    count: Array
    nu: Params


@leafwise(state=ScaleByRmsState, counted=ScaleByRmsWithCountState, elementwise=True, unsigned=("nu",))
def scale_by_rms(
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: NonNegative = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
):
    """Divide by the root of the moving mean of squares, as RMSProp does.

    vₜ = decay·vₜ₋₁ + (1 − decay)·|gₜ|²; the update is gₜ / √(vₜ + eps).

    Args:
        decay: share of the old mean that is kept, in [0, 1).
        eps: keeps the divisor above 0.
        initial_scale: the value that v starts from.
        eps_in_sqrt: whether eps is added inside the root; PyTorch adds it outside.
        bias_correction: whether to divide v by 1 − decayᵗ; the state then has a count.

    Source: Tieleman and Hinton, lecture 6.5 of Neural networks for machine learning, 2012.
    """

    def init(param):
        return dict(nu=real_like(param, initial_scale))

    def update(grad, nu):
        nu = decay_towards(nu, abs_sq(grad), decay)
        return divide_by_root(grad, nu, eps, eps_in_sqrt), dict(nu=nu)

    def update_debiased(grad, nu, step):
        nu = decay_towards(nu, abs_sq(grad), decay)
        return divide_by_root(grad, debias(nu, decay, step), eps, eps_in_sqrt), dict(nu=nu)

    return init, update_debiased if bias_correction else update


class ScaleByRStdDevState(NamedTuple):
    """mu, nu: trees like the params, the mean and the mean of squares."""

    mu: Params
    nu: Params


class ScaleByRStdDevWithCountState(NamedTuple):
    """count: int32 scalar, updates so far; mu, nu: trees like the params, mean and mean of squares."""

    count: Array
    mu: Params
    nu: Params


@leafwise(state=ScaleByRStdDevState, counted=ScaleByRStdDevWithCountState, elementwise=True, unsigned=("nu",))
def scale_by_stddev(
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: NonNegative = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
):
    """Divide by the moving standard deviation, as centred RMSProp does.

    mₜ = decay·mₜ₋₁ + (1 − decay)·gₜ,  vₜ = decay·vₜ₋₁ + (1 − decay)·|gₜ|²;
    the update is gₜ / √(vₜ − |mₜ|² + eps). A variance that rounding makes negative counts as 0.

    Args:
        decay: share of the old means that is kept, in [0, 1).
        eps: keeps the divisor above 0.
        initial_scale: the value that v starts from.
        eps_in_sqrt: whether eps is added inside the root; PyTorch adds it outside.
        bias_correction: whether to divide m and v by 1 − decayᵗ; the state then has a count.

    Source: Graves, Generating sequences with recurrent neural networks, arXiv:1308.0850.
    """

    def init(param):
        return dict(mu=jnp.zeros_like(param), nu=real_like(param, initial_scale))

    def moments(grad, mu, nu):
        return dict(mu=decay_towards(mu, grad, decay), nu=decay_towards(nu, abs_sq(grad), decay))

    def divided(grad, mu_hat, nu_hat):
        variance = jnp.maximum(nu_hat - abs_sq(mu_hat), 0)
        return divide_by_root(grad, variance, eps, eps_in_sqrt)

    def update(grad, mu, nu):
        new = moments(grad, mu, nu)
        return divided(grad, new["mu"], new["nu"]), new

    def update_debiased(grad, mu, nu, step):
        new = moments(grad, mu, nu)
        return divided(grad, debias(new["mu"], decay, step), debias(new["nu"], decay, step)), new

    return init, update_debiased if bias_correction else update


def divide_where_seen(grad: Array, squares: Array, eps: Scalar) -> Array:
    """grad / √(s + eps), and 0 where s is 0."""
    return quotient(grad, sqrt(jnp.where(squares == 0, 0, squares + eps)))


class ScaleByRssState(NamedTuple):
    """sum_of_squares: a tree like the params."""

    sum_of_squares: Params


@leafwise(state=ScaleByRssState, elementwise=True, unsigned=("sum_of_squares",))
def scale_by_rss(initial_accumulator_value: NonNegative = 0.1, eps: NonNegative = 1e-7):
    """Divide by the root of the sum of all squares so far, as Adagrad does.

    sₜ = sₜ₋₁ + |gₜ|²; the update is gₜ / √(sₜ + eps), and 0 where sₜ is 0.

    Args:
        initial_accumulator_value: the value that s starts from, at least 0.
        eps: added inside the root, at least 0.

    Source: Duchi et al., Adaptive subgradient methods, JMLR 12, 2011.
    """

    def init(param):
        return dict(sum_of_squares=real_like(param, initial_accumulator_value))

    def update(grad, sum_of_squares):
        sum_of_squares = sum_of_squares + abs_sq(grad)
        return divide_where_seen(grad, sum_of_squares, eps), dict(sum_of_squares=sum_of_squares)

    return init, update

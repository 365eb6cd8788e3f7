"""Adam with another second moment: AdaBelief and Yogi."""

from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, debias, decay_towards, real_like, sqrt
from gradtx.arrays.types import Array, Params
from gradtx.core.leafwise import leafwise
from gradtx.transforms.adaptive import ScaleByAdamState, debiased_mean
from gradtx.values.domains import Decay, NonNegative


class ScaleByBeliefState(NamedTuple):
    """count: int32 scalar, updates so far; mu, nu: trees like the params, the mean of gradients and of
    their squared distances from it."""

    count: Array
    mu: Params
    nu: Params


@leafwise(state=ScaleByBeliefState, elementwise=True, unsigned=("nu",))
def scale_by_belief(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    *,
    nesterov: bool = False,
):
    """AdaBelief's direction: the mean of past gradients over how far gradients are from it.

    mₜ = b1·mₜ₋₁ + (1 − b1)·gₜ,  sₜ = b2·sₜ₋₁ + (1 − b2)·|gₜ − mₜ|² + eps_root;
    the update is m̂ / (√ŝ + eps), with m̂ and ŝ as in `scale_by_adam`.

    Args:
        b1: decay of the mean, in [0, 1).
        b2: decay of the squared distance, in [0, 1).
        eps: added to the root, at least 0.
        eps_root: added to s at every update, at least 0; above 0 for derivatives through the optimizer.
        nesterov: whether to look ahead.

    Source: Zhuang et al., AdaBelief optimizer, arXiv:2010.07468.
    """

    def init(param):
        return dict(mu=jnp.zeros_like(param), nu=real_like(param))

    def update(grad, mu, nu, step):
        mu = decay_towards(mu, grad, b1)
        nu = decay_towards(nu, abs_sq(grad - mu), b2) + eps_root
        mu_hat = debiased_mean(mu, grad, b1, step, nesterov)
        return mu_hat / (sqrt(debias(nu, b2, step)) + eps), dict(mu=mu, nu=nu)

    return init, update


@leafwise(state=ScaleByAdamState, elementwise=True, unsigned=("nu",))
def scale_by_yogi(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-3,
    eps_root: NonNegative = 0.0,
    initial_accumulator_value: NonNegative = 1e-6,
):
    """Yogi's direction: Adam's, with a second moment whose steps are as small as the gradient's square.

    mₜ = b1·mₜ₋₁ + (1 − b1)·gₜ,  vₜ = vₜ₋₁ − (1 − b2)·sign(vₜ₋₁ − |gₜ|²)·|gₜ|²;
    the update is m̂ / (√(v̂ + eps_root) + eps), with m̂ and v̂ as in `scale_by_adam`.

    Args:
        b1: decay of the first moment, in [0, 1).
        b2: one minus the rate of the second moment, in [0, 1).
        eps: added to the root, at least 0.
        eps_root: added inside the root, at least 0; for derivatives through the optimizer.
        initial_accumulator_value: the value that both moments start from.

    Source: Zaheer et al., Adaptive methods for nonconvex optimization, NeurIPS 2018.
    """

    def init(param):
        start = initial_accumulator_value
        return dict(mu=jnp.full_like(param, start), nu=real_like(param, start))

    def update(grad, mu, nu, step):
        mu = decay_towards(mu, grad, b1)
        square = abs_sq(grad)
        nu = nu - (1 - b2) * jnp.sign(nu - square) * square
        root = sqrt(debias(nu, b2, step) + eps_root)
        return debias(mu, b1, step) / (root + eps), dict(mu=mu, nu=nu)

    return init, update

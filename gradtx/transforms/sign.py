"""Signs: steps of one size in every coordinate."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import decay_towards
from gradtx.arrays.types import Array, Params, Scalar
from gradtx.core.leafwise import leafwise
from gradtx.values.domains import AtLeastOne, Decay, DType, Fraction, NonNegative, Number, Positive


@leafwise(elementwise=True)
def scale_by_sign():
    """The sign of each number of the update; g / |g| for complex g, and 0 for 0.

    Source: Bernstein et al., signSGD, arXiv:1802.04434.
    """

    def update(grad):
        return jnp.sign(grad)

    return update


class ScaleByLionState(NamedTuple):
    """count: int32 scalar, updates so far (kept for Optax's layout); mu: a tree like the params."""

    count: Array
    mu: Params


@leafwise(state=ScaleByLionState, elementwise=True)
def scale_by_lion(
    b1: Decay = 0.9,
    b2: Fraction = 0.99,
    mu_dtype: DType = None,
    *,
    mode: Literal["hard", "smooth", "refined"] = "hard",
    smooth_beta: Number = 1.0,
):
    """Lion's direction: the sign of an average that leans towards the present gradient.

    cₜ = b1·mₜ₋₁ + (1 − b1)·gₜ,  mₜ = b2·mₜ₋₁ + (1 − b2)·gₜ; the update is sign(cₜ).

    Taken from the new momentum, cₜ = (b1/b2)·mₜ + (1 − b1/b2)·gₜ: nothing needs mₜ₋₁ once there is mₜ, and a
    compiled step overwrites it without a copy.

    Args:
        b1: weight of the momentum in the direction, in [0, 1).
        b2: decay of the momentum, in (0, 1), meant to be above b1: cₜ has about b1/b2 roundings of mₜ in it.
        mu_dtype: dtype of the momentum. Default: the params', at least float32.
        mode: ``hard``: sign(c); ``smooth``: tanh(smooth_beta·c); ``refined``: c where |c| < 1, else sign(c).
        smooth_beta: steepness of the smooth mode.

    Raises:
        ValueError: for another mode.

    Source: Chen et al., Symbolic discovery of optimization algorithms, arXiv:2302.06675.
    """
    directions = {
        "hard": jnp.sign,
        "smooth": lambda c: jnp.tanh(smooth_beta * c),
        "refined": lambda c: jnp.where(jnp.abs(c) < 1, c, jnp.sign(c)),
    }
    if mode not in directions:
        raise ValueError(f"scale_by_lion: mode must be one of {', '.join(directions)}, got {mode!r}")

    def init(param):
        return dict(mu=jnp.zeros_like(param, dtype=mu_dtype))

    def update(grad, mu):
        mu = decay_towards(mu, grad, b2)
        return directions[mode](decay_towards(mu, grad, b1 / b2)), dict(mu=mu)

    return init, update


class ScaleByRpropState(NamedTuple):
    """step_sizes, prev_updates: trees like the params, the size of the next step and the last gradient
    (0 where it had turned)."""

    step_sizes: Params
    prev_updates: Params


@leafwise(state=ScaleByRpropState, elementwise=True, unsigned=("step_sizes",))
def scale_by_rprop(
    learning_rate: Positive,
    eta_minus: Fraction = 0.5,
    eta_plus: AtLeastOne = 1.2,
    min_step_size: NonNegative = 1e-6,
    max_step_size: NonNegative = 50.0,
):
    """Resilient propagation: every coordinate has its own step size, and only signs of gradients count.

    A step size grows by eta_plus where the gradient kept its sign and shrinks by eta_minus where it
    turned, within [min_step_size, max_step_size]; the update is sign(gₜ)·step size, and 0 where the
    gradient has just turned. For full batches, not for noisy gradients.

    Args:
        learning_rate: the first step size.
        eta_minus: factor where the gradient turned, in (0, 1).
        eta_plus: factor where it did not, at least 1.
        min_step_size: lower bound of the step sizes.
        max_step_size: upper bound of the step sizes.

    Source: Riedmiller and Braun, A direct adaptive method for faster backpropagation learning, 1993.
    """

    return resilient(jnp.sign, learning_rate, eta_minus, eta_plus, min_step_size, max_step_size)


def resilient(
    sign: Callable[[Array], Array],
    first: Scalar,
    eta_minus: Scalar,
    eta_plus: Scalar,
    least: Scalar,
    largest: Scalar,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The rule of `scale_by_rprop`, for what one takes the sign of a NaN to be."""

    def init(param):
        return dict(step_sizes=jnp.full_like(param, first), prev_updates=jnp.zeros_like(param))

    def update(grad, step_sizes, prev_updates):
        agreement = sign(grad) * sign(prev_updates)
        factor = jnp.where(agreement > 0, eta_plus, jnp.where(agreement < 0, eta_minus, 1))
        step_sizes = jnp.clip(step_sizes * factor, least, largest)
        grad = jnp.where(agreement < 0, 0, grad)
        return sign(grad) * step_sizes, dict(step_sizes=step_sizes, prev_updates=grad)

    return init, update

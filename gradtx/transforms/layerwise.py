"""Layer-wise: each tensor's update scaled by norms of that tensor, or turned on its sphere."""

from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, decay_towards, norm, real_dtype, sqrt
from gradtx.arrays.types import Array, Params, Scalar
from gradtx.core.leafwise import leafwise
from gradtx.transforms.decay import WeightDecaySchedule
from gradtx.transforms.scaling import ScaleByScheduleState
from gradtx.values.domains import Decay, DType, NonNegative, Number


class ScaleByNovogradState(NamedTuple):
    """count: int32 scalar, updates so far; mu: a tree like the params, the decaying sum of normalised
    gradients; nu: a tree of scalars, one for each param, the mean square of its gradient's norm."""

    count: Array
    mu: Params
    nu: Params


@leafwise(state=ScaleByNovogradState, unsigned=("nu",))
def scale_by_novograd(
    b1: Decay = 0.9,
    b2: Decay = 0.25,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    weight_decay: Number = 0.0,
    mu_dtype: DType = None,
):
    """NovoGrad's direction: momentum on gradients that are normalised tensor by tensor.

    v₁ = ‖g₁‖²,  vₜ = b2·vₜ₋₁ + (1 − b2)·‖gₜ‖²,
    mₜ = b1·mₜ₋₁ + gₜ / (√(vₜ + eps_root) + eps) + weight_decay·pₜ; the update is mₜ.

    Args:
        b1: share of the momentum that is kept, in [0, 1).
        b2: decay of the squared norm, in [0, 1).
        eps: added to the root, at least 0.
        eps_root: added inside the root, at least 0; for derivatives through the optimizer.
        weight_decay: strength of the decay, which goes into the momentum.
        mu_dtype: dtype of the momentum. Default: the params', at least float32.

    Source: Ginsburg et al., Stochastic gradient methods with layer-wise adaptive moments,
    arXiv:1905.11286.
    """

    def init(param):
        return dict(mu=jnp.zeros_like(param, dtype=mu_dtype), nu=jnp.zeros([], real_dtype(param)))

    def update(grad, param, mu, nu, step):
        square = jnp.sum(abs_sq(grad))
        nu = jnp.where(step == 1, square, decay_towards(nu, square, b2))
        mu = b1 * mu + grad / (sqrt(nu + eps_root) + eps) + weight_decay * param
        return mu, dict(mu=mu, nu=nu)

    return init, update


def _cosine(tangent: Scalar) -> Scalar:
    return (1 + tangent**2) ** -0.5


@leafwise(counted=ScaleByScheduleState)
def fromage_step(learning_rate: Number):
    """Multiply updates by −sin θ, where tan θ = learning_rate: the step of `fromage`.

    Args:
        learning_rate: the length of the step along the tangent, relative to the param.
    """

    def update(grad):
        return -learning_rate * _cosine(learning_rate) * grad

    return update


@leafwise(counted=WeightDecaySchedule, elementwise=True)
def fromage_shrinkage(tangent: Number):
    """Add (cos θ − 1)·p to the updates, where tan θ = tangent: back to the sphere.

    Args:
        tangent: the learning rate of `fromage_step`.
    """

    def update(grad, param):
        cosine = _cosine(tangent)
        # cos θ − 1 without the difference, of which small angles leave no digits in float32.
        return grad - (tangent * cosine) ** 2 / (1 + cosine) * param

    return update


class ScaleByDistanceOverGradientsState(NamedTuple):
    """max_dist: a tree of scalars, how far each param has been from its start; grad_sum_of_squares: a
    tree of arrays of one number, over all its gradients; init_params: the params at the start."""

    max_dist: Params
    grad_sum_of_squares: Params
    init_params: Params


@leafwise(state=ScaleByDistanceOverGradientsState, unsigned=("max_dist", "grad_sum_of_squares"))
def scale_by_distance_over_gradients(
    reps_rel: NonNegative = 1e-6,
    eps: NonNegative = 1e-8,
    param_dtype: DType = None,
    global_scale: Number = 1.0,
):
    """Layer-wise DoG: a step size without a learning rate, from how far each tensor has come.

    rₜ = max(rₜ₋₁, ‖pₜ − p₀‖) with r₀ = reps_rel·(1 + ‖p₀‖),  sₜ = sₜ₋₁ + ‖gₜ‖²;
    the update is global_scale·rₜ / √(sₜ + eps)·gₜ. The authors recommend to evaluate with averaged params.

    Args:
        reps_rel: the first step, relative to the param: 1e-4 with batch normalisation, else 1e-6.
        eps: added inside the root, at least 0.
        param_dtype: dtype of the params at the start, as they are kept. Default: the params', at least
            float32.
        global_scale: factor of all updates; −1 to descend.

    Source: Ivgi et al., DoG is SGD's best friend, arXiv:2302.12022.
    """

    def init(param):
        start = jnp.asarray(param, dtype=param_dtype)
        squares = jnp.zeros(1, real_dtype(param))
        return dict(max_dist=reps_rel * (1 + norm(param)), grad_sum_of_squares=squares, init_params=start)

    def update(grad, param, max_dist, grad_sum_of_squares, init_params):
        max_dist = jnp.maximum(max_dist, norm(param - init_params))
        squares = grad_sum_of_squares + jnp.sum(abs_sq(grad))
        rate = global_scale * (max_dist / sqrt(squares[0] + eps))
        return rate * grad, dict(max_dist=max_dist, grad_sum_of_squares=squares, init_params=init_params)

    return init, update

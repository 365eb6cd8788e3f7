"""Differences of gradients: steps that lean towards the next one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.errors import check_alike, is_none
from gradtx.arrays.numerics import (
    abs_sq,
    at_least_float32,
    bounding_factor,
    debias,
    decay_towards,
    norm,
    real_like,
    sqrt,
)
from gradtx.arrays.per_tensor import PerTensor
from gradtx.arrays.types import Array, Params, Scalar
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import treewise
from gradtx.values.domains import Decay, NonNegative, Number


class ScaleByAdanState(NamedTuple):
    """m, v, n, g: trees like the params, the means of gradients, of their changes and of squares, and the
    last gradient; t: int32 scalar, updates so far."""

    m: Params
    v: Params
    n: Params
    g: Params
    t: Array


@leafwise(state=ScaleByAdanState, counter="t", elementwise=True, unsigned=("n",))
def scale_by_adan(
    b1: Decay = 0.98,
    b2: Decay = 0.92,
    b3: Decay = 0.99,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
):
    """Adan's direction: Nesterov's look-ahead, from gradients and what they have changed by.

    With dₜ = gₜ − gₜ₋₁ and d₁ = 0:
    mₜ = b1·mₜ₋₁ + (1 − b1)·gₜ,  vₜ = b2·vₜ₋₁ + (1 − b2)·dₜ,  nₜ = b3·nₜ₋₁ + (1 − b3)·|gₜ + b2·dₜ|²;
    the update is (m̂ + b2·v̂) / (√(n̂ + eps_root) + eps), each mean debiased as in `scale_by_adam`.

    Args:
        b1: decay of the mean of gradients, in [0, 1); one minus the paper's, as are the others.
        b2: decay of the mean of changes, in [0, 1).
        b3: decay of the mean square, in [0, 1).
        eps: added to the root, at least 0.
        eps_root: added inside the root, at least 0; for derivatives through the optimizer.

    Source: Xie et al., Adan: adaptive Nesterov momentum algorithm, arXiv:2208.06677.
    """

    def init(param):
        m, v, g = (jnp.zeros_like(param) for _ in range(3))
        return dict(m=m, v=v, n=real_like(param), g=g)

    def update(grad, m, v, n, g, step):
        change = jnp.where(step == 1, 0, grad - g)
        m = decay_towards(m, grad, b1)
        v = decay_towards(v, change, b2)
        n = decay_towards(n, abs_sq(grad + b2 * change), b3)
        ahead = debias(m, b1, step) + b2 * debias(v, b2, step)
        root = sqrt(debias(n, b3, step) + eps_root)
        return ahead / (root + eps), dict(m=m, v=v, n=n, g=grad)

    return init, update


class ScaleByOptimisticGradientState(NamedTuple):
    """is_initial_step: bool scalar, whether there was no update yet; previous_gradient: a tree like the
    params, the last incoming update."""

    is_initial_step: Array
    previous_gradient: Params


@treewise(state=ScaleByOptimisticGradientState, on_shards=True)
def scale_by_optimistic_gradient(alpha: Number = 1.0, beta: Number = 1.0):
    """The gradient, and on top of it what it has changed by: a guess of the next one.

    The update is alpha·gₜ + beta·(gₜ − gₜ₋₁), with g₀ = g₁. It turns circling around the solution of a
    game into approaching it.

    Args:
        alpha: weight of the gradient.
        beta: weight of its change.

    Source: Mokhtari et al., A unified analysis of extra-gradient and optimistic gradient methods,
    arXiv:1901.08511.
    """

    def empty(param):
        return jnp.zeros_like(param, dtype=at_least_float32(jnp.result_type(param)))

    def init(params):
        return ScaleByOptimisticGradientState(jnp.asarray(True), jax.tree.map(empty, params))

    def update(updates, state):
        weight = jnp.where(state.is_initial_step, 0, beta)
        name, what = "scale_by_optimistic_gradient", "the state's previous_gradient"
        check_alike(name, "updates", updates, what, state.previous_gradient)
        seen = state.previous_gradient
        latest = jax.tree.map(lambda grad, old: old if grad is None else grad, updates, seen, is_leaf=is_none)
        leaning = _lean.on_trees([updates, seen], alpha, weight)
        return leaning, ScaleByOptimisticGradientState(jnp.asarray(False), latest)

    return init, update


@PerTensor
def _lean(grad: Array, previous: Array, alpha: Scalar, beta: Scalar) -> Array:
    return alpha * grad + beta * (grad - previous)


class ReduceVarianceState(NamedTuple):
    """previous_grad: a tree like the params, the last gradient."""

    previous_grad: Params


def _corrected(grad: Array, previous: Array, gamma: Scalar, b1: Scalar, max_norm: Scalar) -> Array:
    c = grad + gamma * b1 / (1 - b1) * (grad - previous)
    return c * bounding_factor(norm(c), max_norm)


@leafwise(state=ReduceVarianceState, name="reduce_variance")
def _reduce_variance(gamma: Number, b1: Decay, max_norm: NonNegative):
    def init(param):
        return dict(previous_grad=jnp.zeros_like(param))

    def update(grad, previous_grad):
        return _corrected(grad, previous_grad, gamma, b1, max_norm), dict(previous_grad=grad)

    return init, update


@leafwise(name="reduce_variance")
def _reduce_variance_exactly(gamma: Number, b1: Decay, max_norm: NonNegative):
    def update(grad, previous_grads):
        return _corrected(grad, previous_grads, gamma, b1, max_norm)

    return update


@recipe
def reduce_variance(
    gamma: Number = 0.025, b1: Decay = 0.95, max_norm: NonNegative = 1.0, *, exact: bool = False
) -> GradientTransformation:
    """Correct each gradient by what it has changed by, before an optimizer sees it, as MARS does.

    cₜ = gₜ + gamma·b1/(1 − b1)·(gₜ − gₜ₋₁), with g₀ = 0; the update is cₜ·min(1, max_norm / ‖cₜ‖), tensor by
    tensor. It is made for an optimizer whose momentum decays by b1. `exact`, gₜ₋₁ is the gradient of the
    present batch at the params of the step before, which is a second gradient at each step.

    Args:
        gamma: strength of the correction.
        b1: decay of the optimizer's momentum, in [0, 1).
        max_norm: the largest norm of a tensor's gradient, at least 0.
        exact: whether to ask for gₜ₋₁: ``tx.update(grads, state, params, previous_grads=...)``, a tree like
            the params. Then nothing is kept. Default: no, gₜ₋₁ is that of the batch before.

    Example:
        >>> import gradtx
        >>> mars_lion = gradtx.chain(gradtx.reduce_variance(b1=0.9), gradtx.lion(1e-4))

    Source: Yuan et al., MARS: unleashing the power of variance reduction for training large models,
    arXiv:2411.10438, with the beginning of its published code.
    """
    make = _reduce_variance_exactly if exact else _reduce_variance
    return make(gamma, b1, max_norm)

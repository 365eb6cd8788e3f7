"""ASGD."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import rounded
from gradtx.arrays.types import Params
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._domains import LearningRate, WeightDecay
from gradtx.torch.optim._layout import LIKE_TORCH
from gradtx.torch.optim._optimizer import Groups, Optimizer, arguments
from gradtx.torch.optim._stages import gradient
from gradtx.values.domains import Number


class ASGDState(NamedTuple):
    """count, eta, mu, ax: trees like the params, updates of each, the next step size and weight in the
    average (float32 scalars), and the average of the param."""

    count: Params
    eta: Params
    mu: Params
    ax: Params


@leafwise(state=ASGDState, layout=LIKE_TORCH, elementwise=True, unsigned=("eta", "mu"))
def averaged_descent(lr: LearningRate, lambd: Number, alpha: Number, t0: Number):
    """The step of averaged SGD, and the average.

    p ← p·(1 − lambd·ηₜ) − ηₜ·g,  a ← a + μₜ·(p − a), with η₁ = lr, ηₜ₊₁ = lr / (1 + lambd·lr·t)^alpha and
    μ₁ = 1, μₜ₊₁ = 1 / max(1, t − t0). η and μ are float32, as in PyTorch.
    """

    def init(param):
        number = jnp.asarray(lr).astype(jnp.float32)
        return dict(eta=jnp.copy(number), mu=jnp.ones([], jnp.float32), ax=jnp.zeros_like(param))

    def update(grad, param, eta, mu, ax, step):
        eta = jnp.where(step == 1, lr, eta).astype(jnp.float32)  # the lr at its own first update
        rate, weight, t = eta.astype(grad.dtype), mu.astype(grad.dtype), step.astype(grad.dtype)
        new = rounded(param * (1 - lambd * rate)) - rate * grad
        ax = jnp.where(weight == 1, new, ax + (new - ax) * weight)
        eta, mu = lr / (1 + lambd * lr * t) ** alpha, 1 / jnp.maximum(1, t - t0)
        return new - param, dict(eta=eta.astype(jnp.float32), mu=mu.astype(jnp.float32), ax=ax)

    return init, update


@recipe
def asgd(
    lr: LearningRate = 1e-2,
    lambd: Number = 1e-4,
    alpha: Number = 0.75,
    t0: Number = 1e6,
    weight_decay: WeightDecay = 0,
    *,
    maximize: bool = False,
) -> GradientTransformation:
    """PyTorch's ASGD: gradient descent with a falling step size, and an average of the params.

    ηₜ₊₁ = lr / (1 + lambd·lr·t)^alpha; p ← p·(1 − lambd·ηₜ) − ηₜ·g. From step t0 on the state's ``ax`` is
    the running mean of the params; before, it is the param itself.

    Args:
        lr: the first step size, at least 0.
        lambd: decay of the params, and of the step size.
        alpha: power of the falling step size.
        t0: the step from which params are averaged.
        weight_decay: factor of L2 regularisation, at least 0.
        maximize: whether to climb.

    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.torch.optim.asgd(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.05
    """
    return chain(*gradient(maximize, weight_decay), averaged_descent(lr, lambd, alpha, t0))


class ASGD(Optimizer):
    """PyTorch's ASGD over a tree of params; see `asgd` for the rule and its arguments.

    Args:
        params: a tree of arrays, an nnx module, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
        foreach, differentiable, capturable: kept for export; without effect.
    """

    transformation = staticmethod(asgd)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: Any = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        *,
        groups: Groups = None,
    ):
        super().__init__(params, arguments(locals()), groups)

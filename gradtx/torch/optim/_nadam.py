"""NAdam."""

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import debias, decay_towards, rounded, safe_increment, sqrt
from gradtx.arrays.types import Params
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._domains import Betas, Epsilon, LearningRate, WeightDecay, check_betas
from gradtx.torch.optim._layout import LIKE_TORCH
from gradtx.torch.optim._optimizer import Groups, Optimizer, arguments
from gradtx.torch.optim._stages import gradient
from gradtx.values.domains import OFF, Decay, Interval, NonNegative, ScalarOrSchedule

MomentumDecay = Annotated[ScalarOrSchedule, Interval("[0, inf]", "Invalid momentum_decay value: {}")]


class NAdamState(NamedTuple):
    """count, mu_product, exp_avg, exp_avg_sq: trees like the params, updates of each, the product of its
    momenta (float32 scalars), and the moments."""

    count: Params
    mu_product: Params
    exp_avg: Params
    exp_avg_sq: Params


@leafwise(state=NAdamState, layout=LIKE_TORCH, elementwise=True, unsigned=("mu_product", "exp_avg_sq"))
def nadam_descent(
    lr: LearningRate,
    b1: Decay,
    b2: Decay,
    eps: NonNegative,
    momentum_decay: NonNegative,
    weight_decay: NonNegative,
):
    """The step of NAdam; see `nadam`. P is float32, and p moves twice, as in PyTorch."""

    def init(param):
        zeros = jnp.zeros_like(param)
        return dict(mu_product=jnp.ones([], jnp.float32), exp_avg=zeros, exp_avg_sq=jnp.copy(zeros))

    def update(grad, param, mu_product, exp_avg, exp_avg_sq, step):
        def mu_at(t):
            return b1 * (1 - 0.5 * 0.96 ** (t.astype(grad.dtype) * momentum_decay))

        mu, next_mu = mu_at(step), mu_at(safe_increment(step))
        mu_product = mu_product * mu.astype(mu_product.dtype)
        exp_avg = decay_towards(exp_avg, grad, b1)
        exp_avg_sq = decay_towards(exp_avg_sq, grad * grad, b2)
        divisor = sqrt(debias(exp_avg_sq, b2, step)) + eps
        seen = mu_product.astype(grad.dtype)
        new = rounded(param * (1 - lr * weight_decay))
        new = new - lr * (1 - mu) / (1 - seen) * grad / divisor
        new = new - lr * next_mu / (1 - seen * next_mu) * exp_avg / divisor
        return new - param, dict(mu_product=mu_product, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq)

    return init, update


@recipe
def nadam(
    lr: LearningRate = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: WeightDecay = 0,
    momentum_decay: MomentumDecay = 4e-3,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> GradientTransformation:
    """PyTorch's NAdam: Adam with Nesterov's look-ahead and a momentum that rises towards betas[0].

    μₜ = b1·(1 − ½·0.96^(t·momentum_decay)), Pₜ = μ₁·…·μₜ; the update is
    −lr·((1 − μₜ)/(1 − Pₜ)·gₜ + μₜ₊₁/(1 − Pₜ₊₁)·mₜ) / (√v̂ + eps). `gradtx.nadam`, as Optax's, has a
    constant momentum instead.

    Args:
        lr: the step size, at least 0.
        betas: decays of the first and second moment, in [0, 1).
        eps: added to the root, at least 0.
        weight_decay: factor of L2 regularisation, at least 0.
        momentum_decay: how fast the momentum rises, at least 0.
        decoupled_weight_decay: whether the params decay by 1 − lr·weight_decay instead.
        maximize: whether to climb.

    Source: Dozat, Incorporating Nesterov momentum into Adam, 2016.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.torch.optim.nadam(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.106 0.106
    """
    b1, b2 = check_betas("torch.optim.nadam", betas)
    l2, decay = (OFF, weight_decay) if decoupled_weight_decay else (weight_decay, OFF)
    return chain(*gradient(maximize, l2), nadam_descent(lr, b1, b2, eps, momentum_decay, decay))


class NAdam(Optimizer):
    """PyTorch's NAdam over a tree of params; see `nadam` for the rule and its arguments.

    Args:
        params: a tree of arrays, an nnx module, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
        foreach, capturable, differentiable: kept for export; without effect.
    """

    transformation = staticmethod(nadam)

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: Any = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        groups: Groups = None,
    ):
        super().__init__(params, arguments(locals()), groups)

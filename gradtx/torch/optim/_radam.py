"""RAdam."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import debias, decay_towards, one_minus_power, sqrt
from gradtx.arrays.types import Params
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._domains import Betas, Epsilon, LearningRate, WeightDecay, check_betas
from gradtx.torch.optim._layout import LIKE_TORCH
from gradtx.torch.optim._optimizer import Groups, Optimizer, arguments
from gradtx.torch.optim._stages import descend_along
from gradtx.transforms.rectified import rectification
from gradtx.values.domains import Decay, NonNegative


class MomentsState(NamedTuple):
    """count, exp_avg, exp_avg_sq: trees like the params, updates of each and its moments."""

    count: Params
    exp_avg: Params
    exp_avg_sq: Params


@leafwise(state=MomentsState, layout=LIKE_TORCH, elementwise=True, unsigned=("exp_avg_sq",))
def scale_by_rectified_adam(b1: Decay, b2: Decay, eps: NonNegative):
    """RAdam's direction: Adam's once the variance of v is known, momentum until then.

    m̂ and v as in Adam, ρ and r as in `rectification`; the update is m̂·r·√(1 − b2ᵗ) / (√v + eps)
    where ρ > 5, and m̂ before.
    """

    def init(param):
        zeros = jnp.zeros_like(param)
        return dict(exp_avg=zeros, exp_avg_sq=jnp.copy(zeros))

    def update(grad, exp_avg, exp_avg_sq, step):
        t = step.astype(grad.dtype)
        exp_avg = decay_towards(exp_avg, grad, b1)
        exp_avg_sq = decay_towards(exp_avg_sq, grad * grad, b2)
        mu_hat = debias(exp_avg, b1, step)
        known, r = rectification(b2, t, 5.0)
        adam = mu_hat * r * (sqrt(one_minus_power(b2, t)) / (sqrt(exp_avg_sq) + eps))
        return jnp.where(known, adam, mu_hat), dict(exp_avg=exp_avg, exp_avg_sq=exp_avg_sq)

    return init, update


@recipe
def radam(
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: WeightDecay = 0,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> GradientTransformation:
    """PyTorch's RAdam: Adam that takes steps of momentum until it knows the variance of its divisor.

    p ← p − lr·r·m̂·√(1 − b2ᵗ) / (√v + eps) once r is known, and p − lr·m̂ until then, as in
    `gradtx.scale_by_radam`.

    With betas[1] = 0.999 the divisor is used from the sixth step on. eps is added to the root of the
    second moment before that is corrected.

    Args:
        lr: the step size, at least 0.
        betas: decays of the first and second moment, in [0, 1).
        eps: added to the root, at least 0.
        weight_decay: factor of L2 regularisation, at least 0.
        decoupled_weight_decay: whether the params decay by 1 − lr·weight_decay instead.
        maximize: whether to climb.

    Source: Liu et al., On the variance of the adaptive learning rate, arXiv:1908.03265.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.torch.optim.radam(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.05
    """
    b1, b2 = check_betas("torch.optim.radam", betas)
    direction = scale_by_rectified_adam(b1, b2, eps)
    return descend_along([direction], lr, weight_decay, maximize, decoupled_weight_decay)


class RAdam(Optimizer):
    """PyTorch's RAdam over a tree of params; see `radam` for the rule and its arguments.

    Args:
        params: a tree of arrays, an nnx module, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
        foreach, capturable, differentiable: kept for export; without effect.
    """

    transformation = staticmethod(radam)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: Any = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        groups: Groups = None,
    ):
        super().__init__(params, arguments(locals()), groups)

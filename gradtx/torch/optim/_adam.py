"""Adam and AdamW."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import debias, decay_towards, sqrt
from gradtx.arrays.types import Params
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._domains import Betas, Epsilon, LearningRate, WeightDecay, check_betas
from gradtx.torch.optim._layout import LIKE_TORCH
from gradtx.torch.optim._optimizer import Groups, Optimizer, arguments
from gradtx.torch.optim._stages import as_torch, descend_along
from gradtx.transforms import adaptive
from gradtx.values.domains import Decay, NonNegative

scale_by_adam = as_torch(adaptive.scale_by_adam, mu="exp_avg", nu="exp_avg_sq")


class AmsgradState(NamedTuple):
    """count, exp_avg, exp_avg_sq, max_exp_avg_sq: trees like the params, updates of each, the moments,
    and the largest second moment."""

    count: Params
    exp_avg: Params
    exp_avg_sq: Params
    max_exp_avg_sq: Params


@leafwise(state=AmsgradState, layout=LIKE_TORCH, elementwise=True, unsigned=("exp_avg_sq", "max_exp_avg_sq"))
def scale_by_raw_amsgrad(b1: Decay, b2: Decay, eps: NonNegative):
    """AMSGrad with the maximum of the raw second moments, corrected when it is used.

    m and v as in Adam, v_max = max(v_max, vₜ); the update is m̂ / (√(v_max / (1 − b2ᵗ)) + eps).
    """

    def init(param):
        zeros = jnp.zeros_like(param)
        return dict(exp_avg=zeros, exp_avg_sq=jnp.copy(zeros), max_exp_avg_sq=jnp.copy(zeros))

    def update(grad, exp_avg, exp_avg_sq, max_exp_avg_sq, step):
        exp_avg = decay_towards(exp_avg, grad, b1)
        exp_avg_sq = decay_towards(exp_avg_sq, grad * grad, b2)
        max_exp_avg_sq = jnp.maximum(max_exp_avg_sq, exp_avg_sq)
        divisor = sqrt(debias(max_exp_avg_sq, b2, step)) + eps
        slots = dict(exp_avg=exp_avg, exp_avg_sq=exp_avg_sq, max_exp_avg_sq=max_exp_avg_sq)
        return debias(exp_avg, b1, step) / divisor, slots

    return init, update


@recipe
def adam(
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: WeightDecay = 0,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> GradientTransformation:
    """PyTorch's Adam.

    The update is −lr·m̂ / (√v̂ + eps), as in `gradtx.scale_by_adam`.

    Args:
        lr: the step size, at least 0.
        betas: decays of the first and second moment, in [0, 1).
        eps: added to the root, at least 0.
        weight_decay: factor of L2 regularisation, at least 0.
        amsgrad: whether to divide by the root of the largest v so far.
        maximize: whether to climb.
        decoupled_weight_decay: whether the params decay by 1 − lr·weight_decay instead, as in `adamw`.

    Source: Kingma and Ba, Adam, arXiv:1412.6980; Reddi et al., arXiv:1904.09237.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.torch.optim.adam(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    b1, b2 = check_betas("torch.optim.adam", betas)
    direction = scale_by_raw_amsgrad(b1, b2, eps) if amsgrad else scale_by_adam(b1, b2, eps)
    return descend_along([direction], lr, weight_decay, maximize, decoupled_weight_decay)


@recipe
def adamw(
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: WeightDecay = 1e-2,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
) -> GradientTransformation:
    """PyTorch's AdamW: `adam` after the params have decayed by 1 − lr·weight_decay.

    p ← p·(1 − lr·weight_decay) − lr·m̂ / (√v̂ + eps), as in `gradtx.scale_by_adam`.

    Args:
        lr: the step size, at least 0.
        betas: decays of the first and second moment, in [0, 1).
        eps: added to the root, at least 0.
        weight_decay: decay of the params per step and lr, at least 0. Optax's default is 1e-4.
        amsgrad: whether to divide by the root of the largest v so far.
        maximize: whether to climb.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization, arXiv:1711.05101.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.torch.optim.adamw(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.101 0.099
    """
    check_betas("torch.optim.adamw", betas)
    return adam(lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)


class Adam(Optimizer):
    """PyTorch's Adam over a tree of params; see `adam` for the rule and its arguments.

    Args:
        params: a tree of arrays, an nnx module, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
        foreach, capturable, differentiable, fused: kept for export; without effect.
    """

    transformation = staticmethod(adam)
    slots_of_options = frozenset({"max_exp_avg_sq"})

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: Any = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        groups: Groups = None,
    ):
        check_arrays(lr, betas, foreach, capturable)
        super().__init__(params, arguments(locals()), groups)


class AdamW(Adam):
    """PyTorch's AdamW over a tree of params; see `adamw` for the rule and its arguments.

    Args:
        params: a tree of arrays, an nnx module, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
        foreach, capturable, differentiable, fused: kept for export; without effect.
    """

    fixed = {"decoupled_weight_decay": True}

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: Any = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        groups: Groups = None,
    ):
        super().__init__(params, **arguments(locals()), groups=groups, decoupled_weight_decay=True)


def check_arrays(lr: Any, betas: Betas, foreach: bool | None, capturable: bool) -> None:
    """What PyTorch refuses of numbers that are arrays."""
    arrays = [isinstance(beta, jax.Array) for beta in betas]
    if arrays[0] != arrays[1]:
        raise ValueError("betas must be either both floats or both Tensors")
    if not foreach or capturable:
        return
    if isinstance(lr, jax.Array):
        raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
    if arrays[0]:
        raise ValueError("betas[0] as a Tensor is not supported for capturable=False and foreach=True")

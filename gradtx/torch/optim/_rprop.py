"""Rprop."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.types import Params
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._domains import LearningRate, is_checked
from gradtx.torch.optim._layout import LIKE_TORCH
from gradtx.torch.optim._optimizer import Groups, Optimizer, arguments
from gradtx.torch.optim._stages import TORCH_NAMES, gradient
from gradtx.transforms.scaling import scale
from gradtx.transforms.sign import resilient
from gradtx.values.domains import Number


class RpropState(NamedTuple):
    """count, step_sizes, prev_updates: trees like the params, updates of each, the size of the next step
    and the last gradient (0 where it had turned)."""

    count: Params
    step_sizes: Params
    prev_updates: Params


@leafwise(
    state=RpropState,
    layout=LIKE_TORCH,
    elementwise=True,
    name="torch.optim.scale_by_rprop",
    unsigned=("step_sizes",),
)
def scale_by_rprop(
    learning_rate: Number, eta_minus: Number, eta_plus: Number, min_step_size: Number, max_step_size: Number
):
    """`gradtx.scale_by_rprop`, whose first step size is the learning rate of the first update of a param.

    The sign of a NaN is 0, as it is in PyTorch.
    """

    def sign(x):
        return jnp.where(jnp.isnan(x), 0, jnp.sign(x))

    init, resume = resilient(sign, learning_rate, eta_minus, eta_plus, min_step_size, max_step_size)

    def update(grad, step_sizes, prev_updates, step):
        step_sizes = jnp.where(step == 1, learning_rate, step_sizes)
        return resume(grad, step_sizes.astype(grad.dtype), prev_updates)

    return init, update


TORCH_NAMES["torch.optim.scale_by_rprop"] = {"step_sizes": "step_size", "prev_updates": "prev"}


@recipe
def rprop(
    lr: LearningRate = 1e-2,
    etas: tuple[Any, Any] = (0.5, 1.2),
    step_sizes: tuple[Any, Any] = (1e-6, 50),
    *,
    maximize: bool = False,
) -> GradientTransformation:
    """PyTorch's Rprop: every coordinate has its own step size, as in `gradtx.scale_by_rprop`.

    p ← p − s·sign(g), with step sizes s that grow by etas[1] and shrink by etas[0] within step_sizes.

    Where a gradient is NaN, the param and its step size stay as they are.

    Args:
        lr: the first step size, at least 0; after the first update of a param it has no effect on it.
        etas: factors of a step size where the gradient turned and where it did not; 0 < η⁻ < 1 < η⁺.
        step_sizes: the least and the largest step size.
        maximize: whether to climb.

    Source: Riedmiller and Braun, A direct adaptive method for faster backpropagation learning, 1993.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.torch.optim.rprop(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    eta_minus, eta_plus = etas
    if is_checked(eta_minus) and is_checked(eta_plus) and not 0 < eta_minus < 1 < eta_plus:
        raise ValueError(
            f"torch.optim.rprop: Invalid eta values: {eta_minus}, {eta_plus}; they must be 0 < η⁻ < 1 < η⁺"
        )
    direction = scale_by_rprop(lr, eta_minus, eta_plus, *step_sizes)
    return chain(*gradient(maximize), direction, scale(-1.0))


class Rprop(Optimizer):
    """PyTorch's Rprop over a tree of params; see `rprop` for the rule and its arguments.

    Args:
        params: a tree of arrays, an nnx module, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
        capturable, foreach, differentiable: kept for export; without effect.
    """

    transformation = staticmethod(rprop)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        groups: Groups = None,
    ):
        super().__init__(params, arguments(locals()), groups)

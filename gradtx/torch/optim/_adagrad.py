"""Adagrad."""

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import quotient, sqrt
from gradtx.arrays.types import Params
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._domains import Epsilon, LearningRate, WeightDecay
from gradtx.torch.optim._layout import LIKE_TORCH
from gradtx.torch.optim._optimizer import Groups, Optimizer, arguments
from gradtx.torch.optim._stages import descend_along
from gradtx.values.domains import Interval, NonNegative, ScalarOrSchedule

LrDecay = Annotated[ScalarOrSchedule, Interval("[0, inf]", "Invalid lr_decay value: {}")]
InitialValue = Annotated[
    ScalarOrSchedule, Interval("[0, inf]", "Invalid initial_accumulator_value value: {}")
]


class AdagradState(NamedTuple):
    """count, sum: trees like the params, updates of each and the sum of its squares."""

    count: Params
    sum: Params


@leafwise(state=AdagradState, layout=LIKE_TORCH, elementwise=True, unsigned=("sum",))
def scale_by_decaying_rss(lr_decay: NonNegative, initial_accumulator_value: NonNegative, eps: NonNegative):
    """Adagrad's direction with eps beside the root, and a rate that falls with the tensor's own updates.

    sₜ = sₜ₋₁ + gₜ²; the update is gₜ / (√sₜ + eps) / (1 + (t − 1)·lr_decay), and 0 where s is 0.
    """

    def init(param):
        return dict(sum=jnp.full_like(param, initial_accumulator_value))

    def update(grad, sum, step):
        sum = sum + grad * grad
        direction = quotient(grad, jnp.where(sum == 0, 0, sqrt(sum) + eps))
        return direction / (1 + (step - 1) * lr_decay), dict(sum=sum)

    return init, update


@recipe
def adagrad(
    lr: LearningRate = 1e-2,
    lr_decay: LrDecay = 0,
    weight_decay: WeightDecay = 0,
    initial_accumulator_value: InitialValue = 0,
    eps: Epsilon = 1e-10,
    *,
    maximize: bool = False,
) -> GradientTransformation:
    """PyTorch's Adagrad: −lr/(1 + (t − 1)·lr_decay)·g / (√s + eps), with the sum s of all squares.

    `gradtx.adagrad`, as Optax's, starts s at 0.1 and adds eps inside the root.

    Args:
        lr: the step size, at least 0.
        lr_decay: how fast the step size falls, at least 0.
        weight_decay: factor of L2 regularisation, at least 0.
        initial_accumulator_value: the value that s starts from, at least 0.
        eps: added to the root, at least 0.
        maximize: whether to climb.

    Source: Duchi et al., Adaptive subgradient methods, JMLR 12, 2011.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.torch.optim.adagrad(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    direction = scale_by_decaying_rss(lr_decay, initial_accumulator_value, eps)
    return descend_along([direction], lr, weight_decay, maximize)


class Adagrad(Optimizer):
    """PyTorch's Adagrad over a tree of params; see `adagrad` for the rule and its arguments.

    Args:
        params: a tree of arrays, an nnx module, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
        foreach, differentiable, fused: kept for export; without effect.
    """

    transformation = staticmethod(adagrad)
    starts_at_once = True

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lr_decay: float = 0,
        weight_decay: Any = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        groups: Groups = None,
    ):
        super().__init__(params, arguments(locals()), groups)

"""Adadelta."""

from typing import Annotated, Any, NamedTuple

from gradtx.arrays.types import Params
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._domains import Epsilon, LearningRate, WeightDecay, vouched
from gradtx.torch.optim._optimizer import Groups, Optimizer, arguments
from gradtx.torch.optim._stages import as_torch, descend_along
from gradtx.transforms import adaptive
from gradtx.values.domains import Interval, ScalarOrSchedule

Rho = Annotated[ScalarOrSchedule, Interval("[0, 1]", "Invalid rho value: {}")]


class AdadeltaState(NamedTuple):
    """count, e_g, e_x: trees like the params, updates of each, and the mean squares of gradients and of
    directions."""

    count: Params
    e_g: Params
    e_x: Params


scale_by_adadelta = as_torch(adaptive.scale_by_adadelta, AdadeltaState, e_g="square_avg", e_x="acc_delta")


@recipe
def adadelta(
    lr: LearningRate = 1.0,
    rho: Rho = 0.9,
    eps: Epsilon = 1e-6,
    weight_decay: WeightDecay = 0,
    *,
    maximize: bool = False,
) -> GradientTransformation:
    """PyTorch's Adadelta: −lr·√(s + eps)/√(v + eps)·g, as in `gradtx.scale_by_adadelta`.

    Args:
        lr: the step size, at least 0.
        rho: decay of both mean squares, in [0, 1].
        eps: added inside both roots, at least 0.
        weight_decay: factor of L2 regularisation, at least 0.
        maximize: whether to climb.

    Source: Zeiler, ADADELTA, arXiv:1212.5701.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.torch.optim.adadelta(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.000316 0.000316
    """
    return descend_along([scale_by_adadelta(vouched(rho), eps)], lr, weight_decay, maximize)


class Adadelta(Optimizer):
    """PyTorch's Adadelta over a tree of params; see `adadelta` for the rule and its arguments.

    Args:
        params: a tree of arrays, an nnx module, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
        foreach, capturable, differentiable: kept for export; without effect.
    """

    transformation = staticmethod(adadelta)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: Any = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        groups: Groups = None,
    ):
        super().__init__(params, arguments(locals()), groups)

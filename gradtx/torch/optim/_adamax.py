"""Adamax."""

from typing import Any

from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._domains import Betas, Epsilon, LearningRate, WeightDecay, check_betas
from gradtx.torch.optim._optimizer import Groups, Optimizer, arguments
from gradtx.torch.optim._stages import as_torch, descend_along
from gradtx.transforms import adaptive

scale_by_adamax = as_torch(adaptive.scale_by_adamax, mu="exp_avg", nu="exp_inf")


@recipe
def adamax(
    lr: LearningRate = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: WeightDecay = 0,
    *,
    maximize: bool = False,
) -> GradientTransformation:
    """PyTorch's Adamax: −lr·m̂ / u with the decaying maximum u, as in `gradtx.scale_by_adamax`.

    Args:
        lr: the step size, at least 0.
        betas: decays of the mean and of the maximum, in [0, 1).
        eps: added to every |g|, at least 0.
        weight_decay: factor of L2 regularisation, at least 0.
        maximize: whether to climb.

    Source: Kingma and Ba, Adam, arXiv:1412.6980, section 7.1.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.torch.optim.adamax(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    b1, b2 = check_betas("torch.optim.adamax", betas)
    return descend_along([scale_by_adamax(b1, b2, eps)], lr, weight_decay, maximize)


class Adamax(Optimizer):
    """PyTorch's Adamax over a tree of params; see `adamax` for the rule and its arguments.

    Args:
        params: a tree of arrays, an nnx module, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
        foreach, differentiable, capturable: kept for export; without effect.
    """

    transformation = staticmethod(adamax)

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: Any = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        groups: Groups = None,
    ):
        super().__init__(params, arguments(locals()), groups)

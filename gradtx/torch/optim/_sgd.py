"""SGD."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.types import Params
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._domains import LearningRate, Momentum, WeightDecay
from gradtx.torch.optim._layout import LIKE_TORCH
from gradtx.torch.optim._optimizer import Groups, Optimizer, arguments
from gradtx.torch.optim._stages import TORCH_NAMES, as_torch, descend_along
from gradtx.transforms import momentum as momenta
from gradtx.values.domains import OFF, Number, OffAtZero, Vouched
from gradtx.values.factory import factory_of

trace = as_torch(momenta.trace, trace="momentum_buffer")


class DampenedTraceState(NamedTuple):
    """count, momentum_buffer: trees like the params, updates of each and the decaying sum of them."""

    count: Params
    momentum_buffer: Params


@leafwise(state=DampenedTraceState, layout=LIKE_TORCH, elementwise=True)
def dampened_trace(momentum: Number, dampening: Number, nesterov: bool = False):
    """Momentum that takes in a share of each gradient: bₜ = momentum·bₜ₋₁ + (1 − dampening)·gₜ.

    The first gradient is taken in whole.
    """

    def init(param):
        return dict(momentum_buffer=jnp.zeros_like(param))

    def update(grad, momentum_buffer, step):
        share = jnp.where(step == 1, 1, 1 - dampening)
        momentum_buffer = momentum * momentum_buffer + share * grad
        update = grad + momentum * momentum_buffer if nesterov else momentum_buffer
        return update, dict(momentum_buffer=momentum_buffer)

    return init, update


TORCH_NAMES["torch.optim.dampened_trace"] = {"count": ""}


@recipe
def sgd(
    lr: LearningRate = 1e-3,
    momentum: Momentum = 0,
    dampening: OffAtZero[Number] = 0,
    weight_decay: WeightDecay = 0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
) -> GradientTransformation:
    """PyTorch's SGD.

    With momentum, bₜ = momentum·bₜ₋₁ + (1 − dampening)·gₜ, b₁ = g₁, and the update is −lr·bₜ; with
    Nesterov's look-ahead −lr·(gₜ + momentum·bₜ).

    Args:
        lr: the step size, at least 0.
        momentum: share of the sum of gradients that is kept, at least 0. With 0 there is no state.
        dampening: share of each gradient, but the first, that the momentum leaves out.
        weight_decay: factor of L2 regularisation: g + weight_decay·p takes the place of g.
        nesterov: whether the momentum looks ahead; needs a momentum and no dampening.
        maximize: whether to climb.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.torch.optim.sgd(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.05
    """
    if nesterov and (momentum is OFF or not (dampening is OFF or isinstance(dampening, Vouched))):
        raise ValueError("torch.optim.sgd: Nesterov momentum requires a momentum and zero dampening")
    plain = dampening is OFF
    direction = trace(momentum, nesterov) if plain else dampened_trace(momentum, dampening, nesterov)
    return descend_along([] if momentum is OFF else [direction], lr, weight_decay, maximize)


class SGD(Optimizer):
    """PyTorch's SGD over a tree of params; see `sgd` for the rule and its arguments.

    Args:
        params: a tree of arrays, an nnx module, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
        foreach, differentiable, fused: kept for export; without effect.
    """

    transformation = staticmethod(sgd)
    slots_of_options = frozenset({"momentum_buffer"})

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: Any = 0,
        dampening: Any = 0,
        weight_decay: Any = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        groups: Groups = None,
    ):
        super().__init__(params, arguments(locals()), groups)

    def _options(self, group: Mapping[str, Any]) -> dict[str, Any]:
        options = super()._options(group)
        # In PyTorch nothing looks ahead where there is no momentum.
        is_off = factory_of(sgd).is_off("momentum", options["momentum"])
        return {**options, "nesterov": options["nesterov"] and not is_off}

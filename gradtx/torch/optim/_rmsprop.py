"""RMSprop."""

from collections.abc import Mapping
from typing import Annotated, Any

from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._domains import Epsilon, LearningRate, Momentum, WeightDecay, vouched
from gradtx.torch.optim._optimizer import Groups, Optimizer, arguments
from gradtx.torch.optim._sgd import trace
from gradtx.torch.optim._stages import as_torch, descend_along
from gradtx.transforms import adaptive
from gradtx.values.domains import OFF, Interval, ScalarOrSchedule

Alpha = Annotated[ScalarOrSchedule, Interval("[0, inf]", "Invalid alpha value: {}")]

scale_by_rms = as_torch(adaptive.scale_by_rms, adaptive.ScaleByRmsWithCountState, nu="square_avg")
scale_by_stddev = as_torch(
    adaptive.scale_by_stddev, adaptive.ScaleByRStdDevWithCountState, mu="grad_avg", nu="square_avg"
)


@recipe
def rmsprop(
    lr: LearningRate = 1e-2,
    alpha: Alpha = 0.99,
    eps: Epsilon = 1e-8,
    weight_decay: WeightDecay = 0,
    momentum: Momentum = 0,
    centered: bool = False,
    *,
    maximize: bool = False,
) -> GradientTransformation:
    """PyTorch's RMSprop: −lr·g / (√v + eps), with momentum on what is multiplied by lr.

    `gradtx.rmsprop`, as Optax's, adds eps inside the root, decays by 0.9, and multiplies by the learning
    rate before the momentum.

    Args:
        lr: the step size, at least 0.
        alpha: decay of v, the mean of squares, at least 0; in [0, 1) it is a mean.
        eps: added to the root, at least 0.
        weight_decay: factor of L2 regularisation, at least 0.
        momentum: share of the sum of directions that is kept, at least 0.
        centered: whether to subtract the squared mean from v.
        maximize: whether to climb.

    Source: Tieleman and Hinton, lecture 6.5 of Neural networks for machine learning, 2012.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.torch.optim.rmsprop(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -1 1
    """
    scale_by = scale_by_stddev if centered else scale_by_rms
    direction = [scale_by(vouched(alpha), eps, eps_in_sqrt=False)]
    if momentum is not OFF:
        direction.append(trace(momentum))
    return descend_along(direction, lr, weight_decay, maximize)


class RMSprop(Optimizer):
    """PyTorch's RMSprop over a tree of params; see `rmsprop` for the rule and its arguments.

    Args:
        params: a tree of arrays, an nnx module, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
        capturable, foreach, differentiable: kept for export; without effect.
    """

    transformation = staticmethod(rmsprop)
    slots_of_options = frozenset({"momentum_buffer", "grad_avg"})

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: Any = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        groups: Groups = None,
    ):
        super().__init__(params, arguments(locals()), groups)

    def _options(self, group: Mapping[str, Any]) -> dict[str, Any]:
        options = super()._options(group)
        below = isinstance(options["momentum"], float) and not options["momentum"] > 0
        return {**options, "momentum": 0.0} if below else options  # PyTorch has a momentum if it is above 0

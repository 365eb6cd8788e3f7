"""Adafactor."""

import math
from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import between, norm, rms, rounded
from gradtx.arrays.types import Params
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._domains import check
from gradtx.torch.optim._layout import LIKE_TORCH
from gradtx.torch.optim._optimizer import Groups, Optimizer, arguments
from gradtx.torch.optim._stages import gradient
from gradtx.values.domains import OFF, Interval, Number, OffAtZero, ScalarOrSchedule

LearningRate = Annotated[ScalarOrSchedule, Interval("[0, inf]", "Learning rate should be >= 0 but is: {}")]
Beta2Decay = Annotated[ScalarOrSchedule, Interval("[-inf, 0]", "beta2_decay should be <= 0 but is: {}")]
Threshold = Annotated[
    ScalarOrSchedule, Interval("[1, inf]", "Clipping threshold d should be >= 1 but is: {}")
]
WeightDecay = OffAtZero[
    Annotated[ScalarOrSchedule, Interval("[0, inf]", "weight_decay should be >= 0 but is: {}")]
]


class AdafactorState(NamedTuple):
    """count, row_var, col_var, variance: trees like the params, updates of each, the mean squares of
    its rows and columns, and of its numbers; of these the ones that a param does not need are empty."""

    count: Params
    row_var: Params
    col_var: Params
    variance: Params


@leafwise(
    state=AdafactorState, layout=LIKE_TORCH, real_only=True, unsigned=("row_var", "col_var", "variance")
)
def adafactor_descent(
    lr: LearningRate,
    beta2_decay: Beta2Decay,
    eps1: Number | None,
    eps2: Number,
    d: Threshold,
    weight_decay: WeightDecay,
):
    """The step of Adafactor; see `adafactor`."""

    def init(param):
        none = jnp.zeros((0,), param.dtype)
        if param.ndim < 2:
            return dict(row_var=none, col_var=jnp.copy(none), variance=jnp.zeros_like(param))
        # Sums, for their axes are sharded as those of the param.
        rows, columns = jnp.sum(param, -1, keepdims=True), jnp.sum(param, -2, keepdims=True)
        return dict(row_var=jnp.zeros_like(rows), col_var=jnp.zeros_like(columns), variance=none)

    def update(grad, param, row_var, col_var, variance, step):
        t, squares = step.astype(grad.dtype), grad * grad
        taken = t**beta2_decay
        kept = 1 - taken
        floor = jnp.finfo(grad.dtype).eps if eps1 is None else eps1
        if grad.ndim < 2:
            mean_square = variance = between(variance, squares, kept, taken)
        else:
            row_var = between(row_var, jnp.mean(squares, -1, keepdims=True), kept, taken)
            col_var = between(col_var, jnp.mean(squares, -2, keepdims=True), kept, taken)
            mean_square = row_var * col_var / jnp.maximum(jnp.mean(row_var, -2, keepdims=True), floor)
        direction = grad / jnp.sqrt(jnp.maximum(mean_square, floor * floor))
        rate = jnp.maximum(eps2, rms(param)) * jnp.minimum(lr, 1 / jnp.sqrt(t))
        rate = rate / jnp.maximum(1, norm(direction) / (math.sqrt(max(grad.size, 1)) * d))
        # Without a decay lr may be infinite: steps are then bounded by 1/√t alone.
        decayed = param if weight_decay is OFF else rounded(param * (1 - lr * weight_decay))
        new = decayed - rate * direction
        return new - param, dict(row_var=row_var, col_var=col_var, variance=variance)

    return init, update


@recipe
def adafactor(
    lr: LearningRate = 1e-2,
    beta2_decay: Beta2Decay = -0.8,
    eps: tuple[Any, Any] = (None, 1e-3),
    d: Threshold = 1.0,
    weight_decay: WeightDecay = 0.0,
    *,
    maximize: bool = False,
) -> GradientTransformation:
    """PyTorch's Adafactor: second moments kept as one row and one column per matrix.

    b2 = 1 − t^beta2_decay; R and C are decaying means of g² over the last axis and the one before,
    V = R·C / max(mean R, eps₁), u = g / √max(V, eps₁²); tensors of fewer than two axes keep V whole.
    p ← p·(1 − lr·weight_decay) − max(eps₂, rms(p))·min(lr, 1/√t) / max(1, rms(u)/d)·u.

    Args:
        lr: upper bound of the relative step size, at least 0.
        beta2_decay: power of the decay, at most 0.
        eps: eps₁, which keeps divisors above 0 (None: the machine epsilon of the dtype that is computed
            in, float32 for half-precision params), and eps₂, the least size of a param.
        d: the root mean square that u is clipped to, at least 1.
        weight_decay: decay of the params per step and lr, at least 0.
        maximize: whether to climb.

    Source: Shazeer and Stern, Adafactor, arXiv:1804.04235.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.torch.optim.adafactor(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    eps1, eps2 = eps
    check("torch.optim.adafactor", f"epsilon1 should be >= 0 but is: {eps1}", eps1, "[0, inf]")
    check("torch.optim.adafactor", f"epsilon2 should be >= 0 but is: {eps2}", eps2, "[0, inf]")
    return chain(*gradient(maximize), adafactor_descent(lr, beta2_decay, eps1, eps2, d, weight_decay))


class Adafactor(Optimizer):
    """PyTorch's Adafactor over a tree of params; see `adafactor` for the rule and its arguments.

    Args:
        params: a tree of arrays, an nnx module, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
        foreach: kept for export; without effect.
    """

    transformation = staticmethod(adafactor)
    real_only = True

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        groups: Groups = None,
    ):
        super().__init__(params, arguments(locals()), groups)

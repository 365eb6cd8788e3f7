"""Muon."""

import math
from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import decay_towards
from gradtx.arrays.types import Params
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.matrix.polynomials import newton_schulz
from gradtx.torch.optim._layout import LIKE_TORCH
from gradtx.torch.optim._optimizer import Groups, Optimizer, arguments
from gradtx.torch.optim._stages import descend_along
from gradtx.values.domains import Interval, Number, OffAtZero, ScalarOrSchedule, Static

LearningRate = Annotated[ScalarOrSchedule, Interval("[0, inf]", "Learning rate should be >= 0 but is: {}")]
WeightDecay = OffAtZero[
    Annotated[ScalarOrSchedule, Interval("[0, inf]", "weight decay should be >= 0 but is: {}")]
]
Momentum = Annotated[ScalarOrSchedule, Interval("[0, inf]", "momentum should be >= 0 but is: {}")]

SHAPE_FACTORS = {
    "original": lambda rows, columns: math.sqrt(max(1, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
}


class MuonState(NamedTuple):
    """momentum_buffer: a tree like the params, the mean of past gradients."""

    momentum_buffer: Params


@leafwise(state=MuonState, batch=True, layout=LIKE_TORCH, real_only=True)
def scale_by_torch_muon(
    momentum: Number,
    nesterov: bool,
    ns_coefficients: tuple[Any, Any, Any],
    eps: Number,
    ns_steps: Static[int],
    adjust_lr_fn: str | None,
    ns_dtype: str,
):
    """Muon's direction: the averaged gradient made orthogonal, times a factor for the shape."""

    def init(param):
        _check_matrix(param.shape)
        return dict(momentum_buffer=jnp.zeros_like(param))

    def update(grad, momentum_buffer):
        _check_matrix(grad.shape)
        momentum_buffer = decay_towards(momentum_buffer, grad, momentum)
        direction = decay_towards(momentum_buffer, grad, momentum) if nesterov else momentum_buffer
        direction = newton_schulz(direction.astype(ns_dtype), ns_coefficients, ns_steps, eps)
        factor = SHAPE_FACTORS[adjust_lr_fn or "original"](*grad.shape)
        return factor * direction.astype(grad.dtype), dict(momentum_buffer=momentum_buffer)

    return init, update


def _check_matrix(shape: tuple[int, ...]) -> None:
    if len(shape) != 2:
        raise ValueError(
            f"Muon only supports 2D parameters whereas we found a parameter with size: {shape}; "
            "give the others to AdamW"
        )


@recipe
def muon(
    lr: LearningRate = 1e-3,
    weight_decay: WeightDecay = 0.1,
    momentum: Momentum = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[Any, Any, Any] = (3.4445, -4.775, 2.0315),
    eps: Number = 1e-7,
    ns_steps: Static[int] = 5,
    adjust_lr_fn: str | None = None,
    *,
    ns_dtype: str = "bfloat16",
) -> GradientTransformation:
    """PyTorch's Muon: steps along the averaged gradient made orthogonal, for matrices alone.

    B ← momentum·B + (1 − momentum)·g, p ← p·(1 − lr·weight_decay) − lr·factor·NS(B), where NS is
    Newton–Schulz and, with `nesterov`, looks ahead to (1 − momentum)·g + momentum·B.

    Args:
        lr: the step size, at least 0.
        weight_decay: decay of the params per step and lr, at least 0.
        momentum: share of the mean that is kept.
        nesterov: whether the momentum looks ahead.
        ns_coefficients: the polynomial of Newton–Schulz.
        eps: lower bound of the norm that a direction is divided by.
        ns_steps: applications of the polynomial, below 100.
        adjust_lr_fn: the factor for an n × m matrix: ``"original"`` (or None), √max(1, n/m), or
            ``"match_rms_adamw"``, 0.2·√max(n, m).
        ns_dtype: dtype of Newton–Schulz; PyTorch's is bfloat16.

    Source: Jordan et al., Muon, 2024; Liu et al., Muon is scalable for LLM training, arXiv:2502.16982.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.torch.optim.muon(0.1), {"w": jnp.eye(2)}
        >>> grads = {"w": jnp.array([[3.0, 0.0], [0.0, 1.0]])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"].ravel()))
        -0.0846 0 0 -0.123
    """
    if ns_steps >= 100:
        raise ValueError(
            "torch.optim.muon: Number of steps must be less than 100 for computational efficiency"
        )
    if len(ns_coefficients) != 3:
        raise ValueError("torch.optim.muon: Coefficients must be a tuple of exactly 3 values")
    if adjust_lr_fn is not None and adjust_lr_fn not in SHAPE_FACTORS:
        raise ValueError(
            f"torch.optim.muon: Adjust learning rate function {adjust_lr_fn} is not supported; "
            f"there are: {', '.join(SHAPE_FACTORS)}"
        )
    direction = scale_by_torch_muon(
        momentum, nesterov, ns_coefficients, eps, ns_steps, adjust_lr_fn, ns_dtype
    )
    return descend_along([direction], lr, weight_decay, decoupled=True)


class Muon(Optimizer):
    """PyTorch's Muon over a tree of matrices; see `muon` for the rule and its arguments.

    Args:
        params: a tree of 2-D arrays, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
        ns_dtype: dtype of Newton–Schulz, which PyTorch does not let you choose.
    """

    transformation = staticmethod(muon)
    real_only = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        ns_dtype: str = "bfloat16",
        groups: Groups = None,
    ):
        super().__init__(params, arguments(locals()), groups)

    def check_param(self, path: str, param: Any) -> None:
        _check_matrix(param.shape)

"""SparseAdam."""

from typing import Annotated, Any

import jax.numpy as jnp

from gradtx.arrays.errors import is_sparse
from gradtx.arrays.numerics import decay_towards, one_minus_power, sqrt
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._domains import Betas, check_betas
from gradtx.torch.optim._layout import LIKE_TORCH
from gradtx.torch.optim._optimizer import Groups, Optimizer, arguments
from gradtx.torch.optim._radam import MomentsState
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.domains import Decay, Interval, NonNegative, ScalarOrSchedule

LearningRate = Annotated[ScalarOrSchedule, Interval("(0, inf]", "Invalid learning rate: {}")]
Epsilon = Annotated[ScalarOrSchedule, Interval("(0, inf]", "Invalid epsilon value: {}")]

DENSE = "SparseAdam does not support dense gradients, please consider Adam instead"


@leafwise(state=MomentsState, layout=LIKE_TORCH, real_only=True, elementwise=True)
def scale_by_lazy_adam(b1: Decay, b2: Decay, eps: NonNegative, maximize: bool):
    """Adam's direction where a sparse gradient has entries; elsewhere nothing moves or decays.

    m and v as in Adam; the update is m/(1 − b1ᵗ)·√(1 − b2ᵗ) / (√v + eps).
    """

    def init(param):
        return dict(exp_avg=jnp.zeros_like(param), exp_avg_sq=jnp.zeros_like(param))

    def update(grad, exp_avg, exp_avg_sq, step):
        if not is_sparse(grad):
            raise RuntimeError(DENSE)
        dense = -grad.todense() if maximize else grad.todense()
        # An entry counts even if it is 0, and several of one place are one entry.
        ones = type(grad)((jnp.ones_like(grad.data), grad.indices), shape=grad.shape)
        entries = ones.todense() > 0
        exp_avg = jnp.where(entries, decay_towards(exp_avg, dense, b1), exp_avg)
        exp_avg_sq = jnp.where(entries, decay_towards(exp_avg_sq, dense * dense, b2), exp_avg_sq)
        t = step.astype(dense.dtype)
        factor = sqrt(one_minus_power(b2, t)) / one_minus_power(b1, t)
        direction = jnp.where(entries, factor * exp_avg / (sqrt(exp_avg_sq) + eps), 0)
        return direction, dict(exp_avg=exp_avg, exp_avg_sq=exp_avg_sq)

    return init, update


@recipe
def sparse_adam(
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    *,
    maximize: bool = False,
) -> GradientTransformation:
    """PyTorch's SparseAdam: Adam for sparse gradients, where only what has a gradient moves.

    p ← p − lr·√(1 − b2ᵗ)/(1 − b1ᵗ)·m / (√v + eps) where there is a gradient.

    Gradients are `jax.experimental.sparse.BCOO`, also with dense axes (rows of an embedding); updates are
    dense. Moments of entries without a gradient do not decay. The step t counts every update of the
    param.

    Args:
        lr: the step size, above 0.
        betas: decays of the first and second moment, in [0, 1).
        eps: added to the root before that is corrected, above 0.
        maximize: whether to climb.

    Source: Kingma and Ba, Adam, arXiv:1412.6980.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> from jax.experimental.sparse import BCOO
        >>> tx, params = gradtx.torch.optim.sparse_adam(0.1), {"w": jnp.ones(3)}
        >>> grads = {"w": BCOO.fromdense(jnp.array([0.0, 2.0, 0.0]))}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0 -0.1 -0
    """
    b1, b2 = check_betas("torch.optim.sparse_adam", betas)
    return chain(scale_by_lazy_adam(b1, b2, eps, maximize), scale_by_learning_rate(lr))


class SparseAdam(Optimizer):
    """PyTorch's SparseAdam over a tree of dense params with sparse gradients; see `sparse_adam`.

    Args:
        params: a tree of arrays, an nnx module, or groups; see `Optimizer`.
        groups: groups by path pattern; see `Optimizer`.
    """

    transformation = staticmethod(sparse_adam)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
        *,
        groups: Groups = None,
    ):
        super().__init__(params, arguments(locals()), groups)

    def check_param(self, path: str, param: Any) -> None:
        if jnp.iscomplexobj(param):
            raise ValueError(
                f"Complex params at indices [{path}]: SparseAdam does not support complex parameters"
            )

    def check_grad(self, grad: Any) -> Any:
        if grad is not None and not is_sparse(grad):
            raise RuntimeError(DENSE)
        return grad

    def _rows(self, i: int) -> list[dict[str, Any]]:
        # PyTorch counts the steps of this one in a Python int.
        return [{**row, "step": int(row["step"])} if row else row for row in super()._rows(i)]

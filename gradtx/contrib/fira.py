"""Fira: Adam in a subspace of low rank, and outside of it gradients scaled as Adam scales those inside."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.cond import cond
from gradtx.arrays.meshes import sharded_like, whole
from gradtx.arrays.numerics import abs_sq, cast, decay_towards, real_dtype, real_like, sqrt
from gradtx.arrays.types import Array, Params, Selector
from gradtx.contrib.apollo import corrections, limited, projects, tall
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.linear_algebra.singular import singular_vectors
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.domains import AtLeastOne, Count, Decay, NonNegative, Number


class ScaleByFiraState(NamedTuple):
    """count: int32 scalar, updates so far; mu, nu: trees like the params, the moments of the projected
    gradients; projector: a tree like the params, the columns that span the subspaces, with shape (0, 0) for
    what has none; norm: a tree of scalars, how long the last update outside of the subspace was."""

    count: Array
    mu: Params
    nu: Params
    projector: Params
    norm: Params


@leafwise(state=ScaleByFiraState, batch=True, unsigned=("nu", "norm"))
def scale_by_fira(
    rank: Count = 128,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    update_proj_gap: AtLeastOne = 200,
    max_growth: AtLeastOne = 1.01,
):
    """Fira's direction: GaLore's, and what GaLore leaves out, scaled as Adam scales what it does not.

    For a matrix Gₜ of shape (m, n) with m ≥ n, Rₜ = Gₜ·Q, where the columns of Q are the first right singular
    vectors of the gradient at every update_proj_gap-th update, from the first on. M and V are Adam's moments
    of R, and N = M / (√V + eps). What is left, Gₜ − Rₜ·Qᵀ, is scaled row by row by ‖N‖/(‖R‖ + 1e-8) and
    shortened to max_growth times the norm of the one before: Sₜ. The update is
    √(1 − b2ᵗ)/(1 − b1ᵗ)·(N·Qᵀ + Sₜ). Wide matrices are turned.

    What is no matrix, and a matrix whose shorter side is no longer than the rank, gets Adam's direction,
    √(1 − b2ᵗ)/(1 − b1ᵗ)·M / (√V + eps).

    Args:
        rank: a whole number of at least 1.
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        eps: added to the root before it is corrected for its start at 0, at least 0.
        update_proj_gap: after how many updates the subspaces are chosen anew, at least 1. Derivatives take
            them as constant.
        max_growth: how much longer than the last a part outside of the subspace may be, at least 1.

    Source: Chen et al., Fira: can we achieve full-rank training of LLMs under low-rank constraint?,
    arXiv:2410.01623.
    """

    def init(param):
        moment, projector = param, jnp.zeros((0, 0), param.dtype)
        if projects(param.shape, rank):
            # Sums, for their axes are sharded as those of the param.
            G = tall(param, param.shape, rank)
            rows, columns = (jnp.sum(G, axis, keepdims=True) for axis in (1, 0))
            moment = jnp.broadcast_to(rows, (G.shape[0], rank))
            projector = jnp.zeros_like(jnp.broadcast_to(columns.T, (G.shape[1], rank)))
        return dict(
            mu=jnp.zeros_like(moment),
            nu=real_like(moment),
            projector=projector,
            norm=jnp.zeros([], real_dtype(param)),
        )

    def spanning(G):
        _, _, vectors = singular_vectors(whole(jax.lax.stop_gradient(G)))
        return vectors[:rank].conj().T

    def update(grad, mu, nu, projector, norm, step):
        G = R = tall(grad, grad.shape, rank)
        within, Q = projects(grad.shape, rank), whole(projector)
        if within:
            due = (step - 1) % update_proj_gap == 0
            Q = cond(due, lambda G, Q: cast(spanning(G), Q.dtype), lambda G, Q: Q, G, Q)
            projector = sharded_like(projector, Q)
            R = whole(G, [1]) @ Q
        mu = decay_towards(mu, R, b1)
        nu = decay_towards(nu, abs_sq(R), b2)
        N = mu / (sqrt(nu) + eps)
        if within:
            sizes = [sqrt(jnp.sum(abs_sq(x), 1, keepdims=True)) for x in (N, R)]
            left = (G - sharded_like(G, R @ Q.conj().T)) * (sizes[0] / (sizes[1] + 1e-8))
            S, norm = limited(left, norm, max_growth)
            N = sharded_like(G, N @ Q.conj().T) + S
        direction = corrections(b1, b2, step, nu.dtype) * tall(N, grad.shape, rank)
        return direction, dict(mu=mu, nu=nu, projector=projector, norm=norm)

    return init, update


@recipe
def fira(
    learning_rate: Number,
    rank: Count = 128,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    update_proj_gap: AtLeastOne = 200,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """Fira: AdamW with moments of low rank, whose steps have full rank all the same.

    p ← p − learning_rate·(√(1 − b2ᵗ)/(1 − b1ᵗ)·(N·Qᵀ + S) + weight_decay·p), with Adam's direction N in a
    subspace Q, and the rest of the gradient scaled to S, as in `scale_by_fira`.

    Args:
        learning_rate: the step size.
        rank, b1, b2, eps, update_proj_gap: as in `scale_by_fira`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Chen et al., Fira: can we achieve full-rank training of LLMs under low-rank constraint?,
    arXiv:2410.01623.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.fira(0.1), {"w": jnp.eye(2)}
        >>> grads = {"w": jnp.array([[3.0, 0.0], [0.0, 1.0]])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"].ravel()))
        -0.1 -0 -0 -0.1
    """
    return chain(
        scale_by_fira(rank, b1, b2, eps, update_proj_gap),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

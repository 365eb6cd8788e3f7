"""APOLLO: gradients scaled as Adam would scale them, judged by a random projection of low rank."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.meshes import whole
from gradtx.arrays.numerics import abs_sq, decay_towards, norm, one_minus_power, real_dtype, real_like, sqrt
from gradtx.arrays.types import Array, Params, Scalar, Selector
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.domains import AtLeastOne, Count, Decay, NonNegative, Number


class ScaleByApolloState(NamedTuple):
    """count: int32 scalar, updates so far; seed: uint32 scalar; stream: a tree of uint32 scalars, the seeds
    of each param's projections; mu, nu: trees like the params, the moments of the projected gradients; norm:
    a tree of scalars, how long the last update was."""

    count: Array
    seed: Array
    stream: Params
    mu: Params
    nu: Params
    norm: Params


def corrections(b1: Scalar, b2: Scalar, step: Array, dtype: jnp.dtype) -> Array:
    """√(1 − b2ᵗ) / (1 − b1ᵗ), what debiased moments would make of a direction of Adam's."""
    step = step.astype(dtype)
    return sqrt(one_minus_power(b2, step)) / one_minus_power(b1, step)


def limited(x: Array, last: Array, growth: Scalar) -> tuple[Array, Array]:
    """x, shortened to at most `growth` times the last norm where there was one, and its norm."""
    size = norm(x)
    none = last <= 0  # so that after a NaN, with which no comparison holds, all is NaN
    excess = jnp.where(none, 1, jnp.maximum(size / (jnp.where(none, 1, last) + 1e-8), growth) / growth)
    return x / excess, size / excess


def projects(shape: tuple[int, ...], rank: int) -> bool:
    """Whether tensors of this shape are matrices that something is saved by projecting."""
    return len(shape) == 2 and min(shape) > rank


def tall(x: Array, shape: tuple[int, ...], rank: int) -> Array:
    """x, turned where a matrix of this shape that is projected is wide; turning it again turns it back."""
    return x.T if projects(shape, rank) and shape[0] < shape[1] else x


@leafwise(state=ScaleByApolloState, unsigned=("nu", "norm"))
def scale_by_apollo(
    rank: Count = 256,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    scale: NonNegative = 1.0,
    update_proj_gap: AtLeastOne = 200,
    max_growth: AtLeastOne = 1.01,
    per_tensor: bool = False,
    seed: int = 0,
):
    """APOLLO's direction: the gradient, each of its channels as long as Adam would make it.

    For a matrix Gₜ of shape (m, n) with m ≥ n, Rₜ = Gₜ·Q with Q of shape (n, rank) and normal numbers of
    variance 1/rank, which are drawn anew every update_proj_gap updates and not kept. M and V are Adam's
    moments of R, and N = M / (√V + eps). Each row is scaled, Sₜ = Gₜ·‖N‖/(‖R‖ + 1e-8) with norms by row;
    Sₜ is shortened to max_growth times the norm of the one before, and the update is
    √scale·√(1 − b2ᵗ)/(1 − b1ᵗ)·Sₜ. Wide matrices are turned, so that a channel is a column.

    What is no matrix, and a matrix whose shorter side is no longer than the rank, gets Adam's direction,
    √(1 − b2ᵗ)/(1 − b1ᵗ)·M / (√V + eps).

    Args:
        rank: a whole number of at least 1.
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        eps: added to the root before it is corrected for its start at 0, at least 0.
        scale: the square of a factor of the updates of matrices: 1 with a large rank, 128 with rank 1.
        update_proj_gap: after how many updates new projections are drawn, at least 1.
        max_growth: how much longer than the last an update may be, at least 1.
        per_tensor: whether one norm scales all channels, as with rank 1. Default: no.
        seed: where the random numbers of a new state begin.

    Source: Zhu et al., APOLLO: SGD-like memory, AdamW-level performance, arXiv:2412.05270.
    """

    def init(param, key):
        moment, shape = param, param.shape
        if projects(shape, rank):
            # A sum, for its axes are sharded as those of the param.
            line = jnp.sum(tall(param, shape, rank), 1, keepdims=True)
            moment = jnp.broadcast_to(line, (line.shape[0], rank))
        return dict(
            stream=jax.random.bits(key, (), jnp.uint32),
            mu=jnp.zeros_like(moment),
            nu=real_like(moment),
            norm=jnp.zeros([], real_dtype(param)),
        )

    def update(grad, stream, mu, nu, norm, step):
        shape, seen = grad.shape, grad
        if projects(shape, rank):
            epoch = ((step - 1) // update_proj_gap).astype(jnp.int32)
            key = jax.random.fold_in(jax.random.key(stream), epoch)
            G = tall(grad, shape, rank)
            Q = jax.random.normal(key, (G.shape[1], rank), nu.dtype) / rank**0.5
            seen = whole(G, [1]) @ Q
        mu = decay_towards(mu, seen, b1)
        nu = decay_towards(nu, abs_sq(seen), b2)
        direction = mu / (sqrt(nu) + eps)
        if projects(shape, rank):
            axis = None if per_tensor else 1
            sizes = [sqrt(jnp.sum(abs_sq(x), axis, keepdims=True)) for x in (direction, seen)]
            scaled = tall(sizes[0] / (sizes[1] + 1e-8), shape, rank) * grad
            direction, norm = limited(scaled, norm, max_growth)
            direction = scale**0.5 * direction
        corrected = corrections(b1, b2, step, nu.dtype) * direction
        return corrected, dict(stream=stream, mu=mu, nu=nu, norm=norm)

    return init, update


@recipe
def apollo(
    learning_rate: Number,
    rank: Count = 256,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    scale: NonNegative = 1.0,
    update_proj_gap: AtLeastOne = 200,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
    seed: int = 0,
) -> GradientTransformation:
    """APOLLO: AdamW's step sizes from moments of low rank: little state for matrices, and no decompositions.

    p ← p − learning_rate·(S + weight_decay·p), where S is the gradient, each of its channels as long as
    Adam would make it, √scale·‖N‖/‖R‖·G, as in `scale_by_apollo`.

    Args:
        learning_rate: the step size.
        rank, b1, b2, eps, scale, update_proj_gap, seed: as in `scale_by_apollo`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> tx = gradtx.contrib.apollo(1e-2, rank=4)
        >>> state = tx.init({"kernel": jnp.ones((64, 32)), "bias": jnp.ones(32)})
        >>> jax.tree.map(jnp.shape, gradtx.tree.get(state, "mu"))
        {'bias': (32,), 'kernel': (64, 4)}

    Source: Zhu et al., APOLLO: SGD-like memory, AdamW-level performance, arXiv:2412.05270.
    """
    return chain(
        scale_by_apollo(rank, b1, b2, eps, scale, update_proj_gap, seed=seed),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@recipe
def apollo_mini(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    scale: NonNegative = 128.0,
    update_proj_gap: AtLeastOne = 200,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
    seed: int = 0,
) -> GradientTransformation:
    """APOLLO-Mini: APOLLO of rank 1, with one scale for each matrix: hardly any state for matrices.

    p ← p − learning_rate·(√scale·‖N‖/‖R‖·G + weight_decay·p), with the norms of `scale_by_apollo` over
    whole matrices.

    Args:
        learning_rate: the step size.
        b1, b2, eps, scale, update_proj_gap, seed: as in `scale_by_apollo`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Zhu et al., APOLLO: SGD-like memory, AdamW-level performance, arXiv:2412.05270.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.apollo_mini(0.1), {"w": jnp.ones((1024, 1024))}
        >>> print(f"{gradtx.bytes_of(tx, params).per_parameter:.2f} bytes of state for each number")
        0.01 bytes of state for each number
    """
    return chain(
        scale_by_apollo(1, b1, b2, eps, scale, update_proj_gap, per_tensor=True, seed=seed),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

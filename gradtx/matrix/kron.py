"""PSGD Kron: momentum whitened by a factor for the rows and one for the columns, which are fitted to it."""

import math
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.cond import cond
from gradtx.arrays.meshes import everywhere, sharded_like, whole
from gradtx.arrays.numerics import bounding_factor, cast, debias, decay_towards, quotient, sqrt
from gradtx.arrays.types import Array, Params, Scalar, Selector
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.matrix.axes import joined, matrix_axes, pieces, sizes
from gradtx.matrix.partner import descending
from gradtx.schedules.decay import exponential_decay
from gradtx.transforms.rounding import random_bits_of
from gradtx.values.domains import (
    Count,
    Decay,
    DType,
    Interval,
    NonNegative,
    Number,
    Positive,
    ScalarOrSchedule,
)

Share = Annotated[ScalarOrSchedule, Interval("[0, 1]")]
Rate = Annotated[ScalarOrSchedule, Interval("[0, 1)")]

ANNEALED = exponential_decay(1.0, 1000, math.exp(-1), transition_begin=500, end_value=0.03)
"""Every step for 500 steps, then less and less often: from step 4000 on, 3 times in 100."""


class ScaleByKronState(NamedTuple):
    """Where PSGD Kron stands.

    count: int32 scalar, updates so far;
    seed: uint32 scalar, where the random numbers began;
    mu: a tree like the params, the mean of past gradients;
    factors: for each param a list, of the factors of the rows and of the columns of its matrices: upper
        triangular matrices, or vectors, which are the diagonals of diagonal ones;
    rejected: a tree of int32 scalars, how often new factors were not finite and the old ones stayed.
    """

    count: Array
    seed: Array
    mu: Params
    factors: Params
    rejected: Params


def is_due(step: Array, share: Scalar) -> Array:
    """Whether a step is among a share of all, spread evenly: by multiples of the golden ratio, modulo 1."""
    place = (step.astype(jnp.uint32) * jnp.uint32(2654435769)) >> 8
    return place.astype(jnp.float32) < share * 2**24


def times(q: Array, x: Array) -> Array:
    """Q·X."""
    return q @ x if q.ndim == x.ndim else q[..., None] * x


def times_gram(q: Array, x: Array) -> Array:
    """Qᵀ·Q·X."""
    return q.mT @ (q @ x) if q.ndim == x.ndim else jnp.square(q)[..., None] * x


def solved(q: Array, x: Array) -> Array:
    """Q⁻ᵀ·X."""
    if q.ndim < x.ndim:
        return x / q[..., None]
    return jax.lax.linalg.triangular_solve(q, x, left_side=True, lower=False, transpose_a=True)


def spectral_norm(c: Array) -> Array:
    """About the spectral norm of symmetric matrices, never above it: a power step from the longest column."""
    c, size = scaled(c)
    lengths = jnp.sum(jnp.square(c), axis=-2)
    # The column as a product, for it takes longer to compile an argmax and a slice.
    longest = (lengths == jnp.max(lengths, axis=-1, keepdims=True, initial=0)).astype(c.dtype)
    x = c @ (c @ longest[..., None])
    return size * length(c @ x) * quotient(1, length(x))


def scaled(c: Array) -> tuple[Array, Array]:
    """Matrices whose largest entry is 1, and what that was."""
    size = jnp.max(jnp.abs(c), axis=(-2, -1), keepdims=True, initial=0)
    return c * quotient(1, size), size


def length(x: Array) -> Array:
    """The norm of columns."""
    return sqrt(jnp.sum(jnp.square(x), axis=-2, keepdims=True))


def normal(key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
    """Normal numbers; from bits that take a tenth of the time to compile that JAX's own do."""
    bits = random_bits_of(key, shape) >> 8
    return 2**0.5 * jax.scipy.special.erfinv((bits.astype(dtype) + 0.5) / 2**23 - 1)


def moved(q: Array, a: Array, b: Array, rate: Scalar) -> Array:
    """Q, a step nearer to where A·Aᵀ = B·Bᵀ."""
    if q.ndim == a.ndim:
        whitened, probe = a @ a.mT, b @ b.mT
        return q - rate * quotient(1, spectral_norm(whitened + probe)) * jnp.triu(whitened - probe) @ q
    whitened, probe = (jnp.sum(jnp.square(x), axis=-1) for x in (a, b))
    size = jnp.max(whitened + probe, axis=-1, keepdims=True, initial=0)
    return q - rate * quotient(1, size) * (whitened - probe) * q


def balanced(q: Array, p: Array) -> tuple[Array, Array]:
    """The two factors, equally large: their product is the same."""
    factor = sqrt(quotient(size_of(p), size_of(q)))
    return q * spread(factor, q), p * spread(quotient(1, factor), p)


def size_of(q: Array) -> Array:
    """The largest magnitude in each factor of a stack."""
    return jnp.max(jnp.abs(q), axis=tuple(range(1, q.ndim)), initial=0)


def spread(numbers: Array, like: Array) -> Array:
    """Numbers, one for each in a stack, with axes of size 1 for all others that the stack has."""
    return numbers.reshape(-1, *(1,) * (like.ndim - 1))


@leafwise(
    state=ScaleByKronState,
    by_leaf={"weight_dimension_numbers": matrix_axes},
    batch=True,
    others="hidden",
    real_only=True,
)
def scale_by_kron(
    b1: Decay = 0.9,
    probability: Share = ANNEALED,
    factor_rate: Rate = 0.1,
    damping: NonNegative = 2**-11.5,
    max_rms: Positive = 1.1,
    mu_dtype: DType = None,
    *,
    max_dim: Count = 8192,
    seed: int = 0,
    weight_dimension_numbers: Selector | None = None,
):
    """PSGD Kron's direction: the mean of past gradients, whitened from both sides.

    mₜ = b1·mₜ₋₁ + (1 − b1)·Gₜ; the update is QᵀQ·m̂·PᵀP, with Q and P upper triangular, and m̂ debiased. They
    are fitted to m̂ with a probe V of normal numbers: where A = Q·(m̂ + damping·mean|m̂|·V)·Pᵀ and
    B = Q⁻ᵀ·V·P⁻¹, Q ← Q − factor_rate·triu(A·Aᵀ − B·Bᵀ)·Q / ‖A·Aᵀ + B·Bᵀ‖, and P the same with AᵀA and BᵀB.

    Args:
        b1: decay of the mean, in [0, 1).
        probability: at which share of the steps the factors move, from 0 to 1, or a schedule of it; spread
            evenly, and the same for all params. Default: 1 for 500 steps, then falling to 0.03 at step 4000.
        factor_rate: how far they move, in [0, 1), where Q and P stay regular.
        damping: how much noise keeps factors bounded where gradients vanish, at least 0.
        max_rms: the root mean square that no update of a matrix exceeds, above 0.
        mu_dtype: dtype of the mean. Default: the params', at least float32.
        max_dim: the largest side whose factor is a triangular matrix; a larger one's is diagonal, as is that
            of a side of 1.
        seed: where the random numbers of a new state begin.
        weight_dimension_numbers: as in `scale_by_muon`.

    Between two moves there is nothing to do for the factors: the branch hangs on the step alone, not on the
    param, so that a stack of matrices skips them as a single one does. (Under `jax.vmap` over the state, it
    does not.) A factor that is not finite is not taken: the old ones stay, and the state counts it in
    ``rejected``. Derivatives take factors as constant.

    Raises:
        ValueError: at `init`, for a tensor that is no matrix, or axes and parts that do not fit it.
        RuntimeError: for complex tensors.

    Source: Li, Stochastic Hessian fittings on Lie groups, arXiv:2402.11858, and psgd_torch; what is left
    open there as in Walters' kron_torch 0.3.3.
    """
    name = "scale_by_kron"
    axes: Any = weight_dimension_numbers

    def init(param):
        shapes = [(count, n) for count, *own in sizes(name, param.shape, axes) for n in own]
        factors = [
            jnp.broadcast_to(jnp.eye(n, dtype=param.dtype), (count, n, n))
            if 1 < n <= max_dim
            else jnp.ones((count, n), param.dtype)
            for count, n in shapes
        ]
        mu = jnp.zeros_like(param, dtype=mu_dtype)
        return dict(mu=mu, factors=factors, rejected=jnp.zeros([], jnp.int32))

    def fitted(m: Array, q: Array, p: Array, key: Array) -> tuple[Array, Array]:
        q, p = balanced(q, p)
        v = normal(key, m.shape, m.dtype)
        m = m + damping * jnp.mean(jnp.abs(m), axis=(-2, -1), keepdims=True) * v
        a = times(p, times(q, m).mT).mT
        b = solved(p, solved(q, v).mT).mT
        return moved(q, a, b, factor_rate), moved(p, a.mT, b.mT, factor_rate)

    def update(grad, mu, factors, rejected, step, key):
        mu = decay_towards(mu, grad, b1)
        stacks = pieces(name, whole(debias(mu, b1, step)), axes)
        factors = [cast(q, mu.dtype) for q in factors]

        def move(factors: list[Array], rejected: Array) -> tuple[list[Array], Array]:
            new: list[Array] = []
            for i, m in enumerate(stacks):
                q, p = old = factors[2 * i : 2 * i + 2]
                if not m.size:
                    new += old
                    continue
                pair = fitted(jax.lax.stop_gradient(m), q, p, jax.random.fold_in(key, i))
                finite = [jnp.all(jnp.isfinite(x), axis=tuple(range(1, x.ndim))) for x in pair]
                good = finite[0] & finite[1]
                for x, kept in zip(pair, old, strict=True):
                    new.append(jnp.where(spread(good, x), x, kept))
                rejected = rejected + jnp.sum(~good, dtype=jnp.int32)
            return new, rejected

        factors, rejected = cond(
            is_due(step, probability),
            move,
            lambda factors, rejected: (factors, rejected),
            *jax.lax.stop_gradient((factors, rejected)),
        )
        factors = list(map(everywhere, factors))
        out: list[Array] = []
        for i, m in enumerate(stacks):
            q, p = factors[2 * i : 2 * i + 2]
            u = times_gram(p, times_gram(q, m).mT).mT
            square = jnp.sum(jnp.square(u), axis=(-2, -1), keepdims=True) / max(math.prod(u.shape[-2:]), 1)
            out.append(bounding_factor(sqrt(square), max_rms) * u)
        direction = sharded_like(grad, joined(name, out, grad.shape, axes))
        return direction, dict(mu=mu, factors=factors, rejected=rejected)

    return init, update


@recipe
def kron(
    learning_rate: Number,
    b1: Decay = 0.9,
    probability: Share = ANNEALED,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector | None = None,
    factor_rate: Rate = 0.1,
    damping: NonNegative = 2**-11.5,
    max_rms: Positive = 1.1,
    mu_dtype: DType = None,
    *,
    max_dim: Count = 8192,
    seed: int = 0,
    weight_dimension_numbers: Selector | None = None,
    others: GradientTransformation | None = None,
) -> GradientTransformation:
    """PSGD Kron: momentum whitened by two factors that learn to, for matrices; everything else by AdamW.

    W ← W − learning_rate·(U + weight_decay·W), with U as in `scale_by_kron`.

    Args:
        learning_rate: the step size; a third of AdamW's is where its authors begin.
        b1, probability, factor_rate, damping, max_rms, mu_dtype, max_dim, seed: as in `scale_by_kron`.
        weight_decay: strength of the decay of matrices, which is multiplied by the learning rate.
        weight_decay_mask: which of them decay, as in `add_decayed_weights`. Default: all.
        weight_dimension_numbers: the axes that make matrices, as in `scale_by_muon`; None for a param gives
            it to the others. Default: tensors with two axes are matrices.
        others: the optimizer of the rest. Default: ``adamw(learning_rate)``.

    Raises:
        ValueError, RuntimeError: as `scale_by_kron`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.kron(3e-4, max_dim=4, others=gradtx.adamw(1e-3))
        >>> params = {"kernel": jnp.ones((3, 8)), "bias": jnp.ones(8)}
        >>> state = tx.init(params)
        >>> [q.shape for q in gradtx.tree.get(state.inner_states["kron"], "factors")["kernel"]]
        [(1, 3, 3), (1, 8)]

    Source: Li, Stochastic Hessian fittings on Lie groups, arXiv:2402.11858, and psgd_torch; what is left
    open there as in Walters' kron_torch 0.3.3.
    """
    direction = scale_by_kron(
        b1,
        probability,
        factor_rate,
        damping,
        max_rms,
        mu_dtype,
        max_dim=max_dim,
        seed=seed,
        weight_dimension_numbers=weight_dimension_numbers,
    )
    return descending(
        "kron", direction, learning_rate, weight_decay, weight_decay_mask, others, weight_dimension_numbers
    )

"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.meshes import sharded_like, whole
from gradtx.arrays.numerics import decay_towards, one_minus_power, sqrt
from gradtx.arrays.types import Array, Params, Selector
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.matrix.axes import in_blocks, joined, matrix_axes, pieces, sizes
from gradtx.matrix.bases import (
    Side,
    check_method,
    followed,
    grams,
    identities,
    no_moments,
    on_stack,
    renewed,
    seen_anew,
    side,
    turned,
    turned_back,
)
from gradtx.matrix.partner import descending
from gradtx.values.domains import Count, Decay, NonNegative, Number


class ScaleBySOAPState(NamedTuple):
    """Where SOAP stands.

    count: int32 scalar, updates so far;
    mu: a tree like the params, the mean of past gradients in the bases;
    nu: a tree like the params, the mean of their squares there;
    cov: for each param a list, of the means of G·Gᵀ and Gᵀ·G of its matrices; empty for a side without basis;
    basis: the same, of orthogonal matrices;
    rejected: a tree of int32 scalars, how often new bases were not finite and the old ones stayed.
    """

    count: Array
    mu: Params
    nu: Params
    cov: Params
    basis: Params
    rejected: Params


@leafwise(
    state=ScaleBySOAPState,
    by_leaf={"weight_dimension_numbers": matrix_axes},
    unsigned=("nu",),
    batch=True,
    every="every",
    spread="stagger",
    others="hidden",
    real_only=True,
)
def scale_by_soap(
    b1: Decay = 0.95,
    b2: Decay = 0.95,
    b3: Decay | None = None,
    eps: NonNegative = 1e-8,
    every: Count = 10,
    *,
    max_dim: Count = 10000,
    block_size: Count | None = None,
    one_sided: bool = False,
    method: str = "qr",
    stagger: bool = True,
    weight_dimension_numbers: Selector | None = None,
):
    """SOAP's direction: Adam's, in a basis of eigenvectors for the rows and one for the columns.

    Lₜ = b3·Lₜ₋₁ + (1 − b3)·Gₜ·Gₜᵀ, Rₜ the same of Gₜᵀ·Gₜ, with bases of eigenvectors Q and P;
    mₜ = b1·mₜ₋₁ + (1 − b1)·Qᵀ·Gₜ·P, vₜ = b2·vₜ₋₁ + (1 − b2)·(Qᵀ·Gₜ·P)²; the update is
    √(1 − b2ᵗ) / (1 − b1ᵗ)·Q·[mₜ / (√vₜ + eps)]·Pᵀ. Every so many steps the bases follow L and R by one
    step of orthogonal iteration, Q ← qr(L·Q), with its columns, and v, in the order of eigenvalues; m is
    then seen in the new ones. The authors keep m outside the bases: the same update for more work.

    Args:
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        b3: decay of L and R, in [0, 1). Default: b2.
        eps: added to the root, at least 0.
        every: after how many steps a basis is renewed, at least 1.
        max_dim: the largest side that has a basis; a larger one keeps its own axes.
        block_size: the longest side of a matrix; longer ones are cut into blocks of this size, and what
            remains, as by `MatrixAxes`. Default: no limit.
        one_sided: whether only the shorter side of a matrix has a basis.
        method: ``"qr"``; ``"cholesky_qr"``, the same by products and Cholesky's decomposition, which is
            faster on accelerators; or ``"eigh"``, the eigenvectors anew each time.
        stagger: whether the tensors of one shape take turns, so that all steps cost the same and nothing
            branches; then each is in its own axes, as Adam, until its first turn. If not, as in the authors'
            code, all bases are renewed together, the first ones are eigenvectors of the first gradient,
            whose update is 0, and the moments begin at the second.
        weight_dimension_numbers: as in `scale_by_muon`.

    Where bases of a tensor are not all finite they are not taken: its old ones stay, and the state counts it
    in ``rejected``. What a NaN in a gradient has not reached, columns of a matrix with one basis, goes on in
    the old one. Derivatives take bases as constant.

    Raises:
        ValueError: for an unknown method, a period below 1, and, at `init`, for a tensor that is no matrix,
            or axes and parts that do not fit it.
        RuntimeError: for complex tensors.

    Source: Vyas et al., SOAP, arXiv:2409.11321.
    """
    name = "scale_by_soap"
    check_method(name, method)
    axes: Any = in_blocks(weight_dimension_numbers, block_size)
    decay = b2 if b3 is None else b3

    def init(param):
        cov = no_moments(sizes(name, param.shape, axes), param.dtype, max_dim, one_sided)
        # Until the first basis is there, a basis of 0 makes steps of 0.
        basis = identities(cov) if stagger else cov
        zero = jnp.zeros_like(param)
        return dict(mu=zero, nu=zero, cov=cov, basis=basis, rejected=jnp.zeros([], jnp.int32))

    def update(grad, mu, nu, cov, basis, rejected, step):
        begun = step > 1
        t = (step if stagger else jnp.maximum(step - 1, 1)).astype(grad.dtype)
        scale = sqrt(one_minus_power(b2, t)) / one_minus_power(b1, t)

        def stepped(g: Array, m: Array, v: Array, q: Side, p: Side) -> tuple[Array, Array, Array]:
            seen = turned(g, q, p)
            m_new, v_new = decay_towards(m, seen, b1), decay_towards(v, jax.lax.square(seen), b2)
            u = scale * turned_back(m_new / (sqrt(v_new) + eps), q, p)
            if not stagger:
                u, m_new, v_new = (
                    jnp.where(begun, x, old) for x, old in ((u, 0 * g), (m_new, m), (v_new, v))
                )
            return u, m_new, v_new

        stacks = [pieces(name, whole(x), axes) for x in (grad, mu, nu)]
        new: list[tuple[Array, Array, Array]] = []
        covs: list[Array] = []
        for i, (g, m, v) in enumerate(zip(*stacks, strict=True)):
            mine = slice(2 * i, 2 * i + 2)
            new.append(on_stack(stepped, g, m, v, *map(side, basis[mine])))
            covs += followed(cov[mine], on_stack(grams, g), partial(decay_towards, decay=decay))
        out, mu, nu = (
            sharded_like(grad, joined(name, list(own), grad.shape, axes)) for own in zip(*new, strict=True)
        )
        return out, dict(mu=mu, nu=nu, cov=covs, basis=basis, rejected=rejected)

    def refresh(mu, nu, cov, basis, due):
        squares, bases, good = pieces(name, whole(nu), axes), list(basis), jnp.array(True)
        for i, (c, q) in enumerate(zip(cov, basis, strict=True)):
            if c.size:
                new, order, signs = renewed(c, q, method, from_nothing=not stagger, due=due)
                good &= jnp.all(jnp.isfinite(signs))
                bases[i] = new
                along = order[..., :, None] if i % 2 == 0 else order[..., None, :]
                squares[i // 2] = jnp.take_along_axis(squares[i // 2], along, axis=-2 + i % 2, mode="clip")
        seen = seen_anew(pieces(name, whole(mu), axes), basis, bases), squares
        mu, nu = (sharded_like(nu, joined(name, stacks, nu.shape, axes)) for stacks in seen)
        return dict(mu=mu, nu=nu, basis=bases), good

    return init, update, refresh


@recipe
def soap(
    learning_rate: Number,
    b1: Decay = 0.95,
    b2: Decay = 0.95,
    b3: Decay | None = None,
    eps: NonNegative = 1e-8,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector | None = None,
    every: Count = 10,
    *,
    max_dim: Count = 10000,
    block_size: Count | None = None,
    one_sided: bool = False,
    method: str = "qr",
    stagger: bool = True,
    weight_dimension_numbers: Selector | None = None,
    others: GradientTransformation | None = None,
) -> GradientTransformation:
    """SOAP: Adam in a basis that follows the gradients, for matrices; everything else by AdamW.

    W ← W − learning_rate·(U + weight_decay·W), with U as in `scale_by_soap`.

    Args:
        learning_rate: the step size; 3e-3 is where its authors begin.
        b1, b2, b3, eps, every, max_dim, block_size, one_sided, method, stagger: as in `scale_by_soap`.
        weight_decay: strength of the decay of matrices, which is multiplied by the learning rate.
        weight_decay_mask: which of them decay, as in `add_decayed_weights`. Default: all.
        weight_dimension_numbers: the axes that make matrices, as in `scale_by_muon`; None for a param gives
            it to the others. Default: tensors with two axes are matrices.
        others: the optimizer of the rest. Default: ``adamw(learning_rate)``.

    Raises:
        ValueError, RuntimeError: as `scale_by_soap`.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> tx = gradtx.soap(3e-3, max_dim=4)
        >>> params = {"kernel": jnp.ones((3, 8)), "bias": jnp.ones(8)}
        >>> state = tx.init(params)
        >>> [c.shape for c in gradtx.tree.get(state.inner_states["soap"], "cov")["kernel"]]
        [(1, 3, 3), (0, 0, 0)]

    Source: Vyas et al., SOAP, arXiv:2409.11321.
    """
    direction = scale_by_soap(
        b1,
        b2,
        b3,
        eps,
        every,
        max_dim=max_dim,
        block_size=block_size,
        one_sided=one_sided,
        method=method,
        stagger=stagger,
        weight_dimension_numbers=weight_dimension_numbers,
    )
    return descending(
        "soap", direction, learning_rate, weight_decay, weight_decay_mask, others, weight_dimension_numbers
    )

"""KL-Shampoo and KL-SOAP: each side's second moments seen through the inverse of the other's."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.meshes import everywhere, sharded_like, whole
from gradtx.arrays.numerics import decay_towards, sqrt
from gradtx.arrays.types import Array, Params, Scalar, Selector
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.matrix.axes import in_blocks, joined, matrix_axes, pieces, sizes
from gradtx.matrix.bases import (
    Side,
    check_method,
    followed,
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

FIRST_EIGENVALUE = 0.1


class ScaleByKLShampooState(NamedTuple):
    """Where KL-Shampoo stands.

    count: int32 scalar, updates so far;
    mu: a tree like the params, the mean of past gradients in the bases;
    cov: for each param a list, of the second moments L and R of its matrices; empty for a side without basis;
    basis: the same, of orthogonal matrices;
    eigenvalues: the same, of vectors;
    rejected: a tree of int32 scalars, how often new bases were not finite and the old ones stayed.
    """

    count: Array
    mu: Params
    cov: Params
    basis: Params
    eigenvalues: Params
    rejected: Params


class ScaleByKLSOAPState(NamedTuple):
    """Where KL-SOAP stands: nu is a tree like the params, the mean of squared gradients in the bases; the
    other fields are those of `ScaleByKLShampooState`."""

    count: Array
    mu: Params
    nu: Params
    cov: Params
    basis: Params
    eigenvalues: Params
    rejected: Params


def _kl_rule(
    name: str,
    b1: Scalar,
    b2: Scalar,
    b3: Scalar,
    eps: Scalar,
    max_dim: int,
    method: str,
    stagger: bool,
    axes: Any,
    adam: bool,
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """The rule of KL-SOAP, whose numbers in the bases are divided as Adam's, or of KL-Shampoo."""
    check_method(name, method)

    def init(param):
        cov = no_moments(sizes(name, param.shape, axes), param.dtype, max_dim)
        # Until the first basis is there, a basis of 0 makes steps of 0.
        basis = identities(cov) if stagger else cov
        eigenvalues = [jnp.full(c.shape[:-1], FIRST_EIGENVALUE, c.dtype) for c in cov]
        zero = jnp.zeros_like(param)
        slots = dict(mu=zero, cov=cov, basis=basis, eigenvalues=eigenvalues)
        return {**slots, **(dict(nu=zero) if adam else {}), "rejected": jnp.zeros([], jnp.int32)}

    def advance(grad, slots, step):
        begun = jnp.logical_or(stagger, step > 1)

        def stepped(g: Array, m: Array, v: Array, q: Side, p: Side, *values: Side) -> Any:
            rows, columns = g.shape[-2:]
            # 1 over the roots of both sides' eigenvalues, of a shape that multiplies the matrix.
            left, right = (
                jnp.ones([], g.dtype) if e is None else jnp.expand_dims(1 / jnp.sqrt(e), -1 - i)
                for i, e in enumerate(values)
            )
            seen = turned(g, q, p)
            m_new = decay_towards(m, seen, b1)
            v_new = decay_towards(v, jax.lax.square(seen), b2)
            size = sqrt(v_new) if adam else 1 / (left * right)
            u = turned_back(m_new / (size + eps), q, p)
            # The first sample of all is seen through no other side.
            x = jnp.where(begun, turned(g, None, p) * right, g)
            y = jnp.where(begun, turned(g, q, None) * left, g).mT
            moments = x @ x.mT / max(columns, 1), y @ y.mT / max(rows, 1)
            samples = jnp.mean((seen * right) ** 2, axis=-1), jnp.mean((seen * left) ** 2, axis=-2)
            spectra = [
                None if e is None else jnp.where(begun, _at_least(decay_towards(e, own, b3)), e)
                for e, own in zip(values, samples, strict=True)
            ]
            if not stagger:
                u, m_new, v_new = (
                    jnp.where(begun, x, old) for x, old in ((u, 0 * g), (m_new, m), (v_new, v))
                )
            return (u, m_new, v_new), moments, spectra

        own = {name: pieces(name, whole(slots[name]), axes) for name in ("mu", "nu") if name in slots}
        matrices = zip(pieces(name, whole(grad), axes), own["mu"], own.get("nu", own["mu"]), strict=True)
        new: list[tuple[Array, Array, Array]] = []
        covs: list[Array] = []
        eigenvalues: list[Array] = []
        for i, stacks in enumerate(matrices):
            mine = slice(2 * i, 2 * i + 2)
            values = slots["eigenvalues"][mine]
            after, moments, spectra = on_stack(stepped, *stacks, *map(side, slots["basis"][mine] + values))
            new.append(after)
            covs += followed(slots["cov"][mine], moments, partial(decay_towards, decay=b3))
            eigenvalues += [
                old if e is None else everywhere(e) for old, e in zip(values, spectra, strict=True)
            ]
        out, mu, nu = (
            sharded_like(grad, joined(name, list(x), grad.shape, axes)) for x in zip(*new, strict=True)
        )
        changed = dict(mu=mu, cov=covs, eigenvalues=eigenvalues, **(dict(nu=nu) if adam else {}))
        return out, {**slots, **changed}

    def update(grad, mu, cov, basis, eigenvalues, rejected, step):
        slots = dict(mu=mu, cov=cov, basis=basis, eigenvalues=eigenvalues, rejected=rejected)
        return advance(grad, slots, step)

    def update_of_adam(grad, mu, nu, cov, basis, eigenvalues, rejected, step):
        slots = dict(mu=mu, nu=nu, cov=cov, basis=basis, eigenvalues=eigenvalues, rejected=rejected)
        return advance(grad, slots, step)

    def refresh(mu, cov, basis, due):
        bases, good = list(basis), jnp.array(True)
        for i, (c, q) in enumerate(zip(cov, basis, strict=True)):
            if c.size:
                new, _, signs = renewed(c, q, method, from_nothing=not stagger, ordered=False, due=due)
                good &= jnp.all(jnp.isfinite(signs))
                bases[i] = new
        means = seen_anew(pieces(name, whole(mu), axes), basis, bases)
        mu = sharded_like(mu, joined(name, means, mu.shape, axes))
        return dict(mu=mu, basis=bases), good

    return init, update_of_adam if adam else update, refresh


def _at_least(eigenvalues: Array) -> Array:
    """Eigenvalues of which none makes a factor above 4000, or above the size of the side if that is less."""
    largest = max(10, min(eigenvalues.shape[-1], 4000))
    return jnp.maximum(eigenvalues, largest**-2.0)


@leafwise(
    state=ScaleByKLShampooState,
    by_leaf={"weight_dimension_numbers": matrix_axes},
    batch=True,
    every="every",
    spread="stagger",
    others="hidden",
    real_only=True,
    unsigned=("eigenvalues",),
)
def scale_by_kl_shampoo(
    b1: Decay = 0.9,
    b2: Decay = 0.98,
    eps: NonNegative = 1e-8,
    every: Count = 10,
    *,
    max_dim: Count = 10000,
    block_size: Count | None = None,
    method: str = "qr",
    stagger: bool = True,
    weight_dimension_numbers: Selector | None = None,
):
    """KL-Shampoo's direction: the mean of gradients between inverse roots of moments that fit together.

    For matrices with m rows and n columns Lₜ = b2·L + (1 − b2)·Gₜ·R⁻¹·Gₜᵀ / n and
    Rₜ = b2·R + (1 − b2)·Gₜᵀ·L⁻¹·Gₜ / m, which minimises the Kullback–Leibler divergence from the gradients'
    distribution, where Shampoo sees each side alone. The inverses are those of Q·diag(λ)·Qᵀ, with bases Q and
    P that follow L and R as in `scale_by_soap`, and λ, μ that follow the diagonals of what L and R follow, in
    the bases. The update is Q·[Qᵀ·mₜ·P / (√(λ·μᵀ) + eps)]·Pᵀ, with the mean mₜ = b1·mₜ₋₁ + (1 − b1)·Gₜ.
    It needs no other size grafted on, and no slot for that.

    Args:
        b1: decay of the mean of gradients, in [0, 1).
        b2: decay of second moments, in [0, 1).
        eps: added to the root, at least 0.
        every: after how many steps a basis is renewed, at least 1.
        max_dim, block_size, method, stagger, weight_dimension_numbers: as in `scale_by_soap`, but that
            columns are not put in order.

    Eigenvalues begin at 0.1, and stay at least s⁻², for the size of the side, s, between 10 and 4000, as in
    the authors' code. Bases that are not finite are not taken, as in `scale_by_soap`.

    Raises:
        ValueError, RuntimeError: as `scale_by_soap`.

    Source: Lin et al., Understanding and improving Shampoo and SOAP via Kullback–Leibler minimization,
    arXiv:2509.03378, and its code.
    """
    axes = in_blocks(weight_dimension_numbers, block_size)
    return _kl_rule("scale_by_kl_shampoo", b1, b2, b2, eps, max_dim, method, stagger, axes, adam=False)


@leafwise(
    state=ScaleByKLSOAPState,
    by_leaf={"weight_dimension_numbers": matrix_axes},
    batch=True,
    every="every",
    spread="stagger",
    others="hidden",
    real_only=True,
    unsigned=("nu", "eigenvalues"),
)
def scale_by_kl_soap(
    b1: Decay = 0.9,
    b2: Decay = 0.98,
    b3: Decay | None = None,
    eps: NonNegative = 1e-8,
    every: Count = 10,
    *,
    max_dim: Count = 10000,
    block_size: Count | None = None,
    method: str = "qr",
    stagger: bool = True,
    weight_dimension_numbers: Selector | None = None,
):
    """KL-SOAP's direction: Adam's, in the bases of KL-Shampoo's second moments.

    The bases, with their L, R and eigenvalues, are those of `scale_by_kl_shampoo`, and the update is
    Q·[Qᵀ·mₜ·P / (√vₜ + eps)]·Pᵀ with vₜ = b2·vₜ₋₁ + (1 − b2)·(Qᵀ·Gₜ·P)², as the authors' code has it: the
    means begin at 0, and are not corrected for that.

    Args:
        b1: decay of the mean of gradients, in [0, 1).
        b2: decay of the mean of squares, in [0, 1).
        b3: decay of L, R and eigenvalues, in [0, 1). Default: b2.
        eps: added to the root, at least 0.
        every: after how many steps a basis is renewed, at least 1.
        max_dim, block_size, method, stagger, weight_dimension_numbers: as in `scale_by_kl_shampoo`.

    Raises:
        ValueError, RuntimeError: as `scale_by_soap`.

    Source: Lin et al., Understanding and improving Shampoo and SOAP via Kullback–Leibler minimization,
    arXiv:2509.03378, and its code.
    """
    axes = in_blocks(weight_dimension_numbers, block_size)
    decay = b2 if b3 is None else b3
    return _kl_rule("scale_by_kl_soap", b1, b2, decay, eps, max_dim, method, stagger, axes, adam=True)


@recipe
def kl_shampoo(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.98,
    eps: NonNegative = 1e-8,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector | None = None,
    every: Count = 10,
    *,
    max_dim: Count = 10000,
    block_size: Count | None = None,
    method: str = "qr",
    stagger: bool = True,
    weight_dimension_numbers: Selector | None = None,
    others: GradientTransformation | None = None,
) -> GradientTransformation:
    """KL-Shampoo for matrices; everything else by AdamW.

    W ← W − learning_rate·(U + weight_decay·W), with U as in `scale_by_kl_shampoo`.

    Args:
        learning_rate: the step size.
        b1, b2, eps, every, max_dim, block_size, method, stagger: as in `scale_by_kl_shampoo`.
        weight_decay: strength of the decay of matrices, which is multiplied by the learning rate.
        weight_decay_mask: which of them decay, as in `add_decayed_weights`. Default: all.
        weight_dimension_numbers: the axes that make matrices, as in `scale_by_muon`; None for a param gives
            it to the others. Default: tensors with two axes are matrices.
        others: the optimizer of the rest. Default: ``adamw(learning_rate)``.

    Raises:
        ValueError, RuntimeError: as `scale_by_soap`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.kl_shampoo(1e-3)
        >>> params = {"kernel": jnp.ones((3, 8)), "bias": jnp.ones(8)}
        >>> state = tx.init(params)
        >>> [e.shape for e in gradtx.tree.get(state.inner_states["kl_shampoo"], "eigenvalues")["kernel"]]
        [(1, 3), (1, 8)]

    Source: Lin et al., Understanding and improving Shampoo and SOAP via Kullback–Leibler minimization,
    arXiv:2509.03378.
    """
    direction = scale_by_kl_shampoo(
        b1,
        b2,
        eps,
        every,
        max_dim=max_dim,
        block_size=block_size,
        method=method,
        stagger=stagger,
        weight_dimension_numbers=weight_dimension_numbers,
    )
    return descending(
        "kl_shampoo", direction, learning_rate, weight_decay, weight_decay_mask, others,
        weight_dimension_numbers,
    )  # fmt: skip


@recipe
def kl_soap(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.98,
    b3: Decay | None = None,
    eps: NonNegative = 1e-8,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector | None = None,
    every: Count = 10,
    *,
    max_dim: Count = 10000,
    block_size: Count | None = None,
    method: str = "qr",
    stagger: bool = True,
    weight_dimension_numbers: Selector | None = None,
    others: GradientTransformation | None = None,
) -> GradientTransformation:
    """KL-SOAP: Adam in the bases of KL-Shampoo, for matrices; everything else by AdamW.

    W ← W − learning_rate·(U + weight_decay·W), with U as in `scale_by_kl_soap`.

    Args:
        learning_rate: the step size.
        b1, b2, b3, eps, every, max_dim, block_size, method, stagger: as in `scale_by_kl_soap`.
        weight_decay: strength of the decay of matrices, which is multiplied by the learning rate.
        weight_decay_mask: which of them decay, as in `add_decayed_weights`. Default: all.
        weight_dimension_numbers: the axes that make matrices, as in `scale_by_muon`; None for a param gives
            it to the others. Default: tensors with two axes are matrices.
        others: the optimizer of the rest. Default: ``adamw(learning_rate)``.

    Raises:
        ValueError, RuntimeError: as `scale_by_soap`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.kl_soap(3e-3, max_dim=4)
        >>> params = {"kernel": jnp.ones((3, 8)), "bias": jnp.ones(8)}
        >>> state = tx.init(params)
        >>> [q.shape for q in gradtx.tree.get(state.inner_states["kl_soap"], "basis")["kernel"]]
        [(1, 3, 3), (0, 0, 0)]

    Source: Lin et al., Understanding and improving Shampoo and SOAP via Kullback–Leibler minimization,
    arXiv:2509.03378.
    """
    direction = scale_by_kl_soap(
        b1,
        b2,
        b3,
        eps,
        every,
        max_dim=max_dim,
        block_size=block_size,
        method=method,
        stagger=stagger,
        weight_dimension_numbers=weight_dimension_numbers,
    )
    return descending(
        "kl_soap", direction, learning_rate, weight_decay, weight_decay_mask, others,
        weight_dimension_numbers,
    )  # fmt: skip

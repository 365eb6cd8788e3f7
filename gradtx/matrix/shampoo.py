"""Shampoo: gradients between inverse roots of their second moments, of rows and of columns."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.cond import cond
from gradtx.arrays.loops import at_most_once
from gradtx.arrays.meshes import everywhere, sharded_like, whole
from gradtx.arrays.numerics import cast, decay_towards, one_minus_power
from gradtx.arrays.types import Array, Params, Scalar, Selector
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.matrix.axes import in_blocks, joined, matrix_axes, pieces, sizes
from gradtx.matrix.bases import (
    ORTHONORMAL,
    Side,
    followed,
    grams,
    identities,
    no_moments,
    on_stack,
    side,
    turned,
)
from gradtx.matrix.partner import descending
from gradtx.matrix.roots import Root, check_root, inverse_root
from gradtx.transforms.adaptive import scale_by_adam
from gradtx.values.domains import Count, Decay, Interval, NonNegative, Number, ScalarOrSchedule, Static
from gradtx.wrappers.grafting import grafted

Kept = Annotated[ScalarOrSchedule, Interval("[0, 1]")]
Exponent = Static[Annotated[float, Interval("(0, 1]")]]


class ScaleByShampooState(NamedTuple):
    """Where Shampoo stands.

    count: int32 scalar, updates so far;
    mu: a tree like the params, the mean of past gradients;
    cov: for each param a list, of the means of G·Gᵀ and Gᵀ·G of its matrices; empty for a side without one;
    root: the same, of inverse roots;
    basis: the same, of orthogonal matrices, for methods that track them; else empty;
    rejected: a tree of int32 scalars, how often new roots were not finite and the old ones stayed.
    """

    count: Array
    mu: Params
    cov: Params
    root: Params
    basis: Params
    rejected: Params


@leafwise(
    state=ScaleByShampooState,
    by_leaf={"weight_dimension_numbers": matrix_axes},
    batch=True,
    every="every",
    spread="stagger",
    others="hidden",
    real_only=True,
)
def scale_by_shampoo(
    b1: Decay = 0.9,
    b2: Kept = 0.99,
    eps: NonNegative = 1e-12,
    every: Count = 10,
    *,
    exponent: Exponent | None = None,
    max_dim: Count = 10000,
    block_size: Count | None = 1024,
    method: str = "eigh",
    stagger: bool = True,
    weight_dimension_numbers: Selector | None = None,
):
    """Shampoo's direction: the mean of gradients between inverse roots of their second moments.

    L, the mean of past G·Gᵀ with weights that fall by b2, R the same of Gᵀ·G, and m̂ = mₜ / (1 − b1ᵗ) with
    mₜ = b1·mₜ₋₁ + (1 − b1)·Gₜ: the update is (L + eps·I)⁻ᵉ·m̂·(R + eps·I)⁻ᵉ. The roots are renewed every so
    many steps.

    Args:
        b1: decay of the mean of gradients, in [0, 1).
        b2: decay of L and R, in [0, 1]. At 1, as in the paper, they are sums.
        eps: added to the eigenvalues of L and R, at least 0.
        every: after how many steps a root is renewed, at least 1.
        exponent: e, in (0, 1]. Default: 1/4, and 1/2 if only one side has a root.
        max_dim: the longest side that has a root; for a longer one it is the identity.
        block_size: the longest side of a matrix; longer ones are cut into blocks of this size, and what
            remains, as by `MatrixAxes`; each is preconditioned alone. None: no limit.
        method: ``"eigh"``, by eigenvalues; ``"newton"``, by `matrix_inverse_pth_root`, which adds
            10⁻⁶ of the largest eigenvalue to all; or, in a basis that follows the eigenvectors by one step of
            orthogonal iteration each time, ``"qr"``, or ``"cholesky_qr"``, the same by products and
            Cholesky's decomposition.
        stagger: whether the tensors of one shape take turns, so that all steps cost the same and nothing
            branches; a root is then used from the step after, and is the identity until its first turn. If
            not, as in the authors' code, all roots are renewed together, before they are used, at the first
            step and at every so many after it.
        weight_dimension_numbers: as in `scale_by_muon`.

    Where roots of a tensor are not all finite they are not taken: its old ones stay, and the state counts it
    in ``rejected``. Derivatives take roots as constant.

    Raises:
        ValueError: for an unknown method, a period below 1, an exponent that Newton's iteration has no root
            of, and, at `init`, for a tensor that is no matrix, or axes and parts that do not fit it.
        RuntimeError: for complex tensors.

    Source: Gupta et al., Shampoo, arXiv:1802.09568; Shi et al., A distributed data-parallel PyTorch
    implementation of the distributed Shampoo optimizer, arXiv:2309.06497.
    """
    name = "scale_by_shampoo"
    check_root(name, method, exponent)
    axes: Any = in_blocks(weight_dimension_numbers, block_size)

    def init(param):
        cov = no_moments(sizes(name, param.shape, axes), param.dtype, max_dim)
        root = identities(cov)
        basis = root if stagger else cov
        if method not in ORTHONORMAL:
            basis = [c[:0] for c in cov]
        rejected = jnp.zeros([], jnp.int32)
        return dict(mu=jnp.zeros_like(param), cov=cov, root=root, basis=basis, rejected=rejected)

    def update(grad, mu, cov, root, basis, rejected, step):
        t = step.astype(grad.dtype)
        kept, taken = _weights(b2, t)

        def stepped(g: Array, m: Array, left: Side, right: Side) -> tuple[Array, Array]:
            m = decay_towards(m, g, b1)
            return turned(m, left, right) / one_minus_power(b1, t), m

        stacks = [pieces(name, whole(x), axes) for x in (grad, mu)]
        new: list[tuple[Array, Array]] = []
        covs: list[Array] = []
        roots, bases = list(root), list(basis)
        for i, (g, m) in enumerate(zip(*stacks, strict=True)):
            mine = slice(2 * i, 2 * i + 2)
            covs += followed(cov[mine], on_stack(grams, g), lambda c, x: kept * c + taken * x)
            if not stagger:
                both, rejected = at_once(covs[mine], root[mine], basis[mine], rejected, step)
                roots[mine], bases[mine] = ([everywhere(x) for x in own] for own in both)
            new.append(on_stack(stepped, g, m, *map(side, roots[mine])))
        out, mu = (
            sharded_like(grad, joined(name, list(own), grad.shape, axes)) for own in zip(*new, strict=True)
        )
        return out, dict(mu=mu, cov=covs, root=roots, basis=bases, rejected=rejected)

    def at_once(
        covs: list[Array], roots: list[Array], bases: list[Array], rejected: Array, step: Array
    ) -> Any:
        """The roots and bases after this step of both sides, all renewed if they are due."""

        def renewed() -> Any:
            found = renewed_both(covs, bases)
            good = jnp.all(jnp.array([one.good for one in found]))

            def kept(x: Array, old: Array) -> Array:
                return jnp.where(good, cast(x, old.dtype), old) if old.size else old

            new = [one.root for one in found], [one.basis for one in found]
            return [
                list(map(kept, *pair)) for pair in zip(new, (roots, bases), strict=True)
            ], rejected + ~good

        return cond((step - 1) % every == 0, renewed, lambda: ([roots, bases], rejected))

    def renewed_both(covs: list[Array], bases: list[Array], due: Array | None = None) -> list[Root]:
        e = exponent or 1 / (2 * max(sum(c.size > 0 for c in covs), 1))

        def one(c: Array, q: Array) -> Root:
            c, q, ridge = map(jax.lax.stop_gradient, (c, q, eps))

            def found(start: Root) -> Root:
                return inverse_root(start.root, start.basis, e, ridge, method, from_nothing=not stagger)

            return at_most_once(due, found, Root(c, q, jnp.array(True)))

        return [
            one(c, q) if c.size else Root(c, q, jnp.array(True)) for c, q in zip(covs, bases, strict=True)
        ]

    def refresh(cov, root, basis, due):
        if not stagger:
            return {}
        found = [
            root
            for i in range(0, len(cov), 2)
            for root in renewed_both(cov[i : i + 2], basis[i : i + 2], due)
        ]
        good = jnp.all(jnp.array([one.good for one in found]))
        return dict(root=[one.root for one in found], basis=[one.basis for one in found]), good

    return init, update, refresh


def _weights(b2: Scalar, t: Array) -> tuple[Scalar, Scalar]:
    """What is kept of a statistic, and taken of its next sample: it is their mean, or, at b2 = 1, sum."""
    is_sum = jnp.asarray(b2) == 1
    within = jnp.where(is_sum, 0.5, b2).astype(t.dtype)
    taken = (1 - within) / one_minus_power(within, t)
    return jnp.where(is_sum, 1, 1 - taken), jnp.where(is_sum, 1, taken)


@recipe
def shampoo(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Kept = 0.99,
    eps: NonNegative = 1e-12,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector | None = None,
    every: Count = 10,
    *,
    graft: GradientTransformation | None = None,
    exponent: Exponent | None = None,
    max_dim: Count = 10000,
    block_size: Count | None = 1024,
    method: str = "eigh",
    stagger: bool = True,
    weight_dimension_numbers: Selector | None = None,
    others: GradientTransformation | None = None,
) -> GradientTransformation:
    """Shampoo for matrices, with steps of the size of Adam's; everything else by AdamW.

    W ← W − learning_rate·(U·‖V‖ / ‖U‖ + weight_decay·W), with U as in `scale_by_shampoo` and V the step of
    the graft.

    Args:
        learning_rate: the step size.
        b1, b2, eps, every, exponent, max_dim, block_size, method, stagger: as in `scale_by_shampoo`.
        weight_decay: strength of the decay of matrices, which is multiplied by the learning rate.
        weight_decay_mask: which of them decay, as in `add_decayed_weights`. Default: all.
        graft: gives the size of each tensor's step, as in `grafted`. Default: ``scale_by_adam()``.
        weight_dimension_numbers: the axes that make matrices, as in `scale_by_muon`; None for a param gives
            it to the others. Default: tensors with two axes are matrices.
        others: the optimizer of the rest. Default: ``adamw(learning_rate)``.

    Raises:
        ValueError, RuntimeError: as `scale_by_shampoo`.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> tx = gradtx.shampoo(1e-3, block_size=4)
        >>> params = {"kernel": jnp.ones((3, 10)), "bias": jnp.ones(10)}
        >>> state = tx.init(params)
        >>> [c.shape for c in gradtx.tree.get(state.inner_states["shampoo"], "cov")["kernel"]]
        [(2, 3, 3), (2, 4, 4), (1, 3, 3), (1, 2, 2)]

    Source: Gupta et al., Shampoo, arXiv:1802.09568; Anil et al., Scalable second order optimization for deep
    learning, arXiv:2002.09018.
    """
    direction = scale_by_shampoo(
        b1,
        b2,
        eps,
        every,
        exponent=exponent,
        max_dim=max_dim,
        block_size=block_size,
        method=method,
        stagger=stagger,
        weight_dimension_numbers=weight_dimension_numbers,
    )
    sized = grafted(direction, scale_by_adam() if graft is None else graft)
    return descending(
        "shampoo", sized, learning_rate, weight_decay, weight_decay_mask, others, weight_dimension_numbers
    )

"""Bases of eigenvectors that follow a matrix as it changes, and matrices seen in them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.cond import cond
from gradtx.arrays.loops import at_most_once
from gradtx.arrays.meshes import everywhere
from gradtx.arrays.types import Array, DType

Side = Array | None
"""Of the rows or the columns of a stack of matrices: square matrices, or None for a side that has none."""


def sided(rows: int, columns: int, max_dim: int, one_sided: bool = False) -> list[int]:
    """The sizes of the square matrices of the two sides; 0 for none.

    Args:
        rows, columns: of the matrices.
        max_dim: the longest side that has one.
        one_sided: whether only the shorter side has one.
    """
    wanted = [rows <= columns, columns < rows] if one_sided else [True, True]
    return [n if want and n <= max_dim else 0 for n, want in zip((rows, columns), wanted, strict=True)]


def no_moments(
    parts: Sequence[tuple[int, int, int]], dtype: DType, max_dim: int, one_sided: bool = False
) -> list[Array]:
    """Square matrices of 0 for both sides of stacks of matrices, which have no entries for a side without.

    Args:
        parts: of each stack how many matrices it has, and their rows and columns.
        dtype, max_dim, one_sided: of the matrices; see `sided`.
    """
    return [
        jnp.zeros((count if n else 0, n, n), dtype)
        for count, rows, columns in parts
        for n in sided(rows, columns, max_dim, one_sided)
    ]


def identities(like: Sequence[Array]) -> list[Array]:
    """As many identity matrices."""
    return [jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape) for x in like]


def side(x: Array) -> Side:
    """What a slot has for a side: with no entries, nothing."""
    return x if x.size else None


def on_stack(f: Callable[..., Any], *stacks: Any) -> Any:
    """f of stacks of matrices, in which it may find None; of the matrices themselves, where there is one.

    XLA multiplies stacks of one matrix by way of transposed copies, which take time to make and to compile.
    """
    if stacks[0].shape[0] != 1:
        return f(*stacks)
    return jax.tree.map(lambda x: x[None], f(*jax.tree.map(lambda x: x[0], stacks)))


def grams(x: Array) -> tuple[Array, Array]:
    """X·Xᵀ and Xᵀ·X."""
    return x @ x.mT, x.mT @ x


def followed(
    covs: Sequence[Array], samples: Sequence[Array], follow: Callable[[Array, Array], Array]
) -> list[Array]:
    """Both sides' statistics after a sample of each; those of a side without, which are empty, stay."""
    return [everywhere(follow(c, x)) if c.size else c for c, x in zip(covs, samples, strict=True)]


def turned(x: Array, q: Side, p: Side) -> Array:
    """Qᵀ·X·P."""
    x = x if q is None else q.mT @ x
    return x if p is None else x @ p


def turned_back(x: Array, q: Side, p: Side) -> Array:
    """Q·X·Pᵀ."""
    x = x if q is None else q @ x
    return x if p is None else x @ p.mT


def seen_anew(stacks: Sequence[Array], olds: Sequence[Array], news: Sequence[Array]) -> list[Array]:
    """Stacks of matrices that are seen in old bases, two for each stack, as they are seen in new ones."""

    def anew(x: Array, q: Side, p: Side, q_new: Side, p_new: Side) -> Array:
        return turned(turned_back(x, q, p), q_new, p_new)

    def sides(bases: Sequence[Array], i: int) -> list[Side]:
        return [side(basis) for basis in bases[2 * i : 2 * i + 2]]

    return [on_stack(anew, x, *sides(olds, i), *sides(news, i)) for i, x in enumerate(stacks)]


def eigenbasis(cov: Array) -> tuple[Array, Array]:
    """The eigenvectors of symmetric matrices, as columns, those of the largest eigenvalues first; and those.

    All are NaN where a matrix is not finite.
    """
    # LAPACK may never come back from what is not finite.
    finite = jnp.all(jnp.isfinite(cov), axis=(-2, -1), keepdims=True)
    values, vectors = jnp.linalg.eigh(jnp.where(finite, cov, 0))
    return jnp.where(finite, vectors[..., ::-1], jnp.nan), jnp.where(
        finite[..., 0], values[..., ::-1], jnp.nan
    )


def power_step(cov: Array, basis: Array, method: str, ordered: bool = True) -> tuple[Array, Array, Array]:
    """A step of orthogonal iteration from a basis; which of its old columns each new one continues; and
    numbers that are finite if, and only if, the new ones are.

    Columns are put in the order of their Rayleigh quotients first, for the first ones disturb the later; if
    they are to be ordered.
    """
    product = cov @ basis
    quotients = column_products(basis, product)
    order = as_they_are(cov)
    if ordered:
        order = jnp.argsort(-quotients, axis=-1)
        product = jnp.take_along_axis(product, order[..., None, :], axis=-1, mode="clip")
    new, signs = ORTHONORMAL[method](product)
    return new, order, quotients if signs is None else signs


def column_products(x: Array, y: Array) -> Array:
    """The inner products of the columns of matrices with those of others."""
    # XLA's reduction along columns takes 15 times as long on a CPU, for 512 of them.
    return jnp.einsum("...ij,...ij->...j", x, y, precision="highest")


def as_they_are(cov: Array) -> Array:
    """The places of columns that stay where they are."""
    return jnp.broadcast_to(jnp.arange(cov.shape[-1]), cov.shape[:-1])


def renewed(
    cov: Array,
    basis: Array,
    method: str,
    *,
    from_nothing: bool,
    ordered: bool = True,
    due: Array | None = None,
) -> tuple[Array, Array, Array]:
    """A basis after a step by this method, or anew; see `power_step` for what is returned.

    Args:
        cov: the matrices whose eigenvectors it follows.
        basis: the one before.
        method: ``"eigh"`` for a new one each time, or one of `ORTHONORMAL`.
        from_nothing: whether the one before may be 0, and the next one then is new.
        ordered: as in `power_step`.
        due: whether it is wanted at all; if not, anything is returned. Default: it is.
    """

    def anew(cov: Array) -> tuple[Array, Array, Array]:
        vectors, eigenvalues = eigenbasis(cov)
        return vectors, as_they_are(cov), eigenvalues

    def next_one(cov: Array, basis: Array) -> tuple[Array, Array, Array]:
        return power_step(cov, basis, method, ordered)

    def found(start: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        if method == "eigh":
            return anew(start[0])
        if not from_nothing:
            return next_one(cov, start[0])
        return cond(jnp.any(start[0]), next_one, lambda cov, _: anew(cov), cov, start[0])

    cov, basis = map(jax.lax.stop_gradient, (cov, basis))
    start = cov if method == "eigh" else basis
    return at_most_once(due, found, (start, as_they_are(cov), jnp.zeros(cov.shape[:-1], cov.dtype)))


def _by_householder(x: Array) -> tuple[Array, None]:
    return jnp.linalg.qr(x)[0], None


def _by_cholesky(x: Array) -> tuple[Array, Array]:
    """Twice: once leaves an error of the square of the condition. Columns of norm 1 make that small."""
    size = jnp.linalg.norm(x, axis=-2, keepdims=True)
    x = x / jnp.where(size == 0, 1, size)
    diagonal = x[..., 0]
    for _ in range(2):
        lower = jnp.linalg.cholesky(x.mT @ x, symmetrize_input=False)
        x = jax.lax.linalg.triangular_solve(lower, x, left_side=False, lower=True, transpose_a=True)
        diagonal = jnp.diagonal(lower, axis1=-2, axis2=-1)
    return x, diagonal


def check_method(name: str, method: str) -> None:
    """Raise for an unknown way to follow a basis."""
    if method not in (*ORTHONORMAL, "eigh"):
        raise ValueError(f"{name}: method must be one of {', '.join(ORTHONORMAL)}, eigh, got {method!r}")


ORTHONORMAL = {"qr": _by_householder, "cholesky_qr": _by_cholesky}
"""How the columns of a matrix are made orthonormal, by name; and numbers that are not finite if that fails,
where it can."""

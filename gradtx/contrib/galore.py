"""GaLore: an optimizer that sees each gradient in a subspace of low rank, and remembers it there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.cond import cond
from gradtx.arrays.errors import is_none
from gradtx.arrays.meshes import sharded_like, whole
from gradtx.arrays.numerics import safe_increment
from gradtx.arrays.outline import outlined
from gradtx.arrays.select import as_tree
from gradtx.arrays.trees import advanced, mapped, widened
from gradtx.arrays.types import Array, Params, Selector, State
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation, InnerStates, check_transformation
from gradtx.core.treewise import treewise
from gradtx.linear_algebra.singular import singular_vectors
from gradtx.matrix.axes import MuonDimensionNumbers, as_matrices, axes_of, check_axes, from_matrices
from gradtx.transforms.adaptive import scale_by_adam
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.config import in_configs
from gradtx.values.domains import AtLeastOne, Count, Number

NAME = "contrib.scale_by_galore"
ADAM = scale_by_adam()


@in_configs
@dataclass(frozen=True, repr=False)
class GaLoreDimensionNumbers(MuonDimensionNumbers):
    """The axes of a tensor that make a matrix; all other axes count matrices.

    Args:
        reduction_axis: the axis, or axes, of the rows, which x·W sums over; negative ones count from the end.
        output_axis: those of the columns.
    """


class GaLoreState(NamedTuple):
    """Where GaLore stands.

    count: int32 scalar, updates so far;
    base_optimizer_state: the state of the optimizer in the subspaces;
    projector: a tree like the params, the columns that span the subspaces, with shape (…, longer side,
        rank); with shape (0, 0) for what is no matrix.
    """

    count: Array
    base_optimizer_state: State
    projector: Params


class _Subspaces(NamedTuple):
    projector: Params


@leafwise(state=_Subspaces, batch=True, name=NAME)
def _subspaces():
    def update(grad, projector):
        # Constant in derivatives: those of singular vectors are infinite where singular values coincide.
        U, _, _ = singular_vectors(jax.lax.stop_gradient(_tall(grad, grad)))
        return grad, dict(projector=U[..., : projector.shape[-1]])

    return update


def _tall(x: Array, matrix: Array) -> Array:
    """x, turned as the matrix must be to have no fewer rows than columns; turning it again turns it back."""
    return x if matrix.shape[-2] >= matrix.shape[-1] else x.mT


def _project(P: Array, G: Array) -> Array:
    return _tall(P.mT.conj() @ _tall(G, G), G)


def _unproject(P: Array, N: Array, G: Array) -> Array:
    return _tall(P @ _tall(N, G), G)


def _base_state(arguments: Mapping[str, Any], state: State) -> InnerStates:
    return {"base_optimizer_state": [(arguments["base_optimizer"] or ADAM, state.base_optimizer_state)]}


@treewise(state=GaLoreState, inner_states=_base_state)
def scale_by_galore(
    rank: Count = 128,
    update_proj_gap: AtLeastOne = 200,
    scale: Number = 1.0,
    base_optimizer: GradientTransformation | None = None,
    weight_dimension_numbers: Selector | None = None,
):
    """Let an optimizer see the gradient of each matrix in a subspace of low rank, and remember it there.

    For a matrix Gₜ of shape (m, n) with m ≥ n, Rₜ = Pᵀ·Gₜ of shape (r, n) is what the optimizer ρ sees,
    and the update is scale·P·ρ(Rₜ). The columns of P are the first r left singular vectors of the gradient
    at every update_proj_gap-th update, from the first on. Wide matrices are turned: Rₜ = Gₜ·P. What is no
    matrix the optimizer sees as it is, and its update is not scaled.

    With Adam a matrix costs m·r + 2·r·n numbers of state in place of 2·m·n. The paper projects the shorter
    side, for which it is n·r + 2·r·m.

    Args:
        rank: r, a whole number of at least 1; for a smaller matrix, its shorter side.
        update_proj_gap: after how many updates the subspaces are chosen anew, at least 1. Derivatives
            take them as constant.
        scale: factor of the updates of matrices, α in the paper.
        base_optimizer: ρ, which must do without params. Default: `scale_by_adam`.
        weight_dimension_numbers: which axes make matrices: `GaLoreDimensionNumbers` for all tensors with two
            axes or more; or by ``{pattern: …}``, a function of ``(path, leaf)`` or of the whole params, or a
            tree, where None is no matrix. Default: tensors with two axes are matrices.

    Raises:
        ValueError: for a rank that is no whole number, an optimizer that needs params, and, at `init`, for
            dimension numbers that do not fit a tensor.

    Source: Zhao et al., GaLore, arXiv:2403.03507.
    """
    base = ADAM if base_optimizer is None else base_optimizer
    check_transformation(NAME, "base_optimizer", base)
    if "params" in base.plan.needs:
        raise ValueError(
            f"{NAME}: base_optimizer must do without params, which are not in its subspaces, but "
            f"{base.plan.needs['params'].name} needs them; put that behind scale_by_galore in a chain"
        )
    chosen = weight_dimension_numbers
    if isinstance(chosen, MuonDimensionNumbers):
        chosen = lambda path, leaf: weight_dimension_numbers if getattr(leaf, "ndim", 0) > 1 else None  # noqa: E731

    def axes_in(tree):
        return axes_of(NAME, "weight_dimension_numbers", chosen, tree)

    def empty(param, axes):
        """A projector of 0, and what the optimizer sees with it."""
        if axes is None:
            return jnp.zeros((0, 0), param.dtype), jnp.zeros_like(param)
        G = as_matrices(NAME, param, axes)
        tall = _tall(G, G)
        *count, m, n = tall.shape
        r = min(rank, n)
        # Sums, for their axes are sharded as those of the param.
        rows, columns = (jnp.zeros_like(jnp.sum(tall, axis, keepdims=True)) for axis in (-1, -2))
        return jnp.broadcast_to(rows, (*count, m, r)), _tall(jnp.broadcast_to(columns, (*count, r, n)), G)

    def init(params):
        params, axes = widened(params), axes_in(params)
        check_axes(NAME, params, axes, cut=False)
        pairs = jax.tree.map(empty, params, as_tree(axes, params))
        projector, seen = (mapped(lambda _, pair, i=i: pair[i], params, pairs) for i in (0, 1))
        return GaLoreState(jnp.zeros([], jnp.int32), base.init(seen), projector)

    def matrix(grad, axes):
        return None if grad is None or axes is None else as_matrices(NAME, whole(grad), axes)

    def refreshed(matrices, projector):
        old = _Subspaces(mapped(lambda _, P: P, matrices, projector))
        _, new = _subspaces().update(matrices, old)
        return advanced(lambda P, old: sharded_like(old, P), new.projector, projector)

    def update(updates, state, params=None, **extra):
        tree = outlined(updates, params)
        axes = as_tree(axes_in(tree), tree)
        matrices = jax.tree.map(matrix, updates, axes, is_leaf=is_none)
        due = state.count % update_proj_gap == 0
        projector = cond(due, refreshed, lambda _, P: P, matrices, state.projector)

        def project(g, G, P):
            return g if G is None else _project(whole(P), G)

        def unproject(u, G, P):
            return u if G is None else scale * _unproject(whole(P), whole(u), G)

        def tensor(G, full, g, axes):
            return full if G is None else sharded_like(g, from_matrices(NAME, full, g.shape, axes))

        seen = mapped(project, updates, matrices, projector)
        seen, base_state = base.update(seen, state.base_optimizer_state, None, **extra)
        full = mapped(unproject, seen, matrices, projector)
        new = jax.tree.map(tensor, matrices, full, updates, axes, is_leaf=is_none)
        count = safe_increment(state.count)
        return new, state._replace(count=count, base_optimizer_state=base_state, projector=projector)

    return init, update


@recipe
def galore(
    learning_rate: Number,
    rank: Count = 128,
    update_proj_gap: AtLeastOne = 200,
    scale: Number = 1.0,
    base_optimizer: GradientTransformation | None = None,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
    weight_dimension_numbers: Selector | None = None,
) -> GradientTransformation:
    """GaLore: Adam in a subspace of low rank for each matrix, which changes from time to time.

    p ← p − learning_rate·(scale·P·u + weight_decay·p), where u is Adam's direction of Pᵀ·G, as in
    `scale_by_galore`.

    Args:
        learning_rate: the step size.
        rank, update_proj_gap, scale, base_optimizer, weight_dimension_numbers: as in `scale_by_galore`.
        weight_decay: strength of the decay, which is multiplied by the learning rate.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Raises:
        ValueError: as `scale_by_galore`.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> tx = gradtx.contrib.galore(1e-2, rank=4)
        >>> state = tx.init({"kernel": jnp.ones((64, 32)), "bias": jnp.ones(32)})
        >>> jax.tree.map(jnp.shape, gradtx.tree.get(state, "mu"))
        {'bias': (32,), 'kernel': (4, 32)}
        >>> jax.tree.map(jnp.shape, gradtx.tree.get(state, "projector"))
        {'bias': (0, 0), 'kernel': (64, 4)}

    Source: Zhao et al., GaLore, arXiv:2403.03507.
    """
    return chain(
        scale_by_galore(rank, update_proj_gap, scale, base_optimizer, weight_dimension_numbers),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

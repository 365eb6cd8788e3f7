"""Dion2: Muon that makes a part of the rows orthogonal at each step, and keeps the others for later."""

import math
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.meshes import sharded_like, whole
from gradtx.arrays.types import Array, Params, Selector
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.matrix.axes import joined, matrix_axes, pieces
from gradtx.matrix.partner import descending
from gradtx.matrix.polar import orthogonalizer
from gradtx.matrix.polynomials import STANDARD
from gradtx.matrix.shapes import scale_by_shape
from gradtx.values.domains import Count, Decay, DType, Interval, NonNegative, Number, Static

Share = Static[Annotated[float, Interval("(0, 1]")]]


class ScaleByDion2State(NamedTuple):
    """mu: a tree like the params, the sum of gradients that have not been followed yet."""

    mu: Params


@leafwise(
    state=ScaleByDion2State,
    by_leaf={"weight_dimension_numbers": matrix_axes},
    batch=True,
    others="hidden",
    real_only=True,
)
def scale_by_dion2(
    fraction: Share = 0.25,
    decay: Decay = 0.95,
    mu_dtype: DType = None,
    *,
    ns_coeffs: Any = STANDARD,
    ns_steps: Count = 5,
    ns_dtype: DType = None,
    weight_dimension_numbers: Selector | None = None,
):
    """Dion2's direction: of the sum of gradients, the largest rows made orthogonal.

    Mₜ = M + Gₜ; K, the fraction of its rows, or columns if these are fewer or as many, with the largest sums
    of |Mₜ|. The update is the orthogonal matrix near Mₜ[K], and 0 elsewhere; M becomes Mₜ, with Mₜ[K]
    multiplied by decay: what was not chosen stays for later, as error feedback.

    Args:
        fraction: which share of the rows, in (0, 1].
        decay: what is kept of rows that were chosen, in [0, 1).
        mu_dtype: dtype of the sum. Default: the params', at least float32.
        ns_coeffs, ns_steps, ns_dtype: as in `scale_by_muon`, with ns_steps steps of any coefficients.
        weight_dimension_numbers: as in `scale_by_muon`.

    Raises:
        ValueError: as `scale_by_muon`; and for complex tensors.

    Source: Ahn et al., Dion2, 2025, and its code.
    """
    name = "scale_by_dion2"
    orthogonal = orthogonalizer(
        name, ns_coeffs=ns_coeffs, ns_steps=ns_steps, ns_beyond="last", ns_dtype=ns_dtype
    )
    axes: Any = weight_dimension_numbers

    def init(param):
        return dict(mu=jnp.zeros_like(param, dtype=mu_dtype))

    def of_rows(m: Array) -> tuple[Array, Array]:
        """The update of matrices with fewer rows than columns, and what is kept of them."""
        count = math.ceil(fraction * m.shape[-2])
        sizes = jnp.sum(jnp.abs(m), axis=-1)
        _, chosen = jax.lax.top_k(sizes, count)
        rows = jnp.take_along_axis(m, chosen[..., None], axis=-2)
        one = jnp.arange(m.shape[0])[:, None]
        # Which rows are the largest is not known beside a NaN: none of the matrix has a number then.
        nothing = jnp.broadcast_to(0 * jnp.sum(sizes, axis=-1)[:, None, None], m.shape)
        update = nothing.at[one, chosen].set(orthogonal(rows))
        return update, m.at[one, chosen].set(decay * rows)

    def step(m: Array) -> tuple[Array, Array]:
        if not m.size:
            return m, m
        if m.shape[-2] < m.shape[-1]:
            return of_rows(m)
        update, kept = of_rows(m.mT)
        return update.mT, kept.mT

    def update(grad, mu):
        pairs = [step(m) for m in pieces(name, whole(mu + grad), axes)]
        new, kept = (
            sharded_like(grad, joined(name, [x[i] for x in pairs], grad.shape, axes)) for i in (0, 1)
        )
        return new, dict(mu=kept)

    return init, update


@recipe
def dion2(
    learning_rate: Number,
    fraction: Share = 0.25,
    decay: Decay = 0.95,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector | None = None,
    *,
    scale: str = "spectral",
    consistent_rms: NonNegative | None = None,
    ns_coeffs: Any = STANDARD,
    ns_steps: Count = 5,
    ns_dtype: DType = None,
    weight_dimension_numbers: Selector | None = None,
    others: GradientTransformation | None = None,
) -> GradientTransformation:
    """Dion2: orthogonal steps of a part of each matrix, with error feedback; everything else by AdamW.

    W ← W − learning_rate·(scale·O + weight_decay·W), with O as in `scale_by_dion2` and the scale of
    `scale_by_shape`.

    Args:
        learning_rate: the step size.
        fraction, decay, ns_coeffs, ns_steps, ns_dtype: as in `scale_by_dion2`.
        weight_decay: strength of the decay of matrices, which is multiplied by the learning rate.
        weight_decay_mask: which of them decay, as in `add_decayed_weights`. Default: all.
        scale, consistent_rms: as in `scale_by_shape`.
        weight_dimension_numbers: the axes that make matrices, as in `scale_by_muon`; None for a param gives
            it to the others. Default: tensors with two axes are matrices.
        others: the optimizer of the rest. Default: ``adamw(learning_rate)``.

    Raises:
        ValueError: as `scale_by_dion2`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.dion2(0.01, fraction=0.5)
        >>> params = {"w": jnp.eye(4), "b": jnp.ones(4)}
        >>> updates, state = tx.update(params, tx.init(params), params)
        >>> print(jnp.any(updates["w"] != 0, axis=0))
        [ True  True False False]

    Source: Ahn et al., Dion2, 2025, and its code.
    """
    direction = scale_by_dion2(
        fraction,
        decay,
        ns_coeffs=ns_coeffs,
        ns_steps=ns_steps,
        ns_dtype=ns_dtype,
        weight_dimension_numbers=weight_dimension_numbers,
    )
    shaped = chain(direction, scale_by_shape(weight_dimension_numbers, consistent_rms, scale))
    return descending(
        "dion2", shaped, learning_rate, weight_decay, weight_decay_mask, others, weight_dimension_numbers
    )

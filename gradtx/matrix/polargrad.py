"""PolarGrad: the orthogonal factor of the mean gradient, as large as that is."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import decay_towards
from gradtx.arrays.types import Array, Params, Selector
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.matrix.axes import matrix_axes, on_matrices
from gradtx.matrix.partner import descending
from gradtx.matrix.polar import orthogonalizer
from gradtx.values.domains import Count, Decay, DType, Number


class ScaleByPolarGradState(NamedTuple):
    """mu: a tree like the params, the mean of past gradients."""

    mu: Params


@leafwise(
    state=ScaleByPolarGradState,
    by_leaf={"weight_dimension_numbers": matrix_axes},
    batch=True,
    others="hidden",
)
def scale_by_polargrad(
    beta: Decay = 0.95,
    mu_dtype: DType = None,
    *,
    method: str = "newton_schulz",
    ns_coeffs: Any = "polar_express",
    ns_steps: Count = 8,
    ns_dtype: DType = None,
    weight_dimension_numbers: Selector | None = None,
):
    """PolarGrad's direction: the orthogonal factor of the mean gradient, times the sum of singular values.

    Mₜ = beta·Mₜ₋₁ + (1 − beta)·Gₜ = Oₜ·Hₜ, with Oₜ orthogonal and Hₜ symmetric; the update is tr(Hₜ)·Oₜ, the
    steepest descent in the spectral norm. Unlike Muon's, it ends at 0 where the gradient does.

    Args:
        beta: decay of the mean, in [0, 1).
        mu_dtype: dtype of the mean. Default: the params', at least float32.
        method, ns_coeffs, ns_steps, ns_dtype: as in `scale_by_muon`, with ns_steps steps of any coefficients.
        weight_dimension_numbers: as in `scale_by_muon`.

    Raises:
        ValueError: as `scale_by_muon`.

    Source: Lau, Long and Su, PolarGrad, arXiv:2505.21799, algorithm 1.
    """
    name = "scale_by_polargrad"
    orthogonal = orthogonalizer(
        name, ns_coeffs=ns_coeffs, ns_steps=ns_steps, ns_beyond="last", ns_dtype=ns_dtype, method=method
    )
    axes: Any = weight_dimension_numbers

    def init(param):
        return dict(mu=jnp.zeros_like(param, dtype=mu_dtype))

    def as_large(m: Array) -> Array:
        o = orthogonal(m)
        return jnp.sum((m.conj() * o).real, axis=(-2, -1), keepdims=True) * o

    def update(grad, mu):
        mu = decay_towards(mu, grad, beta)
        return on_matrices(name, as_large, mu, axes), dict(mu=mu)

    return init, update


@recipe
def polargrad(
    learning_rate: Number,
    beta: Decay = 0.95,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector | None = None,
    *,
    method: str = "newton_schulz",
    ns_coeffs: Any = "polar_express",
    ns_steps: Count = 8,
    ns_dtype: DType = None,
    weight_dimension_numbers: Selector | None = None,
    others: GradientTransformation | None = None,
) -> GradientTransformation:
    """PolarGrad: orthogonal steps as large as the gradient, for matrices; everything else by AdamW.

    W ← W − learning_rate·(U + weight_decay·W), with U as in `scale_by_polargrad`.

    Args:
        learning_rate: the step size.
        beta, method, ns_coeffs, ns_steps, ns_dtype: as in `scale_by_polargrad`.
        weight_decay: strength of the decay of matrices, which is multiplied by the learning rate.
        weight_decay_mask: which of them decay, as in `add_decayed_weights`. Default: all.
        weight_dimension_numbers: the axes that make matrices, as in `scale_by_muon`; None for a param gives
            it to the others. Default: tensors with two axes are matrices.
        others: the optimizer of the rest. Default: ``adamw(learning_rate)``.

    Raises:
        ValueError: as `scale_by_muon`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.polargrad(1e-2, method="svd", others=gradtx.adamw(1e-3))
        >>> params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
        >>> updates, state = tx.update(params, tx.init(params), params)

    Source: Lau, Long and Su, PolarGrad, arXiv:2505.21799.
    """
    direction = scale_by_polargrad(
        beta,
        method=method,
        ns_coeffs=ns_coeffs,
        ns_steps=ns_steps,
        ns_dtype=ns_dtype,
        weight_dimension_numbers=weight_dimension_numbers,
    )
    return descending(
        "polargrad",
        direction,
        learning_rate,
        weight_decay,
        weight_decay_mask,
        others,
        weight_dimension_numbers,
    )

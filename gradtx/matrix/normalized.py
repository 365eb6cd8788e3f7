"""Muon with a second moment: orthogonal updates, evened out by how large they have been."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.meshes import everywhere, sharded_like, whole
from gradtx.arrays.numerics import abs_sq, decay_towards, quotient, real_dtype, real_like, sqrt
from gradtx.arrays.types import Array, Params, Selector
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.matrix.axes import joined, matrix_axes, on_matrices, pieces, sizes
from gradtx.matrix.partner import descending
from gradtx.matrix.polar import frobenius, orthogonalizer
from gradtx.matrix.polynomials import STANDARD
from gradtx.matrix.shapes import shape_factor
from gradtx.values.domains import Count, Decay, DType, NonNegative, Number


class ScaleByNorMuonState(NamedTuple):
    """mu: a tree like the params, the mean of past gradients; nu: for each param a list, of mean squares of
    the columns of its matrices."""

    mu: Params
    nu: Params


class ScaleByAdaMuonState(NamedTuple):
    """mu, nu: trees like the params, the mean of past gradients and the mean square of their directions."""

    mu: Params
    nu: Params


def _looking_ahead(mu: Array, grad: Array, beta: Any, nesterov: bool) -> Array:
    return decay_towards(mu, grad, beta) if nesterov else mu


def _with_norm(x: Array, norm: Array | float) -> Array:
    """Matrices of this norm; 0 stays 0."""
    return x * quotient(norm, frobenius(x))


def _with_rms(x: Array, rms: Any) -> Array:
    return _with_norm(x, rms * (x.shape[-2] * x.shape[-1]) ** 0.5)


@leafwise(
    state=ScaleByNorMuonState,
    by_leaf={"weight_dimension_numbers": matrix_axes},
    unsigned=("nu",),
    batch=True,
    others="hidden",
)
def scale_by_normuon(
    beta: Decay = 0.95,
    b2: Decay = 0.95,
    eps: NonNegative = 1e-8,
    mu_dtype: DType = None,
    *,
    nesterov: bool = False,
    consistent_rms: NonNegative | None = 0.2,
    ns_coeffs: Any = STANDARD,
    ns_steps: Count = 5,
    ns_dtype: DType = None,
    weight_dimension_numbers: Selector | None = None,
):
    """NorMuon's direction: Muon's, with each neuron's part divided by how large it has been.

    Mₜ = beta·Mₜ₋₁ + (1 − beta)·Gₜ, Oₜ the orthogonal matrix near it, and for each column, the weights of one
    output, vₜ = b2·vₜ₋₁ + (1 − b2)·mean(Oₜ²). The update is Oₜ / (√vₜ + eps), scaled to the norm
    consistent_rms·√(rows·columns).

    Args:
        beta: decay of the mean, in [0, 1).
        b2: decay of the mean squares, in [0, 1).
        eps: added to the root, at least 0.
        mu_dtype: dtype of the mean. Default: the params', at least float32.
        nesterov: whether to look ahead, to beta·Mₜ + (1 − beta)·Gₜ.
        consistent_rms: the size of the entries of an update. With None, it has the norm of Oₜ, times
            √max(1, columns / rows), as in the authors' code.
        ns_coeffs, ns_steps, ns_dtype: as in `scale_by_muon`, with ns_steps steps of any coefficients.
        weight_dimension_numbers: as in `scale_by_muon`.

    Raises:
        ValueError: as `scale_by_muon`.

    Source: Li et al., NorMuon, arXiv:2510.05491.
    """
    name = "scale_by_normuon"
    orthogonal = orthogonalizer(
        name, ns_coeffs=ns_coeffs, ns_steps=ns_steps, ns_beyond="last", ns_dtype=ns_dtype
    )
    axes: Any = weight_dimension_numbers

    def init(param):
        dtype = real_dtype(param)
        parts = sizes(name, param.shape, axes)
        return dict(
            mu=jnp.zeros_like(param, dtype=mu_dtype),
            nu=[jnp.zeros((count, 1, columns), dtype) for count, _, columns in parts],
        )

    def evened(o: Array, nu: Array) -> tuple[Array, Array]:
        nu = decay_towards(nu, jnp.sum(abs_sq(o), axis=-2, keepdims=True) / max(o.shape[-2], 1), b2)
        even = o / (sqrt(nu) + eps)
        if consistent_rms is None:
            return shape_factor("original", None)(*o.shape[-2:]) * _with_norm(even, frobenius(o)), nu
        return _with_rms(even, consistent_rms), nu

    def update(grad, mu, nu):
        mu = decay_towards(mu, grad, beta)
        mean = _looking_ahead(mu, grad, beta, nesterov)
        stacks = pieces(name, whole(mean), axes)
        pairs = [evened(orthogonal(x), v) for x, v in zip(stacks, nu, strict=True)]
        out = joined(name, [x for x, _ in pairs], grad.shape, axes)
        return sharded_like(grad, out), dict(mu=mu, nu=[everywhere(v) for _, v in pairs])

    return init, update


@leafwise(
    state=ScaleByAdaMuonState,
    by_leaf={"weight_dimension_numbers": matrix_axes},
    unsigned=("nu",),
    batch=True,
    others="hidden",
)
def scale_by_adamuon(
    beta: Decay = 0.95,
    b2: Decay = 0.95,
    eps: NonNegative = 1e-8,
    mu_dtype: DType = None,
    *,
    signed: bool = True,
    nesterov: bool = False,
    consistent_rms: NonNegative = 0.2,
    ns_coeffs: Any = STANDARD,
    ns_steps: Count = 5,
    ns_dtype: DType = None,
    weight_dimension_numbers: Selector | None = None,
):
    """AdaMuon's direction: Muon's, with each number divided by how large it has been.

    Mₜ = beta·Mₜ₋₁ + (1 − beta)·Gₜ, Oₜ the orthogonal matrix near sign(Mₜ), Vₜ = b2·Vₜ₋₁ + (1 − b2)·Oₜ²;
    Ô = Oₜ / (√Vₜ + eps), scaled to consistent_rms·√(rows·columns) in norm.

    Args:
        beta: decay of the mean, in [0, 1).
        b2: decay of the mean square, in [0, 1).
        eps: added to the root, at least 0.
        mu_dtype: dtype of the mean. Default: the params', at least float32.
        signed: whether the orthogonal matrix is of the signs, as in the paper, or of the mean itself.
        nesterov: whether to look ahead, to beta·Mₜ + (1 − beta)·Gₜ.
        consistent_rms: the size of the entries of an update.
        ns_coeffs, ns_steps, ns_dtype: as in `scale_by_muon`, with ns_steps steps of any coefficients.
        weight_dimension_numbers: as in `scale_by_muon`.

    Raises:
        ValueError: as `scale_by_muon`.

    Source: Si et al., AdaMuon, arXiv:2507.11005.
    """
    name = "scale_by_adamuon"
    orthogonal = orthogonalizer(
        name, ns_coeffs=ns_coeffs, ns_steps=ns_steps, ns_beyond="last", ns_dtype=ns_dtype
    )
    axes: Any = weight_dimension_numbers

    def init(param):
        return dict(mu=jnp.zeros_like(param, dtype=mu_dtype), nu=real_like(param))

    def update(grad, mu, nu):
        mu = decay_towards(mu, grad, beta)
        mean = _looking_ahead(mu, grad, beta, nesterov)
        o = on_matrices(name, lambda x: orthogonal(jnp.sign(x) if signed else x), mean, axes)
        nu = decay_towards(nu, abs_sq(o), b2)
        even = o / (sqrt(nu) + eps)
        return on_matrices(name, lambda x: _with_rms(x, consistent_rms), even, axes), dict(mu=mu, nu=nu)

    return init, update


@recipe
def normuon(
    learning_rate: Number,
    beta: Decay = 0.95,
    b2: Decay = 0.95,
    eps: NonNegative = 1e-8,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector | None = None,
    *,
    nesterov: bool = False,
    consistent_rms: NonNegative | None = 0.2,
    ns_coeffs: Any = STANDARD,
    ns_steps: Count = 5,
    ns_dtype: DType = None,
    weight_dimension_numbers: Selector | None = None,
    others: GradientTransformation | None = None,
) -> GradientTransformation:
    """NorMuon: Muon whose steps are as large for every neuron; everything that is no matrix by AdamW.

    W ← W − learning_rate·(O + weight_decay·W), with O as in `scale_by_normuon`.

    Args:
        learning_rate: the step size.
        beta, b2, eps, nesterov, consistent_rms, ns_coeffs, ns_steps, ns_dtype: as in `scale_by_normuon`.
        weight_decay: strength of the decay of matrices, which is multiplied by the learning rate.
        weight_decay_mask: which of them decay, as in `add_decayed_weights`. Default: all.
        weight_dimension_numbers: the axes that make matrices, as in `scale_by_muon`; None for a param gives
            it to the others. Default: tensors with two axes are matrices.
        others: the optimizer of the rest. Default: ``adamw(learning_rate)``.

    Raises:
        ValueError: as `scale_by_muon`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.normuon(1e-3, weight_decay=0.1, others=gradtx.adamw(3e-4))
        >>> params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
        >>> updates, state = tx.update(params, tx.init(params), params)
        >>> [nu.shape for nu in gradtx.tree.get(state.inner_states["normuon"], "nu")["w"]]
        [(1, 1, 2)]

    Source: Li et al., NorMuon, arXiv:2510.05491.
    """
    direction = scale_by_normuon(
        beta,
        b2,
        eps,
        nesterov=nesterov,
        consistent_rms=consistent_rms,
        ns_coeffs=ns_coeffs,
        ns_steps=ns_steps,
        ns_dtype=ns_dtype,
        weight_dimension_numbers=weight_dimension_numbers,
    )
    return descending(
        "normuon",
        direction,
        learning_rate,
        weight_decay,
        weight_decay_mask,
        others,
        weight_dimension_numbers,
    )


@recipe
def adamuon(
    learning_rate: Number,
    beta: Decay = 0.95,
    b2: Decay = 0.95,
    eps: NonNegative = 1e-8,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector | None = None,
    *,
    signed: bool = True,
    nesterov: bool = False,
    consistent_rms: NonNegative = 0.2,
    ns_coeffs: Any = STANDARD,
    ns_steps: Count = 5,
    ns_dtype: DType = None,
    weight_dimension_numbers: Selector | None = None,
    others: GradientTransformation | None = None,
) -> GradientTransformation:
    """AdaMuon: Muon whose steps are as large for every number; everything that is no matrix by AdamW.

    W ← W − learning_rate·(O + weight_decay·W), with O as in `scale_by_adamuon`.

    Args:
        learning_rate: the step size.
        beta, b2, eps, signed, nesterov, consistent_rms, ns_coeffs, ns_steps, ns_dtype: as in
            `scale_by_adamuon`.
        weight_decay: strength of the decay of matrices, which is multiplied by the learning rate.
        weight_decay_mask: which of them decay, as in `add_decayed_weights`. Default: all.
        weight_dimension_numbers: the axes that make matrices, as in `scale_by_muon`; None for a param gives
            it to the others. Default: tensors with two axes are matrices.
        others: the optimizer of the rest. Default: ``adamw(learning_rate)``.

    Raises:
        ValueError: as `scale_by_muon`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.adamuon(1e-3, weight_decay=0.1)
        >>> params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
        >>> updates, state = tx.update(params, tx.init(params), params)

    Source: Si et al., AdaMuon, arXiv:2507.11005.
    """
    direction = scale_by_adamuon(
        beta,
        b2,
        eps,
        signed=signed,
        nesterov=nesterov,
        consistent_rms=consistent_rms,
        ns_coeffs=ns_coeffs,
        ns_steps=ns_steps,
        ns_dtype=ns_dtype,
        weight_dimension_numbers=weight_dimension_numbers,
    )
    return descending(
        "adamuon",
        direction,
        learning_rate,
        weight_decay,
        weight_decay_mask,
        others,
        weight_dimension_numbers,
    )

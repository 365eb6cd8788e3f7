"""Scion: each layer steps along the steepest direction of a norm of its kind."""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, quotient, rms, sqrt
from gradtx.arrays.select import leaf_paths, select
from gradtx.arrays.types import Array, PyTree, Selector
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.matrix.axes import axes_of, check_axes, on_matrices
from gradtx.matrix.polar import orthogonalizer
from gradtx.matrix.polynomials import STANDARD
from gradtx.matrix.shapes import FACTORS
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.momentum import ema
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.config import in_configs
from gradtx.values.domains import Count, Decay, DType, Number

NORMS = ("spectral", "sign", "embedding", "rms", "none")


@in_configs
@dataclass(frozen=True)
class LayerNorm:
    """The norm of a kind of layer, and the radius of its ball.

    Args:
        kind: ``"spectral"``, ``"sign"``, ``"embedding"``, ``"rms"`` or ``"none"``; see `scale_by_lmo`.
        radius: how large the update is in this norm.
    """

    kind: str
    radius: float = 1.0


def _norms_of(name: str, what: str, chosen: Selector | None, tree: PyTree) -> Sequence[Any]:
    """The norm of each leaf; None where nothing is said."""
    if chosen is None:
        return [None] * len(leaf_paths(tree))
    return [_norm(name, what, label) for label in select(name, what, chosen, tree, default=None)]


def _norm(name: str, what: str, label: Any) -> LayerNorm | None:
    norm = LayerNorm(label) if isinstance(label, str) else label
    if norm is None or (isinstance(norm, LayerNorm) and norm.kind in NORMS):
        return norm
    raise ValueError(f"{name}: {what} must give one of {', '.join(NORMS)}, or a LayerNorm, got {label!r}")


def _axes_or_none(name: str, what: str, chosen: Selector | None, tree: PyTree) -> Sequence[Any]:
    found = axes_of(name, what, chosen, tree)
    check_axes(name, tree, found)
    return found


@leafwise(
    by_leaf={"norms": _norms_of, "weight_dimension_numbers": _axes_or_none},
    batch=True,
)
def scale_by_lmo(
    norms: Selector | None = None,
    *,
    ns_coeffs: Any = STANDARD,
    ns_steps: Count = 5,
    ns_dtype: DType = None,
    weight_dimension_numbers: Selector | None = None,
):
    """The direction in which a norm's unit ball reaches furthest along the update, times a radius.

    For a matrix of m rows (inputs) and n columns (outputs) it is, by the kind of the norm,

    - ``"spectral"``: √(n/m)·U·Vᵀ of the singular vectors, for layers between others;
    - ``"sign"``: sign(g)/m, for the last layer;
    - ``"embedding"``: each row divided by its root mean square, for what is multiplied with one-hot vectors;

    and for any tensor ``"rms"``: g divided by its root mean square, for biases and gains; or ``"none"``: g.

    Args:
        norms: the kind of each param, or a `LayerNorm`, with a radius: by ``{pattern: …}``, a function of
            ``(path, leaf)`` or of the whole params, or a tree. Default, also where no pattern matches:
            ``"spectral"`` for matrices, ``"rms"`` for tensors with less than two axes.
        ns_coeffs, ns_steps, ns_dtype: as in `scale_by_muon`, with ns_steps steps of any coefficients.
        weight_dimension_numbers: the axes that make matrices, as in `scale_by_muon`. Default: tensors with
            two axes are matrices.

    Raises:
        ValueError: for an unknown norm, and for tensors that are no matrices where the norm is one of them.

    Source: Pethick et al., Training deep learning models with norm-constrained LMOs, arXiv:2502.07529.
    """
    name = "scale_by_lmo"
    orthogonal = orthogonalizer(
        name, ns_coeffs=ns_coeffs, ns_steps=ns_steps, ns_beyond="last", ns_dtype=ns_dtype
    )
    axes: Any = weight_dimension_numbers
    own: Any = norms

    def by_row(x: Array) -> Array:
        mean = jnp.sum(abs_sq(x), axis=-1, keepdims=True) / max(x.shape[-1], 1)
        return x * quotient(1, sqrt(mean))

    def spectral(x: Array) -> Array:
        return FACTORS["spectral"](*x.shape[-2:]) * orthogonal(x)

    of_matrices: dict[str, Callable[[Array], Array]] = {
        "spectral": spectral,
        "sign": lambda x: jnp.sign(x) / max(x.shape[-2], 1),
        "embedding": by_row,
    }

    def update(grad):
        usual = LayerNorm("spectral" if axes is not None or grad.ndim > 1 else "rms")
        kind, radius = astuple(own or usual)
        if kind not in of_matrices:
            return radius * (grad if kind == "none" else grad * quotient(1, rms(grad)))
        if axes is None:
            raise ValueError(
                f"{name}: the norm {kind!r} is one of matrices, and a tensor of shape {grad.shape} is none; "
                "say which of its axes make one in weight_dimension_numbers, or another norm in norms"
            )
        return radius * on_matrices(name, of_matrices[kind], grad, axes)

    return update


@recipe
def scion(
    learning_rate: Number,
    norms: Selector | None = None,
    beta: Decay = 0.9,
    *,
    constrained: bool = True,
    ns_coeffs: Any = STANDARD,
    ns_steps: Count = 5,
    ns_dtype: DType = None,
    weight_dimension_numbers: Selector | None = None,
) -> GradientTransformation:
    """Scion: the mean gradient's steepest direction in a norm of each layer's kind, within a ball of it.

    dₜ = beta·dₜ₋₁ + (1 − beta)·gₜ; W ← (1 − η)·W − η·radius·lmo(dₜ), so that W stays in the ball of that
    radius; or W ← W − η·radius·lmo(dₜ).

    Args:
        learning_rate: η, the step size.
        norms: the norm of each param's kind, and its radius: see `scale_by_lmo`.
        beta: decay of the mean, in [0, 1); the paper's momentum is 1 − beta.
        constrained: whether to stay within the ball.
        ns_coeffs, ns_steps, ns_dtype, weight_dimension_numbers: as in `scale_by_lmo`.

    Raises:
        ValueError: as `scale_by_lmo`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> norms = {"embed": gradtx.LayerNorm("embedding", 50.0), "head": gradtx.LayerNorm("sign", 3000.0)}
        >>> tx = gradtx.scion(2e-4, norms)
        >>> shapes = {"embed": (9, 4), "layer": (4, 4), "gain": (4,), "head": (4, 9)}
        >>> params = {name: jnp.ones(shape) for name, shape in shapes.items()}
        >>> updates, state = tx.update(params, tx.init(params), params)

    Source: Pethick et al., Training deep learning models with norm-constrained LMOs, arXiv:2502.07529.
    """
    direction = scale_by_lmo(
        norms,
        ns_coeffs=ns_coeffs,
        ns_steps=ns_steps,
        ns_dtype=ns_dtype,
        weight_dimension_numbers=weight_dimension_numbers,
    )
    decay = [add_decayed_weights(1.0)] if constrained else []
    return chain(ema(beta, debias=False), direction, *decay, scale_by_learning_rate(learning_rate))

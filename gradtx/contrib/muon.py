"""Muon: matrices step along orthogonal matrices, everything else by AdamW."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, decay_towards, sqrt
from gradtx.arrays.outline import outlined
from gradtx.arrays.select import as_tree, map_labelled
from gradtx.arrays.trees import inner_product
from gradtx.arrays.types import Array, Params, Selector
from gradtx.contrib.muon_axes import MuonDimensionNumbers, axes_of, fans, matrix_axes, on_matrices
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import EmptyState, GradientTransformation, Plan, init_empty_state, run_plan
from gradtx.core.treewise import treewise
from gradtx.optimizers.adam import adamw
from gradtx.transforms.adaptive import debiased_mean
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.orthogonal import gram, quintic
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.domains import Count, Decay, DType, NonNegative, Number, Positive
from gradtx.wrappers.masking import partition

STANDARD = (3.4445, -4.7750, 2.0315)
PRESETS = {
    "standard": STANDARD,
    "dion": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
}


class MuonState(NamedTuple):
    """count: int32 scalar, updates so far; mu: a tree like the params, the mean of past gradients;
    ns_coeffs: an array, the coefficients, which are those of the arguments."""

    count: Array
    mu: Params
    ns_coeffs: Array


class _Mean(NamedTuple):
    count: Array
    mu: Params


def _frobenius(x: Array) -> Array:
    return sqrt(jnp.sum(abs_sq(x), axis=(-2, -1), keepdims=True))


# What makes the largest singular value about 1, for matrices with no more rows than columns.
PRECONDITIONINGS = {
    "frobenius": lambda x, eps: x / (_frobenius(x) + eps),
    "spectral": lambda x, eps: x / (jnp.linalg.norm(x, ord=2, axis=(-2, -1), keepdims=True) + eps),
    "aol": lambda x, eps: x / sqrt(jnp.maximum(jnp.sum(jnp.abs(gram(x)), axis=-1, keepdims=True), eps)),
    "schatten": lambda x, eps: x / sqrt(jnp.maximum(_frobenius(gram(x)), eps)),
}


def orthogonal(x: Array, triples: Any, preconditioning: str, eps: Any) -> Array:
    """The orthogonal matrices near the matrices x, shape (…, rows, columns): one quintic step per triple."""
    tall = x.shape[-2] > x.shape[-1]
    x = PRECONDITIONINGS[preconditioning](x.mT if tall else x, eps)
    for triple in triples:
        x = quintic(x, *triple)
    return x.mT if tall else x


def _triples(ns_coeffs: Any, ns_steps: int) -> list[Any]:
    """The coefficients of every step: one triple for all, or one for each."""
    first = ns_coeffs[0]
    single = getattr(first, "ndim", int(isinstance(first, tuple | list))) == 0
    triples = [ns_coeffs] * ns_steps if single else list(ns_coeffs)
    if any(len(triple) != 3 for triple in triples):
        raise ValueError(
            "contrib.scale_by_muon: ns_coeffs must be three numbers, or one triple for each step, "
            f"got {ns_coeffs!r}"
        )
    return triples


@leafwise(state=_Mean, batch=True, name="contrib.scale_by_muon")
def _scale_by_muon(
    axes: MuonDimensionNumbers,
    triples: Any,
    beta: Decay,
    eps,
    mu_dtype: DType,
    nesterov: bool,
    adaptive: bool,
    preconditioning: str,
):
    def init(param):
        return dict(mu=jnp.zeros_like(param, dtype=mu_dtype))

    def update(grad, mu, step):
        mu = decay_towards(mu, grad, beta)
        mean = debiased_mean(mu, grad, beta, step, nesterov)
        direction = on_matrices(
            "contrib.scale_by_muon", lambda x: orthogonal(x, triples, preconditioning, eps), mean, axes
        )
        return inner_product(mean, direction) * direction if adaptive else direction, dict(mu=mu)

    return init, update


@treewise(state=MuonState)
def scale_by_muon(
    ns_coeffs: Any = STANDARD,
    ns_steps: Count = 5,
    beta: Decay = 0.95,
    eps: Positive = 1e-8,
    mu_dtype: DType = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: Selector | None = None,
):
    """Muon's direction: the mean of past gradients, made orthogonal.

    mₜ = beta·mₜ₋₁ + (1 − beta)·gₜ; the update is the orthogonal matrix near m̂, as in `scale_by_adam` with
    or without Nesterov's look-ahead, by `ns_steps` steps X ← (a·I + b·A + c·A²)·X, A = X·Xᵀ, from
    X = m̂ / (‖m̂‖ + eps). They bring the singular values near 1. On accelerators, matrices of
    one shape go in one batch.

    Args:
        ns_coeffs: a, b, c; or one such triple for each step.
        ns_steps: the number of steps, if there is one triple.
        beta: decay of the mean, in [0, 1).
        eps: keeps divisors above 0.
        mu_dtype: dtype of the mean. Default: the params', at least float32.
        nesterov: whether to look ahead.
        adaptive: whether to multiply by ⟨m̂, X⟩, the sum of the singular values of m̂.
        preconditioning: what m̂ is divided by first: ``"frobenius"``, its norm; ``"spectral"``, its largest
            singular value; ``"schatten"``, the root of the norm of A; ``"aol"``, each row by the root of the
            row of |A|.
        weight_dimension_numbers: which axes make matrices, for tensors of any rank: `MuonDimensionNumbers`
            for all; or by ``{pattern: …}``, a function of ``(path, leaf)`` or of the whole params, or a
            tree. Default: every tensor is a matrix.

    Raises:
        ValueError: for coefficients that are no triples, an unknown preconditioning, and, at `init`, for a
            tensor that is no matrix.

    Source: Jordan et al., Muon, 2024; Bernstein and Newhouse, Old optimizer, new norm, arXiv:2409.20325;
    Boissin et al., Turbo-Muon, arXiv:2512.04632.
    """
    name = "contrib.scale_by_muon"
    if preconditioning not in PRECONDITIONINGS:
        raise ValueError(
            f"{name}: preconditioning must be one of {', '.join(PRECONDITIONINGS)}, got {preconditioning!r}"
        )
    made: dict[Any, GradientTransformation] = {}
    triples = _triples(ns_coeffs, ns_steps)
    options = (triples, beta, eps, mu_dtype, nesterov, adaptive, preconditioning)

    def variants(tree):
        """A rule for each choice of axes, and the index of each leaf's."""
        chosen = matrix_axes(name, "weight_dimension_numbers", weight_dimension_numbers, tree)
        kinds = list(dict.fromkeys(chosen)) or [MuonDimensionNumbers()]
        made.update((axes, _scale_by_muon(axes, *options)) for axes in kinds if axes not in made)
        return [made[axes] for axes in kinds], list(map(kinds.index, chosen))

    def init(params):
        rules, _ = variants(params)
        count, mu = rules[0].init(params)
        return MuonState(count, mu, jnp.asarray(ns_coeffs))

    def update(updates, state, params=None):
        rules, which = variants(outlined(updates, params))
        held = _Mean(state.count, state.mu)
        plan = Plan(*(rule.stages for rule in rules))
        updates, (count, mu) = run_plan(rules[0], plan, updates, held, params, {}, which=which)
        return updates, MuonState(count, mu, jnp.asarray(ns_coeffs))

    return init, update


@treewise(state=EmptyState)
def scale_by_shape(
    weight_dimension_numbers: Selector | None = None, consistent_rms: NonNegative | None = None
):
    """Multiply updates by a number that depends on their shape alone.

    It is √max(1, columns / rows), or consistent_rms·√max(rows, columns), with which orthogonal matrices of
    all shapes have entries of one size, consistent_rms.

    Args:
        weight_dimension_numbers: as in `scale_by_muon`.
        consistent_rms: the size of the entries; 0.2 is that of AdamW's steps. Default: the first factor.

    Source: Jordan et al., Muon, 2024; Liu et al., Muon is scalable for LLM training, arXiv:2502.16982.
    """
    name = "contrib.scale_by_shape"

    def scaled(axes, update):
        if update is None:
            return None
        rows, columns = fans(name, update.shape, axes)
        if consistent_rms is None:
            return max(1, columns / max(rows, 1)) ** 0.5 * update
        return max(rows, columns) ** 0.5 * consistent_rms * update

    def update(updates, state, params=None):
        axes = matrix_axes(
            name, "weight_dimension_numbers", weight_dimension_numbers, outlined(updates, params)
        )
        return map_labelled(scaled, axes, updates), state

    return init_empty_state, update


@recipe
def muon(
    learning_rate: Number,
    ns_coeffs: Any = STANDARD,
    ns_steps: Count = 5,
    beta: Decay = 0.95,
    eps: Positive = 1e-8,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector | None = None,
    mu_dtype: DType = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: Decay = 0.9,
    adam_b2: Decay = 0.999,
    adam_eps_root: NonNegative = 0.0,
    adam_weight_decay: Number = 0.0,
    adam_learning_rate: Number | None = None,
    muon_weight_dimension_numbers: Selector | None = None,
    consistent_rms: NonNegative | None = None,
) -> GradientTransformation:
    """Muon: momentum made orthogonal, for matrices; everything else by AdamW.

    Args:
        learning_rate: the step size.
        ns_coeffs: the coefficients of `scale_by_muon`, or ``"standard"`` or ``"dion"``.
        ns_steps, beta, eps, mu_dtype, nesterov, adaptive, preconditioning: as in `scale_by_muon`; eps,
            mu_dtype and nesterov are AdamW's too.
        weight_decay: strength of the decay of matrices, which is multiplied by the learning rate.
        weight_decay_mask: which of them decay, as in `add_decayed_weights`. Default: all.
        adam_b1, adam_b2, adam_eps_root, adam_weight_decay: b1, b2, eps_root and weight_decay of `adamw`.
        adam_learning_rate: AdamW's step size. Default: learning_rate.
        muon_weight_dimension_numbers: the axes that make matrices, as in `scale_by_muon`; None for a param
            gives it to AdamW. Default: tensors with two axes are matrices.
        consistent_rms: as in `scale_by_shape`.

    Raises:
        ValueError: as `scale_by_muon`; and for coefficients of an unknown name.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> heads = gradtx.contrib.MuonDimensionNumbers(reduction_axis=0, output_axis=(1, 2))
        >>> tx = gradtx.contrib.muon(
        ...     0.02, muon_weight_dimension_numbers={r".*/qkv": heads, r".*/out": True, ".*": None}
        ... )
        >>> shapes = {"qkv": (4, 2, 2), "out": (4, 4), "bias": (4,)}
        >>> state = tx.init({"layer": {name: jnp.ones(shape) for name, shape in shapes.items()}})
        >>> sorted(state.inner_states)
        ['adam', 'muon']

    Source: Jordan et al., Muon, 2024; Liu et al., Muon is scalable for LLM training, arXiv:2502.16982.
    """
    numbers = muon_weight_dimension_numbers
    options: dict[str, Any] = dict(nesterov=nesterov, adaptive=adaptive, preconditioning=preconditioning)
    direction = scale_by_muon(
        _coefficients(ns_coeffs), ns_steps, beta, eps, mu_dtype, weight_dimension_numbers=numbers, **options
    )
    shape = scale_by_shape(numbers, consistent_rms)
    decay = add_decayed_weights(weight_decay, weight_decay_mask)
    by_muon = chain(direction, shape, decay, scale_by_learning_rate(learning_rate))
    rate = learning_rate if adam_learning_rate is None else adam_learning_rate
    by_adam = adamw(
        rate, adam_b1, adam_b2, eps, adam_eps_root, mu_dtype, adam_weight_decay, nesterov=nesterov
    )
    return partition({"muon": by_muon, "adam": by_adam}, _muon_or_adam(numbers))


def _coefficients(named: Any) -> Any:
    if isinstance(named, str) and named not in PRESETS:
        raise ValueError(
            f"contrib.muon: ns_coeffs names no coefficients: {named!r}; there are: {', '.join(PRESETS)}"
        )
    return PRESETS[named] if isinstance(named, str) else named


def _muon_or_adam(numbers: Selector | None) -> Callable[[Params], Params]:
    def labels(params: Params) -> Params:
        axes = axes_of("contrib.muon", "muon_weight_dimension_numbers", numbers, params)
        return as_tree(["adam" if one is None else "muon" for one in axes], params)

    return labels

"""Muon: matrices step along orthogonal matrices, everything else by AdamW."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import decay_towards
from gradtx.arrays.trees import inner_product
from gradtx.arrays.types import Array, Params, Selector
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.matrix.axes import matrix_axes, on_matrices
from gradtx.matrix.partner import beside
from gradtx.matrix.polar import orthogonalizer
from gradtx.matrix.polynomials import COEFFICIENTS, STANDARD
from gradtx.matrix.shapes import scale_by_shape
from gradtx.optimizers.adam import adamw
from gradtx.transforms.adaptive import debiased_mean
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.domains import Count, Decay, DType, NonNegative, Number, Positive


class MuonState(NamedTuple):
    """count: int32 scalar, updates so far; mu: a tree like the params, the mean of past gradients;
    ns_coeffs: an array, the coefficients, which are those of the arguments."""

    count: Array
    mu: Params
    ns_coeffs: Array


def _coefficients(arguments: Any) -> Any:
    given = arguments["ns_coeffs"]
    return COEFFICIENTS[given] if isinstance(given, str) else given


@leafwise(
    state=MuonState,
    by_leaf={"weight_dimension_numbers": matrix_axes},
    constants={"ns_coeffs": _coefficients},
    batch=True,
    others="hidden",
    formerly="contrib.scale_by_muon",
)
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
    ns_beyond: str | None = None,
    ns_dtype: DType = None,
    method: str = "newton_schulz",
):
    """Muon's direction: the mean of past gradients, made orthogonal.

    mₜ = beta·mₜ₋₁ + (1 − beta)·gₜ; the update is the orthogonal matrix near m̂, as in `scale_by_adam` with
    or without Nesterov's look-ahead, by `ns_steps` steps X ← (a·I + b·A + c·A²)·X, A = X·Xᵀ, from
    X = m̂ / (‖m̂‖ + eps). They bring the singular values near 1. On accelerators, matrices of
    one shape go in one batch.

    Args:
        ns_coeffs: a, b, c; one such triple for each step; or the name of known ones:

            - ``"standard"``: 5 steps bring singular values from 0.002 to 1 between 0.68 and 1.21;
            - ``"quintic"``, ``"dion"`` in Optax: 5 steps, from 0.003, between 0.97 and 1.15;
            - ``"polar_express"``: the best ones for 0.001 to 1; 8 steps end within 1e-4 of 1;
            - ``"cans"``: 5 steps, from 0.001, between 0.88 and 1.12;
            - ``"aol"``: 4 steps for preconditioning ``"aol"``, from 0.01 to 0.85, between 0.86 and 1.09;
              above 0.88 the sign turns, where rows are nearly orthogonal;
            - ``"8+2"``: eight standard ones and two that end at 1, from 0.001, within 1e-3 of 1;
            - ``"cubic"``: 5 steps with c = 0, a product less in each, from 0.007, between 0.77 and 1.3.
        ns_steps: the number of steps, if there is one triple, or if ns_beyond says what is beyond the last.
        beta: decay of the mean, in [0, 1).
        eps: keeps divisors above 0.
        mu_dtype: dtype of the mean. Default: the params', at least float32.
        nesterov: whether to look ahead.
        adaptive: whether to multiply by ⟨m̂, X⟩, the sum of the singular values of m̂.
        preconditioning: what m̂ is divided by first: ``"frobenius"``, its norm; ``"spectral"``, its largest
            singular value; ``"schatten"``, the root of the norm of A; ``"aol"``, each row by the root of the
            row of |A|.
        weight_dimension_numbers: which axes make matrices, for tensors of any rank, and how these are cut, by
            heads for one: `MatrixAxes` for all; or by ``{pattern: …}``, a function of ``(path, leaf)`` or of
            the whole params, or a tree. Default: every tensor is a matrix.
        ns_beyond: what comes after the triples, if there are fewer than ns_steps: ``"last"`` or ``"cycle"``.
            Default: each triple makes one step, and ns_steps is not looked at.
        ns_dtype: dtype of the products, which are summed in at least float32. ``"bfloat16"`` is fast on
            accelerators, and enough. Default: that of m̂, at least float32.
        method: ``"newton_schulz"``, the steps above; ``"svd"`` or ``"qdwh"``, exact factors, by singular
            vectors or Halley's iteration, of which products are a small part; the latter for full rank.

    Raises:
        ValueError: for coefficients that are no triples, an unknown preconditioning or method, and, at
            `init`, for a tensor that is no matrix, or axes and parts that do not fit it.

    Source: Jordan et al., Muon, 2024; Bernstein and Newhouse, Old optimizer, new norm, arXiv:2409.20325;
    Boissin et al., Turbo-Muon, arXiv:2512.04632; Nakatsukasa and Higham, Stable and efficient spectral
    divide and conquer algorithms, 2013. The coefficients: Cesista et al., Squeezing 1-2% efficiency gains
    out of Muon, 2025; Amsel et al., The Polar Express, arXiv:2505.16932; Grishina et al., CANS,
    arXiv:2506.10935; DeepSeek-V4, 2026; the cubic, arXiv:2606.00371.
    """
    name = "scale_by_muon"
    orthogonal = orthogonalizer(
        name,
        ns_coeffs=ns_coeffs,
        ns_steps=ns_steps,
        ns_beyond=ns_beyond,
        ns_dtype=ns_dtype,
        eps=eps,
        preconditioning=preconditioning,
        method=method,
    )
    axes: Any = weight_dimension_numbers

    def init(param):
        return dict(mu=jnp.zeros_like(param, dtype=mu_dtype))

    def update(grad, mu, step):
        mu = decay_towards(mu, grad, beta)
        mean = debiased_mean(mu, grad, beta, step, nesterov)
        direction = on_matrices(name, orthogonal, mean, axes)
        return inner_product(mean, direction) * direction if adaptive else direction, dict(mu=mu)

    return init, update


@recipe(formerly="contrib.muon")
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
    ns_beyond: str | None = None,
    ns_dtype: DType = None,
    method: str = "newton_schulz",
    scale: str = "original",
) -> GradientTransformation:
    """Muon: momentum made orthogonal, for matrices; everything else by AdamW.

    What has two axes is not always a matrix that Muon is for: its authors give embeddings and the head to
    AdamW. The rank alone does not tell them from the others, a pattern does.

    W ← W − learning_rate·(scale·O + weight_decay·W), with O the orthogonal matrix near the momentum, as in
    `scale_by_muon`, and the scale of `scale_by_shape`.

    Args:
        learning_rate: the step size.
        ns_coeffs, ns_steps, beta, eps, mu_dtype, nesterov: as in `scale_by_muon`; the last three are
            AdamW's too.
        adaptive, preconditioning, ns_beyond, ns_dtype, method: as in `scale_by_muon`.
        weight_decay: strength of the decay of matrices, which is multiplied by the learning rate.
        weight_decay_mask: which of them decay, as in `add_decayed_weights`. Default: all.
        adam_b1, adam_b2, adam_eps_root, adam_weight_decay: b1, b2, eps_root and weight_decay of `adamw`.
        adam_learning_rate: AdamW's step size. Default: learning_rate.
        muon_weight_dimension_numbers: the axes that make matrices, as in `scale_by_muon`; None for a param
            gives it to AdamW. Default: tensors with two axes are matrices.
        consistent_rms, scale: as in `scale_by_shape`.

    Raises:
        ValueError: as `scale_by_muon`; and for a scale of an unknown name.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> heads = gradtx.MatrixAxes(reduction_axis=0, output_axis=(1, 2))
        >>> tx = gradtx.muon(
        ...     0.02,
        ...     muon_weight_dimension_numbers={r"embed|head": None, r".*/qkv": heads, r".*/out": True},
        ... )
        >>> shapes = {"qkv": (4, 2, 2), "out": (4, 4), "bias": (4,)}
        >>> layer = {name: jnp.ones(shape) for name, shape in shapes.items()}
        >>> state = tx.init({"embed": jnp.ones((9, 4)), "layer": layer})
        >>> sorted(gradtx.tree.get(state.inner_states["muon"], "mu")["layer"])
        ['bias', 'out', 'qkv']

    Source: Jordan et al., Muon, 2024; Liu et al., Muon is scalable for LLM training, arXiv:2502.16982.
    """
    numbers = muon_weight_dimension_numbers
    direction = scale_by_muon(
        ns_coeffs,
        ns_steps,
        beta,
        eps,
        mu_dtype,
        nesterov=nesterov,
        adaptive=adaptive,
        preconditioning=preconditioning,
        weight_dimension_numbers=numbers,
        ns_beyond=ns_beyond,
        ns_dtype=ns_dtype,
        method=method,
    )
    shape = scale_by_shape(numbers, consistent_rms, scale)
    decay = add_decayed_weights(weight_decay, weight_decay_mask)
    by_muon = chain(direction, shape, decay, scale_by_learning_rate(learning_rate))
    rate = learning_rate if adam_learning_rate is None else adam_learning_rate
    by_adam = adamw(
        rate, adam_b1, adam_b2, eps, adam_eps_root, mu_dtype, adam_weight_decay, nesterov=nesterov
    )
    what = "muon_weight_dimension_numbers"
    return beside("muon", by_muon, by_adam, what, numbers)

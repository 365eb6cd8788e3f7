"""Step sizes from distances: how far the params have come over how large the gradients were."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import sqrt
from gradtx.arrays.trees import distance, global_norm, scalar_dtype, scale_tree, widened
from gradtx.arrays.types import Array, Params, Selector
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import treewise
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import identity, scale_by_learning_rate
from gradtx.values.domains import NonNegative, Number, Positive
from gradtx.values.parts import is_number

FIRST_STEPS = ("distance", "learning_rate", "heuristic")


class DoGState(NamedTuple):
    """is_init_step: bool scalar, true before the first update; init_params: a tree like the params, where
    they began; max_dist, sum_sq_norm_grads: scalars, the largest distance from there and the sum of squared
    norms of the gradients."""

    is_init_step: Array
    init_params: Params
    max_dist: Array
    sum_sq_norm_grads: Array


@treewise(state=DoGState, others="refused", on_shards=True)
def scale_by_dog(init_step: tuple[str, Any], eps: Positive = 1e-8):
    """Multiply updates by the distance from the first params over the root of the summed squared gradients.

    rₜ = max(rₜ₋₁, ‖xₜ − x₀‖),  Gₜ = Gₜ₋₁ + ‖gₜ‖²; the update is rₜ / √(Gₜ + eps)·gₜ.

    Args:
        init_step: how the first step, which has no distance yet, is made: ``("distance", r)`` begins with
            the distance r, ``("heuristic", a)`` with a·(1 + ‖x₀‖), and ``("learning_rate", s)`` makes the
            first step of size s.
        eps: added to the sum of squares, above 0.

    Source: Ivgi, Hinder and Carmon, DoG is SGD's best friend, arXiv:2302.12022.
    """
    if not isinstance(init_step, tuple | list) or len(init_step) != 2:
        raise TypeError(f"contrib.scale_by_dog: init_step must be a pair (kind, number), got {init_step!r}")
    kind, size = init_step
    if kind not in FIRST_STEPS:
        raise ValueError(
            f"contrib.scale_by_dog: init_step begins with one of {', '.join(FIRST_STEPS)}, got {kind!r}"
        )
    if is_number(size) and not size >= 0:
        raise ValueError(f"contrib.scale_by_dog: the number in init_step must be at least 0, got {size!r}")

    def init(params):
        dtype = scalar_dtype("contrib.scale_by_dog", params)
        first = {"distance": size, "learning_rate": 0.0, "heuristic": size * (1 + global_norm(params))}[kind]
        return DoGState(jnp.asarray(True), widened(params), jnp.asarray(first, dtype), jnp.zeros([], dtype))

    def update(updates, state, params):
        max_dist = jnp.maximum(state.max_dist, distance(params, state.init_params))
        total = state.sum_sq_norm_grads + jnp.square(global_norm(updates))
        rate = max_dist / sqrt(total + eps)
        if kind == "learning_rate":
            rate = jnp.where(state.is_init_step, size, rate)
        return scale_tree(updates, rate), DoGState(jnp.asarray(False), state.init_params, max_dist, total)

    return init, update


@recipe
def dog(
    learning_rate: Number = 1.0,
    init_step: tuple[str, Any] = ("heuristic", 1e-6),
    eps: Positive = 1e-8,
    weight_decay: Number | None = None,
    mask: Selector | None = None,
) -> GradientTransformation:
    """DoG: gradient descent whose step size is the distance travelled over the gradients seen.

    p ← p − learning_rate·r / √(G + eps)·g, where r is the largest ‖p − x₀‖ and G the sum of ‖g‖², as in
    `scale_by_dog`.

    Its authors advise to evaluate an average of the params.

    Args:
        learning_rate: a factor of the step size, 1 in the paper.
        init_step, eps: as in `scale_by_dog`.
        weight_decay: strength of the L2 regularisation.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Ivgi, Hinder and Carmon, DoG is SGD's best friend, arXiv:2302.12022.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.dog(), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -2.16e-06 1.08e-06
    """
    decay = identity() if weight_decay is None else add_decayed_weights(weight_decay, mask)
    return chain(decay, scale_by_dog(init_step, eps), scale_by_learning_rate(learning_rate))


class DoWGState(NamedTuple):
    """init_params: a tree like the params, where they began; weighted_sq_norm_grads, estim_sq_dist: scalars,
    the weighted sum of squared norms of the gradients and the largest squared distance."""

    init_params: Params
    weighted_sq_norm_grads: Array
    estim_sq_dist: Array


@treewise(state=DoWGState, others="refused", on_shards=True)
def scale_by_dowg(init_estim_sq_dist: NonNegative | None = None, eps: Positive = 1e-4):
    """Multiply updates by the squared distance over the root of the squared gradients that it weighs.

    rₜ² = max(rₜ₋₁², ‖xₜ − x₀‖²),  vₜ = vₜ₋₁ + rₜ²·‖gₜ‖²; the update is rₜ² / (√vₜ + eps)·gₜ.

    Args:
        init_estim_sq_dist: the first squared distance. Default: eps.
        eps: keeps the divisor above 0.

    Source: Khaled, Mishchenko and Jin, DoWG unleashed, arXiv:2305.16284.
    """
    first = eps if init_estim_sq_dist is None else init_estim_sq_dist

    def init(params):
        dtype = scalar_dtype("contrib.scale_by_dowg", params)
        return DoWGState(widened(params), jnp.zeros([], dtype), jnp.asarray(first, dtype))

    def update(updates, state, params):
        sq_dist = jnp.maximum(state.estim_sq_dist, jnp.square(distance(params, state.init_params)))
        weighted = state.weighted_sq_norm_grads + sq_dist * jnp.square(global_norm(updates))
        rate = sq_dist / (sqrt(weighted) + eps)
        return scale_tree(updates, rate), DoWGState(state.init_params, weighted, sq_dist)

    return init, update


@recipe
def dowg(
    learning_rate: Number = 1.0,
    init_estim_sq_dist: NonNegative | None = None,
    eps: Positive = 1e-4,
    weight_decay: Number | None = None,
    mask: Selector | None = None,
) -> GradientTransformation:
    """DoWG: DoG with gradients weighted by the distance at their time.

    p ← p − learning_rate·r² / (√v + eps)·g, where r is the largest ‖p − x₀‖ and v the sum of r²·‖g‖², as in
    `scale_by_dowg`.

    Args:
        learning_rate: a factor of the step size, 1 in the paper.
        init_estim_sq_dist, eps: as in `scale_by_dowg`.
        weight_decay: strength of the L2 regularisation.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Khaled, Mishchenko and Jin, DoWG unleashed, arXiv:2305.16284.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.dowg(), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.00886 0.00443
    """
    decay = identity() if weight_decay is None else add_decayed_weights(weight_decay, mask)
    return chain(decay, scale_by_dowg(init_estim_sq_dist, eps), scale_by_learning_rate(learning_rate))

"""The mean and the variance of gradients over examples."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx import tree
from gradtx.arrays.numerics import decay_towards, safe_increment
from gradtx.arrays.types import Array, Params, State, Updates
from gradtx.core.chain import chain
from gradtx.core.transformation import GradientTransformation, init_empty_state
from gradtx.core.treewise import treewise
from gradtx.experimental.aggregating.mean import mean_over, wide
from gradtx.experimental.aggregating.parts import Aggregator, PerElementUpdates, process
from gradtx.transforms.scaling import identity
from gradtx.values.domains import Decay


def get_batch_size_from_per_elt_updates(
    per_elt_updates: PerElementUpdates, per_elt_axis: int | Sequence[int]
) -> int:
    """How many examples there are.

    Args:
        per_elt_updates: a tree of gradients per example.
        per_elt_axis: the axes of the examples in every tensor.

    Raises:
        ValueError: if the tensors have different numbers of them; the message names the paths.
    """
    axes = (per_elt_axis,) if isinstance(per_elt_axis, int) else per_elt_axis
    sizes = {
        jax.tree_util.keystr(path): math.prod(x.shape[axis] for axis in axes)
        for path, x in jax.tree_util.tree_leaves_with_path(per_elt_updates)
    }
    if len(set(sizes.values())) != 1:
        shown = ", ".join(f"{path} has {size}" for path, size in sizes.items()) or "there are no tensors"
        raise ValueError(f"aggregating: all tensors must have the same number of examples: {shown}")
    return next(iter(sizes.values()))


class PerElementMeanAndSumSqDiffGradsState(NamedTuple):
    """micro_step: int32 scalar, batches since the last means were complete; ready: bool scalar, whether
    the last update completed them; mean_grads, sum_sq_diff_grads: trees like the params, so far."""

    micro_step: Array
    ready: Array
    mean_grads: Updates
    sum_sq_diff_grads: Updates


def get_per_element_mean_and_sum_sq_diff_grads(
    per_elt_axis: int | Sequence[int] = 0, accumulation_steps: int = 1
) -> Aggregator:
    """The mean over examples, and the sum of squares of their distances from it.

    Batches are put together by mean₊ = mean + δ/(m + 1) and sum₊ = sum + Σ(g − mean_b)² + δ²·n·m/(m + 1),
    with the distance δ of the batch's mean from that of the m batches before, of n examples each.

    Args:
        per_elt_axis: the axes of the examples in every tensor.
        accumulation_steps: over how many batches, at least 1.

    Returns:
        An `Aggregator` whose updates are the pair of the mean, and a dict of ``sum_sq_diff_grads``, a tree
        like the params, and ``sample_size``, the number of examples; for `process` with
        ``aggregator_has_aux=True``.

    Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample
    variances, 1979.
    """
    if accumulation_steps < 1:
        raise ValueError(
            "get_per_element_mean_and_sum_sq_diff_grads: accumulation_steps must be at least 1, "
            f"got {accumulation_steps}"
        )
    axes = per_elt_axis if isinstance(per_elt_axis, int) else tuple(per_elt_axis)

    def of_batch(per_elt_updates: PerElementUpdates) -> tuple[Updates, Updates, int]:
        def squares(x: Any, mean: Array) -> Array:
            return jnp.sum(jnp.square(wide(x) - jnp.expand_dims(mean, axes)), axis=axes)

        mean = mean_over(per_elt_updates, axes)
        size = get_batch_size_from_per_elt_updates(per_elt_updates, axes)
        return mean, jax.tree.map(squares, per_elt_updates, mean), size

    def at_once(updates: Any, state: State, params: Params | None = None, **extra_args: Any) -> Any:
        del params, extra_args
        mean, squares, size = of_batch(updates)
        return (mean, {"sum_sq_diff_grads": squares, "sample_size": size}), state

    def init(params: Params) -> PerElementMeanAndSumSqDiffGradsState:
        nothing = tree.zeros_like(jax.tree.map(wide, params))
        zero = jnp.zeros([], jnp.int32)
        return PerElementMeanAndSumSqDiffGradsState(
            zero, jnp.array(False), nothing, jax.tree.map(jnp.copy, nothing)
        )

    def update(
        updates: Any, state: Any, params: Params | None = None, **extra_args: Any
    ) -> tuple[Any, PerElementMeanAndSumSqDiffGradsState]:
        del params, extra_args
        mean, squares, size = of_batch(updates)
        step = safe_increment(state.micro_step)

        def further_mean(old: Array, new: Array) -> Array:
            return old + (new - old) / step.astype(old.dtype)

        def further_squares(total: Array, squares: Array, old: Array, new: Array) -> Array:
            between = size * state.micro_step.astype(old.dtype) / step.astype(old.dtype)
            return total + squares + jnp.square(new - old) * between

        squares = jax.tree.map(further_squares, state.sum_sq_diff_grads, squares, state.mean_grads, mean)
        mean = jax.tree.map(further_mean, state.mean_grads, mean)
        ready = step == accumulation_steps
        found = mean, {"sum_sq_diff_grads": squares, "sample_size": size * step}
        kept = tree.where(ready, tree.zeros_like((mean, squares)), (mean, squares))
        state = PerElementMeanAndSumSqDiffGradsState(jnp.where(ready, 0, step), ready, *kept)
        return tree.where(ready, found, tree.zeros_like(found)), state

    return Aggregator(init_empty_state, at_once) if accumulation_steps == 1 else Aggregator(init, update)


class PerElementMeanAndVarianceEMAState(NamedTuple):
    """count: int32 scalar, updates so far; ema_decay: scalar; mean_grads_ema, variance_grads_ema: trees like
    the params, moving averages that began at 0."""

    count: Array
    ema_decay: Array
    mean_grads_ema: Updates
    variance_grads_ema: Updates


@treewise(
    state=PerElementMeanAndVarianceEMAState,
    name="experimental.aggregating.track_per_element_mean_and_variance_with_ema",
)
def track_per_element_mean_and_variance_with_ema(ema_decay: Decay = 0.9):
    """Keep moving averages of the mean and of the variance over examples; updates stay as they are.

    Args:
        ema_decay: what the averages keep.

    The extra arguments ``sum_sq_diff_grads`` and ``sample_size`` come from the aggregator before it; the
    variance is sum_sq_diff_grads / (sample_size − 1).
    """

    def init(params):
        nothing = tree.zeros_like(jax.tree.map(wide, params))
        return PerElementMeanAndVarianceEMAState(
            count=jnp.zeros([], jnp.int32),
            ema_decay=jnp.asarray(ema_decay, jnp.result_type(float)),
            mean_grads_ema=nothing,
            variance_grads_ema=jax.tree.map(jnp.copy, nothing),
        )

    def update(updates, state, params=None, *, sum_sq_diff_grads, sample_size):
        del params
        others = jnp.maximum(sample_size - 1, 1)
        variance = jax.tree.map(lambda squares: squares / others.astype(squares.dtype), sum_sq_diff_grads)

        def averaged(old, new):
            return jax.tree.map(lambda m, x: decay_towards(m, x, ema_decay), old, new)

        return updates, PerElementMeanAndVarianceEMAState(
            safe_increment(state.count),
            jnp.asarray(ema_decay, state.ema_decay.dtype),
            averaged(state.mean_grads_ema, updates),
            averaged(state.variance_grads_ema, variance),
        )

    return init, update


def get_unbiased_mean_and_variance_ema(state: State) -> tuple[Updates, Updates]:
    """The tracked averages, each divided by the weight that it has seen.

    Args:
        state: of an optimizer with `track_per_element_mean_and_variance_with_ema` in it, after at least
            one update of it.

    Returns:
        Two trees like the params: mean and variance.

    Raises:
        ValueError: if there is no such state in it.
    """
    tracked = tree.get(state, "PerElementMeanAndVarianceEMAState")
    if tracked is None:
        raise ValueError(
            "get_unbiased_mean_and_variance_ema: there is no PerElementMeanAndVarianceEMAState in this "
            "state; make the optimizer with add_mean_variance_to_opt"
        )
    averages = tracked.mean_grads_ema, tracked.variance_grads_ema
    return tree.bias_correction(averages, tracked.ema_decay, tracked.count)


def add_mean_variance_to_opt(
    opt: GradientTransformation,
    ema_decay: float = 0.9,
    per_elt_axis: int | Sequence[int] = 0,
    accumulation_steps: int = 1,
) -> GradientTransformation | Aggregator:
    """An optimizer of the mean gradient that keeps averages of its mean and variance over examples.

    Args:
        opt: the optimizer.
        ema_decay: what the averages keep.
        per_elt_axis: the axes of the examples in every tensor.
        accumulation_steps: over how many batches a step goes, at least 1.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> from gradtx.experimental import aggregating
        >>> tx = aggregating.add_mean_variance_to_opt(gradtx.sgd(0.1))
        >>> grads = {"w": jnp.array([1.0, 3.0])}
        >>> updates, state = tx.update(grads, tx.init({"w": jnp.array(0.0)}))
        >>> mean, variance = aggregating.get_unbiased_mean_and_variance_ema(state)
        >>> print(updates["w"], mean["w"].round(3), variance["w"].round(3))
        -0.2 2.0 2.0
    """
    return process(
        preprocessor=identity(),
        aggregator=get_per_element_mean_and_sum_sq_diff_grads(per_elt_axis, accumulation_steps),
        postprocessor=chain(track_per_element_mean_and_variance_with_ema(ema_decay), opt),
        aggregator_has_aux=True,
    )

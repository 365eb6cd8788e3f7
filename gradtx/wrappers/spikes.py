"""The spike guard: steps that are skipped when the loss or the gradient is far above what it used to be."""

from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.errors import check_scalar
from gradtx.arrays.numerics import safe_increment, sqrt
from gradtx.arrays.trees import global_norm, or_zero, scalar_dtype, select_tree
from gradtx.arrays.types import Array, DType, Scalar, State
from gradtx.core.transformation import GradientTransformation, check_transformation
from gradtx.core.treewise import treewise
from gradtx.values.domains import Interval, Positive, Static
from gradtx.wrappers.loss_scaling import refuse_loss_scaling

WindowLength = Static[Annotated[int, Interval("[2, inf]", whole=True)]]


class SpikeWindow(NamedTuple):
    """The last numbers of a kind.

    numbers: a vector of them, overwritten in turn; count: int32 scalar, the finite ones so far.
    """

    numbers: Array
    count: Array

    @classmethod
    def empty(cls, length: int, dtype: DType) -> "SpikeWindow":
        """A window before the first number."""
        return cls(jnp.zeros(length, dtype), jnp.zeros([], jnp.int32))

    @property
    def length(self) -> int:
        """How many it holds."""
        return len(self.numbers)


@jax.jit
def _judged(window: SpikeWindow, x: Array, threshold: Scalar) -> tuple[Array, SpikeWindow]:
    """Whether x is a spike, and the window with x in it if that is finite."""
    numbers, count = window
    place = jnp.arange(window.length)
    held = jnp.minimum(count, window.length).astype(x.dtype)
    there = place < held
    mean = jnp.sum(jnp.where(there, numbers, 0)) / jnp.maximum(held, 1)
    squares = jnp.sum(jnp.where(there, jnp.square(numbers - mean), 0))
    # Numbers that are all alike have no deviation but that of their rounded sum.
    rounding = window.length * jnp.finfo(x.dtype).eps * jnp.abs(mean)
    deviation = jnp.maximum(sqrt(squares / jnp.maximum(held - 1, 1)), rounding)
    spike = (held >= max(window.length // 2, 2)) & (x > mean + threshold * deviation)
    finite = jnp.isfinite(x)
    here = (place == count % window.length) & finite
    return spike, SpikeWindow(jnp.where(here, x, numbers), jnp.where(finite, safe_increment(count), count))


class SkipSpikesState(NamedTuple):
    """Counters to log, what they are about, and the state of what is wrapped.

    last_skipped: bool scalar, whether the last step was skipped; total_skipped: int32 scalar, all that were;
    values, norms: a `SpikeWindow` of losses, and one of norms of gradients; empty for what is not watched;
    inner_state: the state of the wrapped transformation, of the last update that was applied.
    """

    last_skipped: Array
    total_skipped: Array
    values: SpikeWindow | tuple[()]
    norms: SpikeWindow | tuple[()]
    inner_state: State


@treewise(state=SkipSpikesState, on_shards=True)
def skip_spikes(
    inner: GradientTransformation,
    threshold: Positive = 6.0,
    window: WindowLength = 128,
    watch: Literal["both", "value", "norm"] = "both",
):
    """Skip a step whose loss or gradient is a spike: no step, and no trace of it in the optimizer's state.

    With the mean m and the standard deviation s of the last losses, those of skipped steps among them, a
    loss is a spike if it is above m + threshold·s; and so for the global norm of the gradient. Nothing is
    skipped before half of the window is full. A level that stays higher is thus a spike for a few steps only.

    The loss is given at each update: ``tx.update(grads, state, params, value=loss)``. `clip_by_usual_norm`
    makes a step shorter instead.

    What is NaN is no spike, and is passed on to be seen; `apply_if_finite` may stand on either side.
    Infinities are spikes; neither is in the window. `MultiSteps` may stand on either side too: inside, single
    gradients are left out; outside, steps. `dynamic_loss_scale` goes outside.

    Args:
        inner: the optimizer.
        threshold: how many standard deviations above the mean a spike begins, above 0. Default: 6.
        window: how many of the last steps are looked back on, at least 2. Default: 128.
        watch: ``"value"``, the loss alone, ``"norm"``, the norm of the gradient alone, or ``"both"``.

    Raises:
        TypeError: at `update`, if the loss is watched and it is called without ``value``.
        ValueError: around `dynamic_loss_scale`, which has to see what is not finite.

    Source: the ``SkipStepOptimizer`` of OLMo-core, whose defaults these are, and whose standard deviation,
    of n − 1. Earlier versions of it look above the mean only, as here, later ones at both sides; and wait
    for 2 values or 20. There, what is not finite is in the window, and all is skipped until it has left.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.skip_spikes(gradtx.sgd(1.0), window=4, watch="value")
        >>> state = tx.init({"w": jnp.array(0.0)})
        >>> for loss in (1.0, 1.1, 0.9, 9.0):
        ...     updates, state = tx.update({"w": jnp.array(1.0)}, state, value=loss)
        ...     print(updates["w"], state.total_skipped)
        -1.0 0
        -1.0 0
        -1.0 0
        0.0 1
    """
    check_transformation("skip_spikes", "inner", inner)
    refuse_loss_scaling("skip_spikes", inner)
    if watch not in ("both", "value", "norm"):
        raise ValueError(f"skip_spikes: watch must be 'both', 'value' or 'norm', got {watch!r}")

    def init(params):
        empty = SpikeWindow.empty(window, scalar_dtype("skip_spikes", params))
        return SkipSpikesState(
            last_skipped=jnp.zeros([], bool),
            total_skipped=jnp.zeros([], jnp.int32),
            values=() if watch == "norm" else empty,
            norms=() if watch == "value" else SpikeWindow(*map(jnp.copy, empty)),
            inner_state=inner.init(params),
        )

    def guarded(updates, state, params, extra):
        values, norms, spike = state.values, state.norms, jnp.zeros([], bool)
        if watch != "norm":
            check_scalar("skip_spikes", "value", extra["value"])
            spike, values = _judged(values, jnp.asarray(extra["value"], values.numbers.dtype), threshold)
        if watch != "value":
            large, norms = _judged(norms, global_norm(updates).astype(norms.numbers.dtype), threshold)
            spike |= large
        new, inner_state = inner.update(updates, state.inner_state, params, **extra)
        apply = ~spike
        total = jnp.where(spike, safe_increment(state.total_skipped), state.total_skipped)
        # Selected, as by `apply_if_finite`: what is written is written in one pass, as without a guard.
        kept = select_tree(apply, inner_state, state.inner_state)
        return or_zero.on_trees([new], apply), SkipSpikesState(spike, total, values, norms, kept)

    def update(updates, state, params=None, **extra):
        return guarded(updates, state, params, extra)

    def update_with_value(updates, state, params=None, *, value, **extra):
        return guarded(updates, state, params, {"value": value, **extra})

    return init, update if watch == "norm" else update_with_value

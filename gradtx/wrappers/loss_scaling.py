"""Dynamic loss scaling: a loss times a factor that keeps its gradients within float16."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gradtx.arrays.numerics import at_least_float32, cast, safe_increment
from gradtx.arrays.per_tensor import PerTensor
from gradtx.arrays.trees import all_finite, or_zero, select_tree
from gradtx.arrays.types import Array, State
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import Treewise, stages_in, treewise
from gradtx.tree.states import get_all_with_path
from gradtx.values.domains import Fraction, Interval, Scalar, ScalarOrSchedule

LEAST, LARGEST = (float(x) for x in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))
LossScale = Annotated[
    ScalarOrSchedule,
    Interval(f"[{LEAST!r}, {LARGEST!r}]", "{} is no scale that float32 holds in all its digits"),
]
"""A scale: a positive number of float32, or a schedule of it."""


class DynamicLossScaleState(NamedTuple):
    """The scale, numbers to log, and the state of what is wrapped.

    loss_scale: float32 scalar, what the next loss is to be multiplied with;
    finite_count: int32 scalar, finite gradients in a row since the scale has changed;
    total_notfinite: int32 scalar, all gradients that were not finite;
    inner_state: the state of the wrapped transformation, of the last update that was applied.
    """

    loss_scale: Array
    finite_count: Array
    total_notfinite: Array
    inner_state: State


class LossScaling(Treewise):
    """What `dynamic_loss_scale` returns."""


@treewise(state=DynamicLossScaleState, kind=LossScaling, on_shards=True)
def dynamic_loss_scale(
    inner: GradientTransformation,
    init_scale: LossScale = 2.0**16,
    growth_factor: Annotated[ScalarOrSchedule, Interval("(1, inf)")] = 2.0,
    backoff_factor: Fraction = 0.5,
    growth_interval: Annotated[ScalarOrSchedule, Interval("[1, inf]")] = 2000,
    min_scale: LossScale = 1.0,
):
    """Divide gradients by the scale of their loss, and find the largest scale that float16 bears.

    Gradients below 6e-8 are 0 in float16. Those of a loss times a factor, of which `scale_loss` makes them,
    are not. Here, before the inner transformation sees them, they are divided by it, in at least float32.
    Where one of them is not finite, the factor was too large: there is no step then, updates are 0 and the
    inner state stays. With the scale s and n finite gradients in a row:

        not finite:  s ← max(backoff_factor·s, min_scale),  n ← 0
        finite:      n ← n + 1;  at growth_interval: s ← growth_factor·s, unless that is infinite,  n ← 0

    Wrap the whole optimizer, clipping included: what stands before it in a chain sees scaled gradients. What
    else may leave steps out, `apply_if_finite` or the `should_skip_update_fn` of `MultiSteps`, goes inside,
    and sees only what is finite. `MultiSteps` itself may stand on either side: inside, each gradient is
    judged alone; outside, the mean of k. What `update` is given besides, a loss as `value` or gradients as
    `grad`, is without the factor.

    In `shard_map`, of gradients that are cut along axes of the mesh, put the update within `over_shards`:
    then a number that is not finite on one device leaves the step out on all.

    Args:
        inner: the optimizer.
        init_scale: the first scale. One too large costs a skipped step for each backoff. Default: 2¹⁶.
        growth_factor: by what the scale grows, above 1. Powers of 2 leave all digits of gradients as they
            are. Default: 2.
        backoff_factor: by what it falls, in (0, 1). Default: 1/2.
        growth_interval: after how many finite gradients in a row it grows. Default: 2000.
        min_scale: the scale never falls below. Default: 1.

    Raises:
        ValueError: for an init_scale below min_scale; and around another `dynamic_loss_scale`.

    Source: Micikevicius et al., Mixed precision training, arXiv:1710.03740. Names, defaults and scales are
    those of PyTorch's ``GradScaler``, which has no `min_scale`.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> tx = gradtx.dynamic_loss_scale(gradtx.sgd(1e4))
        >>> params = {"w": jnp.ones(2, jnp.float16)}
        >>> state = tx.init(params)
        >>> def loss_fn(params, x):
        ...     loss = jnp.sum(params["w"] * x, dtype=jnp.float32)
        ...     return gradtx.scale_loss(1e-6 * loss, state)
        >>> for x in (jnp.full(2, 1e-2, jnp.float16), jnp.full(2, jnp.inf, jnp.float16)):
        ...     grads = jax.grad(loss_fn)(params, x)
        ...     updates, state = tx.update(grads, state, params)
        ...     print(updates["w"], state.loss_scale)
        [-0.0001 -0.0001] 65536.0
        [0. 0.] 32768.0
    """
    refuse_loss_scaling("dynamic_loss_scale", inner)
    known = isinstance(init_scale, float | int) and isinstance(min_scale, float | int)
    if known and init_scale < min_scale:
        raise ValueError(
            f"dynamic_loss_scale: init_scale must be at least min_scale, got {init_scale} and {min_scale}"
        )

    def init(params):
        zero = jnp.zeros([], jnp.int32)
        scale = jnp.array(init_scale, jnp.float32)
        return DynamicLossScaleState(scale, zero, jnp.copy(zero), inner.init(params))

    def update(updates, state, params=None, **extra):
        grads = _divided.on_trees([updates], state.loss_scale)
        finite = all_finite(grads)
        new, inner_state = inner.update(grads, state.inner_state, params, **extra)
        scale, count = next_scale(
            state.loss_scale, state.finite_count, finite,
            growth_factor, backoff_factor, growth_interval, min_scale,
        )  # fmt: skip
        total = jnp.where(finite, state.total_notfinite, safe_increment(state.total_notfinite))
        # Selected, for the branches of a conditional would be written before one is known to be wanted.
        kept = select_tree(finite, inner_state, state.inner_state)
        return or_zero.on_trees([new], finite), DynamicLossScaleState(scale, count, total, kept)

    return init, update


@PerTensor
def _divided(grad: Array, scale: Array) -> Array:
    # Not times 1 / scale, which is 0 in float32 for the largest scales.
    return grad / scale.astype(grad.real.dtype)


def next_scale(
    scale: Array,
    count: Array,
    finite: Array,
    growth_factor: Scalar,
    backoff_factor: Scalar,
    growth_interval: Scalar,
    min_scale: Scalar,
) -> tuple[Array, Array]:
    """The scale and the count of finite gradients in a row after one more, which was finite or not."""
    in_a_row = safe_increment(count)
    due = in_a_row >= growth_interval
    grown = scale * growth_factor
    raised = jnp.where(due & jnp.isfinite(grown), grown, scale)
    lowered = jnp.maximum(scale * backoff_factor, min_scale)
    return jnp.where(finite, raised, lowered), jnp.where(finite & ~due, in_a_row, 0)


def scale_loss(loss: ArrayLike, state: State) -> Array:
    """A loss times the scale in the state of an optimizer: what is to be differentiated.

    ``grads = jax.grad(lambda params: scale_loss(loss(params), state))(params)`` goes to the `update` of that
    optimizer. It is in at least float32, for float16 ends at 65504.

    Args:
        loss: a scalar, best computed in float32: in float16 it would have the scale for its gradient.
        state: a state with that of a `dynamic_loss_scale` somewhere in it.

    Raises:
        ValueError: if there is none in it, or more than one.
    """
    found = get_all_with_path(state, DynamicLossScaleState.__name__)
    if not found:
        raise ValueError(
            "scale_loss: there is no loss scale in this state; it must be of a transformation within "
            "dynamic_loss_scale(...), the outermost wrapper"
        )
    if len(found) > 1:
        where = ", ".join(jax.tree_util.keystr(path) or "the whole" for path, _ in found)
        raise ValueError(
            f"scale_loss: there are {len(found)} loss scales in this state, at {where}, and a loss has one; "
            "wrap the whole optimizer once: dynamic_loss_scale(...)"
        )
    scale = jnp.asarray(found[0][1].loss_scale)
    loss = jnp.asarray(loss)
    return cast(loss, at_least_float32(loss.dtype)) * scale


def refuse_loss_scaling(name: str, inner: GradientTransformation) -> None:
    """Raise if a transformation scales a loss, wherever in it: for a wrapper that may not be around that."""
    if any(isinstance(stage, LossScaling) for stage in stages_in(inner)):
        raise ValueError(
            f"{name} may not be around dynamic_loss_scale, which lowers its scale when it sees a gradient "
            "that is not finite; wrap the other way round, with dynamic_loss_scale(...) outermost and once"
        )

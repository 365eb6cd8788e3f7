"""Gradient accumulation: several batches for one step of an optimizer."""

from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, ParamSpec

import jax
import jax.numpy as jnp

from gradtx.arrays.cond import cond
from gradtx.arrays.errors import check_alike, is_none
from gradtx.arrays.numerics import at_least_float32, cast, promoted, safe_increment
from gradtx.arrays.per_tensor import PerTensor
from gradtx.arrays.types import Array, Params, State, Updates
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import Treewise, treewise
from gradtx.values.counting import number_at
from gradtx.values.domains import DType, Interval, ScalarOrSchedule, Static
from gradtx.wrappers.loss_scaling import refuse_loss_scaling

P = ParamSpec("P")


class MultiStepsState(NamedTuple):
    """Where an accumulation stands.

    mini_step: int32 scalar, gradients accumulated since the last step of the optimizer;
    gradient_step: int32 scalar, steps of the optimizer so far;
    inner_opt_state: the optimizer's state;
    acc_grads: a tree like the params, the accumulated gradient; empty if every gradient is a step;
    skip_state: what `should_skip_update_fn` returned beside its verdict, for logging.
    """

    mini_step: Array
    gradient_step: Array
    inner_opt_state: State
    acc_grads: Updates
    skip_state: Any = ()


class Accumulating(Treewise):
    """What `MultiSteps` returns: a transformation that can be asked whether it has just made a step."""

    offered = ("gradient_transformation", "has_updated", "inner_opt")
    synonyms = MappingProxyType({"opt": "inner"})  # as Optax calls it

    @property
    def inner_opt(self) -> GradientTransformation:
        """The optimizer that it accumulates for."""
        return self.arguments["inner"]

    def gradient_transformation(self) -> "Accumulating":
        """Itself, which is a transformation already."""
        return self

    def has_updated(self, state: MultiStepsState) -> Array:
        """Whether the update that returned this state made a step of the optimizer, a bool scalar."""
        return jnp.logical_and(state.mini_step == 0, state.gradient_step > 0)


@treewise(state=MultiStepsState, kind=Accumulating, on_shards=True)
def MultiSteps(
    inner: GradientTransformation,
    every_k_schedule: Static[Annotated[ScalarOrSchedule, Interval("[1, inf]", whole=True)]],
    use_grad_mean: bool = True,
    should_skip_update_fn: Callable[..., Any] | None = None,
    accumulator_dtype: DType = None,
):
    """Accumulate k gradients, then make one step of an optimizer with their mean.

    In between, updates are 0 and the optimizer's state stays, so its schedules count its own steps.
    Every one of the k batches weighs the same. With k = 1 nothing is accumulated and no buffer held.

    Args:
        inner: the optimizer.
        every_k_schedule: k, or a schedule of it: a function of the optimizer's steps so far.
        use_grad_mean: whether to step with the mean. Default: yes; otherwise with the sum.
        should_skip_update_fn: ``f(updates, gradient_step, params) -> (skip, info)``: where `skip` is true
            a gradient is left out, as if its batch had not been seen; `info` goes into the state.
        accumulator_dtype: dtype of the accumulated gradient. Default: the params', at least float32.

    Raises:
        TypeError: if `should_skip_update_fn` returns no pair.
        ValueError: for a k below 1; for `should_skip_update_fn` around `dynamic_loss_scale`, which has to see
            what is not finite; and at `update` for gradients unlike those accumulated.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.MultiSteps(gradtx.sgd(1.0), 2)
        >>> state = tx.init({"w": jnp.array(0.0)})
        >>> for grad in (1.0, 3.0):
        ...     updates, state = tx.update({"w": jnp.array(grad)}, state)
        ...     print(updates["w"])
        0.0
        -2.0
    """
    if should_skip_update_fn is not None:
        refuse_loss_scaling("MultiSteps with should_skip_update_fn", inner)
    at_once = every_k_schedule == 1
    k_at: Any = every_k_schedule if callable(every_k_schedule) else lambda gradient_step: every_k_schedule

    def verdict(updates, gradient_step, params):
        found = (
            should_skip_update_fn(updates, gradient_step, params) if should_skip_update_fn else (False, ())
        )
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(f"MultiSteps: should_skip_update_fn must return (skip, info), got {found!r}")
        return found

    def init(params):
        zero = jnp.zeros([], jnp.int32)
        return MultiStepsState(
            mini_step=zero,
            gradient_step=jnp.copy(zero),
            inner_opt_state=inner.init(params),
            acc_grads=() if at_once else jax.tree.map(empty, params),
            skip_state=verdict(jax.tree.map(jnp.zeros_like, params), zero, params)[1],
        )

    def empty(param):
        return jnp.zeros_like(param, dtype=accumulator_dtype or at_least_float32(jnp.result_type(param)))

    def accumulated(updates, state):
        check_alike("MultiSteps", "updates", updates, "the state's acc_grads", state.acc_grads)
        pair = updates, state.acc_grads
        return _mean.on_trees(pair, safe_increment(state.mini_step)) if use_grad_mean else _sum.on_trees(pair)

    def left(total, acc, emit, skipped):
        kept = _kept.on_trees([total, acc], emit, skipped)
        return jax.tree.map(lambda x, old: old if x is None else x, kept, acc, is_leaf=is_none)

    def update(updates, state, params=None, **extra):
        def step(grads, inner_state):
            return inner.update(grads, inner_state, params, **extra)

        def stay(grads, inner_state):
            return as_returned(partial(jax.lax.full_like, fill_value=0), grads, params), inner_state

        skipped, skip_state = verdict(updates, state.gradient_step, params)
        total = updates if at_once else accumulated(updates, state)
        last = at_once or state.mini_step >= number_at(k_at, state.gradient_step) - 1
        emit = last if should_skip_update_fn is None else jnp.logical_and(last, jnp.logical_not(skipped))
        # A conditional: on k - 1 of k calls the optimizer does not run at all.
        new, inner_state = cond(emit, step, stay, total, state.inner_opt_state)
        further = jnp.where(skipped, state.mini_step, safe_increment(state.mini_step))
        return new, state._replace(
            mini_step=jnp.where(emit, 0, further),
            gradient_step=jnp.where(emit, safe_increment(state.gradient_step), state.gradient_step),
            inner_opt_state=inner_state,
            acc_grads=() if at_once else left(total, state.acc_grads, emit, skipped),
            skip_state=skip_state,
        )

    return init, update


def as_returned(make: Callable[[Any], Any], grads: Updates, params: Params | None) -> Updates:
    """``make(grad)`` for each gradient, in the dtypes in which a transformation returns updates."""

    def update(grad: Any, param: Any = None) -> Any:
        if grad is None:
            return None
        dtype = grad.dtype if param is None else promoted(grad.dtype, jnp.result_type(param))
        return cast(make(grad), dtype)

    return jax.tree.map(update, *([grads] if params is None else [grads, params]), is_leaf=is_none)


@PerTensor
def _mean(grad: Array, acc: Array, n: Array) -> Array:
    # The mean of what has come so far, so that k need not be known in advance.
    return acc + (cast(grad, acc.dtype) - acc) / n.astype(acc.real.dtype)


@PerTensor
def _sum(grad: Array, acc: Array) -> Array:
    return acc + cast(grad, acc.dtype)


@PerTensor
def _kept(total: Array, acc: Array, emit: Array, skipped: Array) -> Array:
    return cast(jnp.where(emit, 0, jnp.where(skipped, acc, total)), acc.dtype)

"""Gradient accumulation: several batches for one step of an optimizer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.numerics import at_least_float32, safe_increment
from gradtx.core.transformation import GradientTransformation, treewise
from gradtx.core.types import Array, Positive, State, Static, Updates


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


@treewise(state=MultiStepsState)
def MultiSteps(
    inner: GradientTransformation,
    every_k_schedule: Static[Positive],
    use_grad_mean: bool = True,
    should_skip_update_fn: Callable[..., Any] | None = None,
    accumulator_dtype: str | None = None,
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
        ValueError: for a k below 1.

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
    at_once = every_k_schedule == 1
    if not callable(every_k_schedule) and not isinstance(every_k_schedule, int):
        raise ValueError(f"MultiSteps: every_k_schedule must be a whole number, got {every_k_schedule!r}")
    k_at: Any = every_k_schedule if callable(every_k_schedule) else lambda gradient_step: every_k_schedule

    def skip(updates, state_step, params):
        if should_skip_update_fn is None:
            return None, ()
        return should_skip_update_fn(updates, state_step, params)

    def init(params):
        zero = jnp.zeros([], jnp.int32)
        grads = jax.tree.map(
            lambda p: jnp.zeros_like(p, dtype=accumulator_dtype or at_least_float32(p.dtype)), params
        )
        return MultiStepsState(
            mini_step=zero,
            gradient_step=jnp.copy(zero),
            inner_opt_state=inner.init(params),
            acc_grads=() if at_once else grads,
            skip_state=skip(jax.tree.map(jnp.zeros_like, params), zero, params)[1],
        )

    def update(updates, state, params=None, **extra):
        skipped, skip_state = skip(updates, state.gradient_step, params)

        def step(grads, inner_state):
            return inner.update(grads, inner_state, params, **extra)

        def stay(grads, inner_state):
            return jax.tree.map(jnp.zeros_like, grads), inner_state

        acc = updates if at_once else accumulate(state.acc_grads, updates, state.mini_step)
        emit = True if at_once else state.mini_step >= k_at(state.gradient_step) - 1
        if skipped is not None:
            emit = emit & ~skipped
        if emit is True:
            new, inner_state = step(acc, state.inner_opt_state)
        else:
            # A conditional: on k - 1 of k calls the optimizer does not run at all.
            new, inner_state = jax.lax.cond(emit, step, stay, acc, state.inner_opt_state)
        mini_step = jnp.where(emit, 0, safe_increment(state.mini_step))
        if not at_once:
            acc = jax.tree.map(lambda a: jnp.where(emit, 0, a).astype(a.dtype), acc)
        if skipped is not None:
            mini_step = jnp.where(skipped, state.mini_step, mini_step)
            acc = jax.tree.map(lambda old, a: jnp.where(skipped, old, a), state.acc_grads, acc)
        return new, state._replace(
            mini_step=mini_step,
            gradient_step=jnp.where(emit, safe_increment(state.gradient_step), state.gradient_step),
            inner_opt_state=inner_state,
            acc_grads=() if at_once else acc,
            skip_state=skip_state,
        )

    def accumulate(acc, grads, n):
        # The mean of what has come so far, so that k need not be known in advance.
        def add(a, g):
            g = g.astype(a.dtype)
            return a + (g - a) / (n + 1).astype(a.real.dtype) if use_grad_mean else a + g

        return jax.tree.map(add, acc, grads)

    return init, update

"""Conditions: transformations that run at some steps only."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp

from gradtx.arrays.cond import cond
from gradtx.arrays.errors import check_callable
from gradtx.arrays.numerics import safe_increment
from gradtx.arrays.signatures import signature
from gradtx.arrays.types import Array, State, TransformUpdateFn
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import treewise
from gradtx.values.counting import number_at
from gradtx.wrappers.accumulation import as_returned


class ConditionFn(Protocol):
    """``f(step, **extra) -> bool``: whether to run at a step, 0 at the first update."""

    def __call__(self, step: Array, /, **extra: Any) -> Any: ...


class ConditionallyTransformState(NamedTuple):
    """inner_state: the state of the wrapped transformation; step: int32 scalar, updates so far."""

    inner_state: State
    step: Array


class ConditionallyMaskState(NamedTuple):
    """step: int32 scalar, updates so far; inner_state: the state of the wrapped transformation."""

    step: Array
    inner_state: State


def _when(
    name: str,
    inner: GradientTransformation,
    should_transform_fn: ConditionFn,
    forward_extra_args: bool,
    otherwise: Callable[[Any], Any],
) -> TransformUpdateFn:
    """The update of `inner` where the condition holds, `otherwise` of the updates where not."""
    check_callable(name, "should_transform_fn", should_transform_fn)
    try:
        forwarded = signature(should_transform_fn).of_those
    except ValueError:  # written in C
        forwarded = dict

    def update(updates, state, params=None, **extra):
        def run(updates, inner_state):
            return inner.update(updates, inner_state, params, **extra)

        def stay(updates, inner_state):
            return as_returned(otherwise, updates, params), inner_state

        given = forwarded(extra) if forward_extra_args else {}
        holds = number_at(partial(should_transform_fn, **given), state.step)
        new, inner_state = cond(holds, run, stay, updates, state.inner_state)
        return new, state._replace(step=safe_increment(state.step), inner_state=inner_state)

    return update


@treewise(state=ConditionallyTransformState, on_shards=True)
def conditionally_transform(
    inner: GradientTransformation, should_transform_fn: ConditionFn, forward_extra_args: bool = False
):
    """Run a transformation at some steps; at the others updates pass unchanged.

    Its state stands still at the other steps.

    Args:
        inner: the transformation.
        should_transform_fn: a function of the step, an int32 scalar that is 0 at the first update:
            whether to run.
        forward_extra_args: whether it is given the extra arguments of `update` too: those that it names, or
            all if it takes ``**extra``.
    """

    def init(params):
        return ConditionallyTransformState(inner.init(params), jnp.zeros([], jnp.int32))

    return init, _when(
        "conditionally_transform", inner, should_transform_fn, forward_extra_args, lambda grad: grad
    )


@treewise(state=ConditionallyMaskState, on_shards=True)
def conditionally_mask(
    inner: GradientTransformation, should_transform_fn: ConditionFn, forward_extra_args: bool = False
):
    """Run a transformation at some steps; at the others updates are 0.

    Its state stands still at the other steps.

    Args:
        inner: the transformation.
        should_transform_fn: a function of the step, an int32 scalar that is 0 at the first update:
            whether to run.
        forward_extra_args: whether it is given the extra arguments of `update` too: those that it names, or
            all if it takes ``**extra``.
    """

    def init(params):
        return ConditionallyMaskState(jnp.zeros([], jnp.int32), inner.init(params))

    return init, _when("conditionally_mask", inner, should_transform_fn, forward_extra_args, jnp.zeros_like)

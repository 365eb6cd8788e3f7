"""Sharpness-aware minimization: gradients from where the loss is worst nearby."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.cond import cond
from gradtx.arrays.numerics import safe_increment
from gradtx.arrays.trees import mapped, widened
from gradtx.arrays.types import Array, Params, State
from gradtx.core.transformation import GradientTransformation, InnerStates, check_transformation
from gradtx.core.treewise import treewise
from gradtx.step import apply_updates
from gradtx.values.domains import Count


class SAMState(NamedTuple):
    """Where a sharpness-aware optimizer stands.

    steps_since_sync: int32 scalar, steps uphill since the last step of the optimizer;
    opt_state, adv_state: the states of the optimizer and of the one that goes uphill;
    cache: a tree like the params, these before the steps uphill; None in opaque mode.
    """

    steps_since_sync: Array
    opt_state: State
    adv_state: State
    cache: Params | None

    def evaluation_params(self, params: Params) -> Params:
        """The params before the steps uphill."""
        if self.cache is None:
            return params
        away = self.steps_since_sync > 0
        return mapped(lambda p, before: jnp.where(away, before, p), params, self.cache)


def _both_states(arguments: Mapping[str, Any], state: State) -> InnerStates:
    return {
        "opt_state": [(arguments["optimizer"], state.opt_state)],
        "adv_state": [(arguments["adv_optimizer"], state.adv_state)],
    }


@treewise(state=SAMState, inner_states=_both_states)
def sam(
    optimizer: GradientTransformation,
    adv_optimizer: GradientTransformation,
    sync_period: Count = 2,
    reset_state: bool = True,
    opaque_mode: bool = False,
    batch_axis_name: str | None = None,
):
    """Sharpness-aware minimization: go uphill, and step from the start by the gradient found there.

    Of sync_period updates all but the last go uphill, by the opposite of adv_optimizer's steps; the
    last goes back to the params before them and makes a step of `optimizer`, by the gradient at the
    top. The method of the paper is ``sam(sgd(lr), chain(contrib.normalize(), sgd(rho)))``.

    After every update the params are those to take the next gradient at. To evaluate in between use
    ``evaluation_params(state, params)``.

    Args:
        optimizer: makes the steps downhill.
        adv_optimizer: makes those uphill, with its sign turned.
        sync_period: how many updates make one step, a whole number of at least 1. Default: 2.
        reset_state: whether adv_optimizer starts anew after each step.
        opaque_mode: whether each update does all of this at once, so that nobody sees the params uphill
            (batch statistics of a model, for instance). It needs ``grad_fn=``, a function of the params
            and the number of the step uphill (0, 1, ...) that returns gradients.
        batch_axis_name: in opaque mode, the axis of devices over which these gradients are averaged.

    Raises:
        TypeError: in opaque mode at `update`, if it is called without ``grad_fn``, or with no function.
        ValueError: there, if gradients that it returns are not like the updates.

    Source: Foret et al., Sharpness-aware minimization, arXiv:2010.01412.
    """
    check_transformation("contrib.sam", "optimizer", optimizer)
    check_transformation("contrib.sam", "adv_optimizer", adv_optimizer)

    def init(params):
        cache = None if opaque_mode else widened(params)
        return SAMState(jnp.zeros([], jnp.int32), optimizer.init(params), adv_optimizer.init(params), cache)

    def uphill(updates, adv_state, params, extra):
        steps, adv_state = adv_optimizer.update(updates, adv_state, params, **extra)
        return mapped(jnp.negative, steps), adv_state

    def seen(updates, state, params, **extra):
        first = state.steps_since_sync == 0
        cache = mapped(lambda before, p: jnp.where(first, p, before), state.cache, params)

        def up(updates, opt_state, adv_state):
            steps, adv_state = uphill(updates, adv_state, params, extra)
            return steps, opt_state, adv_state

        def down(updates, opt_state, adv_state):
            steps, opt_state = optimizer.update(updates, opt_state, cache, **extra)
            back = mapped(lambda u, c, p: (c - p + u).astype(u.dtype), steps, cache, params)
            return back, opt_state, adv_optimizer.init(params) if reset_state else adv_state

        last = state.steps_since_sync == sync_period - 1
        updates, opt_state, adv_state = cond(last, down, up, updates, state.opt_state, state.adv_state)
        steps = jnp.where(last, 0, safe_increment(state.steps_since_sync))
        return updates, SAMState(steps, opt_state, adv_state, cache)

    def opaque(updates, state, params, *, grad_fn, **extra):
        if not callable(grad_fn):
            raise TypeError(f"contrib.sam: grad_fn must be a function of params, got {grad_fn!r}")
        adv_state, adv_params = state.adv_state, params
        for i in range(sync_period - 1):
            steps, adv_state = uphill(updates, adv_state, adv_params, extra)
            adv_params = apply_updates(adv_params, steps)
            grads = grad_fn(adv_params, i)
            errors.check_alike("contrib.sam", "the updates", updates, "what grad_fn returned", grads)
            updates = mapped(lambda _, g: g, updates, grads)
            if batch_axis_name is not None:
                updates = jax.lax.pmean(updates, axis_name=batch_axis_name)
        updates, opt_state = optimizer.update(updates, state.opt_state, params, **extra)
        adv_state = adv_optimizer.init(params) if reset_state else adv_state
        return updates, SAMState(state.steps_since_sync, opt_state, adv_state, None)

    return init, opaque if opaque_mode else seen

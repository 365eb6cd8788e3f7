"""Outer optimizers: slow parameters that follow, every so many steps, the drift of an optimizer within."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.cond import cond
from gradtx.arrays.errors import is_none
from gradtx.arrays.numerics import cast, safe_increment
from gradtx.arrays.trees import moved, widened
from gradtx.arrays.types import Array, Params, State, Updates
from gradtx.core.transformation import GradientTransformation, InnerStates, check_transformation
from gradtx.core.treewise import Treewise, treewise
from gradtx.values.domains import Interval, ScalarOrSchedule

Follow = Callable[[Updates, State, Params], tuple[Updates, State]]
"""``f(drift, state, slow) -> (steps, state)``: the update of an outer optimizer."""


def synchronized(
    choose: Callable[..., Any],
    sync: Array,
    updates: Updates,
    params: Params,
    slow: Params,
    state: State,
    follow: Follow,
) -> tuple[Updates, Params, State]:
    """Where `sync` holds, the slow params after a step along the drift, and updates that lead to them.

    Elsewhere all stays.

    Args:
        choose: `cond` or `select`.
        sync: bool scalar.
        updates, params: of the fast params, before the step.
        slow, state: the slow params, and the state of what makes them follow.
        follow: makes steps of the drift, slow − fast.
    """

    def step(updates, slow, state):
        drift = jax.tree.map(_drift, updates, params, slow, is_leaf=is_none)
        steps, state = follow(drift, state, slow)
        slow = moved(slow, 1, steps)
        return jax.tree.map(_towards, updates, params, slow, is_leaf=is_none), slow, state

    return choose(sync, step, lambda *operands: operands, updates, slow, state)


def _drift(update: Array | None, param: Array, slow: Array) -> Array | None:
    return None if update is None else slow - (param.astype(slow.dtype) + update)


def _towards(update: Array | None, param: Array, slow: Array) -> Array | None:
    return None if update is None else cast(slow - param.astype(slow.dtype), update.dtype)


class OuterOptimizerState(NamedTuple):
    """Where an outer optimizer stands.

    inner_state: the state of the inner optimizer;
    steps_since_outer: int32 scalar, its steps since the last one of the outer optimizer;
    outer_state: the state of the outer optimizer;
    outer_params: a tree like the params, in at least float32: where the outer optimizer has got to.
    """

    inner_state: State
    steps_since_outer: Array
    outer_state: State
    outer_params: Params

    def evaluation_params(self, params: Params) -> Params:
        """The outer params."""
        del params
        return self.outer_params


class Outer(Treewise):
    """What `outer_optimizer` returns."""

    # So that params of half precision arrive at the outer ones, and all replicas at the same.
    is_wide = True  # pyright: ignore[reportAssignmentType]  # read only


def _both_states(arguments: Mapping[str, Any], state: State) -> InnerStates:
    return {
        "inner_state": [(arguments["inner"], state.inner_state)],
        "outer_state": [(arguments["outer"], state.outer_state)],
    }


@treewise(state=OuterOptimizerState, kind=Outer, inner_states=_both_states, on_shards=True)
def outer_optimizer(
    inner: GradientTransformation,
    outer: GradientTransformation,
    every: Annotated[ScalarOrSchedule, Interval("[1, inf]", whole=True)],
    axis: str | None = None,
):
    """Let an optimizer make H steps, and take the way it has gone for the gradient of another one.

    With θ the outer params and θᵢ those of replica i after H steps of the inner optimizer from θ:

        Δ = mean over i of θ − θᵢ,  θ ← θ + outer(Δ),  θᵢ ← θ

    With ``outer = sgd(0.7, momentum=0.9, nesterov=True)`` and an axis this is DiLoCo; without an axis, which
    is one replica, it is SNOO. (Its published code steps first after one inner step, and then after H each.)
    `lookahead` is ``sgd(slow_step_size)``. With H = 1, ``sgd(1.0)`` leaves the inner optimizer as it is.

    Inner states stay apart: of replicas only the drift is averaged, H times less often than gradients would
    be, and between its steps the outer optimizer is not run. Replicas begin from the same params, and the
    updates must be applied as they are. Evaluate with the outer params: ``evaluation_params(state, params)``.

    Args:
        inner: the optimizer that sees gradients, each replica its own.
        outer: the optimizer that sees the drift, and goes down it as down a gradient.
        every: H, how many steps of the inner optimizer make one of the outer, a whole number of at least 1;
            or a schedule of it.
        axis: the name of the axis along which replicas differ: one of the mesh, in `jax.shard_map` over it,
            or the ``axis_name`` of a `jax.vmap`. Default: there is one replica.

    Raises:
        ValueError: at `update`, outside of an axis of this name.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> tx = gradtx.outer_optimizer(gradtx.sgd(0.1), gradtx.sgd(0.5), every=2, axis="replica")
        >>> params = {"w": jnp.zeros(2)}  # of two replicas
        >>> state = jax.vmap(tx.init)(params)
        >>> update = jax.vmap(tx.update, axis_name="replica")
        >>> for _ in range(2):
        ...     updates, state = update({"w": jnp.array([1.0, 3.0])}, state, params)
        ...     params = gradtx.apply_updates(params, updates)
        ...     print(params["w"])
        [-0.1 -0.3]
        [-0.2 -0.2]

    Source: Douillard et al., DiLoCo: distributed low-communication training of language models,
    arXiv:2311.08105; Kallusky et al., SNOO: step-K Nesterov outer optimizer, arXiv:2510.15830.
    """
    check_transformation("outer_optimizer", "inner", inner)
    check_transformation("outer_optimizer", "outer", outer)
    if not (axis is None or isinstance(axis, str)):
        raise TypeError(f"outer_optimizer: axis must be the name of an axis or None, got {axis!r}")

    def init(params):
        slow = widened(params)
        return OuterOptimizerState(inner.init(params), jnp.zeros([], jnp.int32), outer.init(slow), slow)

    def update(updates, state, params, **extra):
        def follow(drift, outer_state, slow):
            drift = drift if axis is None else jax.lax.pmean(drift, axis)
            return outer.update(drift, outer_state, slow, **extra)

        updates, inner_state = inner.update(updates, state.inner_state, params, **extra)
        steps = safe_increment(state.steps_since_outer)
        sync = steps >= every
        updates, slow, outer_state = synchronized(
            cond,  # replicas meet, and whatever the outer optimizer does is done, once in H steps
            sync if axis is None else _on_all(sync, axis),
            updates,
            params,
            state.outer_params,
            state.outer_state,
            follow,
        )
        return updates, OuterOptimizerState(inner_state, jnp.where(sync, 0, steps), outer_state, slow)

    return init, update


def _on_all(sync: Array, axis: str) -> Array:
    """The verdict, which is the same on all replicas, in a form that a conditional can branch on."""
    mesh = jax.sharding.get_abstract_mesh()
    if axis in mesh.manual_axes:
        return sync  # each device branches for itself
    try:
        jax.lax.psum(1, axis)
    except NameError:
        there = ", ".join(map(repr, mesh.manual_axes)) or "none"
        raise ValueError(
            f"outer_optimizer: there is no axis {axis!r} to average over here; those of jax.shard_map are: "
            f"{there}. Update in jax.shard_map over {axis!r}, or in jax.vmap(..., axis_name={axis!r})"
        ) from None
    # In a batch a number of each would make a selection of the conditional; this is one for all.
    return jax.lax.pmax(sync.astype(jnp.int32), axis) > 0

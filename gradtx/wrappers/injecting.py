"""Injected hyperparameters: numbers kept in the state."""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import at_least_float32, safe_increment
from gradtx.arrays.types import Array, Scalar, State
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation, InnerStates
from gradtx.core.treewise import treewise
from gradtx.schedules.stateful import StatefulSchedule, WrappedSchedule
from gradtx.values.domains import DType
from gradtx.values.factory import Factory, factory_of


class InjectStatefulHyperparamsState(NamedTuple):
    """Numbers in the state.

    count: int32 scalar, updates so far;
    hyperparams: each number by name, as used in the last update;
    hyperparams_states: of each scheduled one, the count, or what its `StatefulSchedule` keeps;
    inner_state: the state of the wrapped transformation.
    """

    count: Array
    hyperparams: dict[str, Array]
    hyperparams_states: dict[str, Any]
    inner_state: State


def _with_state(schedule: Callable[..., Any]) -> StatefulSchedule:
    return schedule if isinstance(schedule, StatefulSchedule) else WrappedSchedule(schedule)


def _first(schedule: Callable[..., Any]) -> Scalar:
    stateful = _with_state(schedule)
    return stateful(stateful.init())


def _with_numbers_of(arguments: Mapping[str, Any], state: State) -> InnerStates:
    return {"inner_state": [(arguments["inner_factory"].replace(**state.hyperparams), state.inner_state)]}


@treewise(state=InjectStatefulHyperparamsState, name="inject_hyperparams", inner_states=_with_numbers_of)
def _injected(
    inner_factory: GradientTransformation,
    static_args: tuple[str, ...],
    hyperparam_dtype: DType,
    schedules: Mapping[str, Callable[..., Any]],
):
    inner = inner_factory
    stateful = {name: _with_state(schedule) for name, schedule in schedules.items()}
    candidates = {name: inner.arguments[name] for name in inner.arguments if name in inner.factory.numeric}
    fixed = {
        name: number
        for name, number in candidates.items()
        if name not in static_args and name not in schedules and number is not None
    }

    def in_state(number: Any) -> Array:
        # At least float32: a b2 of 0.999 would become 1 in bfloat16.
        dtype = jnp.result_type(number)
        wanted = hyperparam_dtype or at_least_float32(dtype)
        return jnp.asarray(number, dtype=wanted if jnp.issubdtype(dtype, jnp.inexact) else dtype)

    def init(params):
        states = {name: schedule.init() for name, schedule in stateful.items()}
        scheduled = {name: schedule(states[name]) for name, schedule in stateful.items()}
        numbers = {name: in_state(number) for name, number in {**fixed, **scheduled}.items()}
        count, inner_state = jnp.zeros([], jnp.int32), inner.replace(**numbers).init(params)
        return InjectStatefulHyperparamsState(count, numbers, states, inner_state)

    def update(updates, state, params=None, **extra):
        states = state.hyperparams_states
        scheduled = {name: in_state(schedule(states[name], **extra)) for name, schedule in stateful.items()}
        numbers = {**state.hyperparams, **scheduled}
        updates, inner_state = inner.replace(**numbers).update(updates, state.inner_state, params, **extra)
        return updates, InjectStatefulHyperparamsState(
            safe_increment(state.count),
            numbers,
            {name: schedule.update(states[name], **extra) for name, schedule in stateful.items()},
            inner_state,
        )

    return init, update


def inject_hyperparams(
    inner_factory: Callable[..., GradientTransformation] | GradientTransformation,
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: DType = None,
    schedules: Mapping[str, Callable[..., Any]] | None = None,
) -> Any:
    """Keep an optimizer's numbers in its state, where a training loop can read and set them.

    Schedules need none of this here (every number accepts one), nor does reading what is in force
    (`hyperparams`). It is for numbers that are set from outside, and for states that Optax wrote.

    Args:
        inner_factory: a factory such as ``adamw``, or any function that returns a transformation; or a
            transformation itself.
        static_args: names of arguments that stay out of the state.
        hyperparam_dtype: dtype of the numbers in the state. Default: float32, or float64 with x64.
        schedules: schedules of numbers by name, functions of the count or a `StatefulSchedule`. Those
            that the factory is called with come here too.

    Returns:
        A factory with the arguments of `inner_factory`; for a transformation, the wrapped one. The
        state has ``hyperparams``, a dict by name; in it are the numbers of the last update, and those
        that are not scheduled can be replaced.

    Raises:
        TypeError: for what is neither a transformation nor a function with a name.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.inject_hyperparams(gradtx.adamw)(learning_rate=1e-3)
        >>> state = tx.init({"w": jnp.zeros(2)})
        >>> state.hyperparams["learning_rate"] = jnp.asarray(0.5)
        >>> print(gradtx.hyperparams(tx, state).next["learning_rate"])
        0.5
    """
    names = (static_args,) if isinstance(static_args, str) else tuple(static_args)
    if isinstance(inner_factory, GradientTransformation):
        own = inner_factory.schedules
        return _injected(inner_factory, names, hyperparam_dtype, {**own, **(schedules or {})})
    if not (callable(inner_factory) and hasattr(inner_factory, "__qualname__")):
        raise TypeError(
            "inject_hyperparams: inner_factory must be a transformation, or a function with a name that "
            f"returns one, got {type(inner_factory).__name__}: {inner_factory!r}"
        )
    recorded = isinstance(getattr(inner_factory, "factory", None), Factory)
    factory = factory_of(inner_factory if recorded else recipe(inner_factory))

    @wraps(inner_factory)
    def injected(*args: Any, **kwargs: Any) -> GradientTransformation:
        arguments = factory.signature.bind(*args, **kwargs).arguments
        own = {name: x for name, x in arguments.items() if name in factory.numeric and callable(x)}
        # A plain function may compute with its numbers, so it is called with the first of each schedule.
        first = {} if recorded else {name: _first(schedule) for name, schedule in own.items()}
        inner = factory(**{**arguments, **first})
        return _injected(inner, names, hyperparam_dtype, own)

    return injected

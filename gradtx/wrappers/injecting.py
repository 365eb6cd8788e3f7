"""Injected hyperparameters: numbers kept in the state."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial, wraps
from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import at_least_float32, safe_increment
from gradtx.arrays.select import unboxed
from gradtx.arrays.types import Array, Scalar, State
from gradtx.core.recipe import Recipe
from gradtx.core.transformation import GradientTransformation, InnerStates
from gradtx.core.treewise import treewise
from gradtx.schedules.stateful import StatefulSchedule, WrappedSchedule
from gradtx.values.argument import KEYWORDS
from gradtx.values.domains import DType
from gradtx.values.factory import Factory, factory_of, register


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


class InjectHyperparamsState(NamedTuple):
    """What Optax kept numbers in before 0.1.9, for states that were written then.

    count: int32 scalar, updates so far; hyperparams: each number by name; inner_state: the state of the
    wrapped transformation.
    """

    count: Array
    hyperparams: dict[str, Array]
    inner_state: State


def _with_state(schedule: Callable[..., Any]) -> StatefulSchedule:
    return schedule if isinstance(schedule, StatefulSchedule) else WrappedSchedule(schedule)


def _first(schedule: Callable[..., Any]) -> Scalar:
    stateful = _with_state(schedule)
    return stateful(stateful.init())


def _with_numbers_of(arguments: Mapping[str, Any], state: State) -> InnerStates:
    # In Flax's nnx each number is in a box, which could be called as a schedule can.
    numbers = unboxed(state.hyperparams)
    return {"inner_state": [(arguments["inner_factory"].replace(**numbers), state.inner_state)]}


@treewise(
    state=InjectStatefulHyperparamsState,
    name="inject_hyperparams",
    inner_states=_with_numbers_of,
    others="shown",
)
def _injected(
    inner_factory: GradientTransformation,
    static_args: tuple[str, ...],
    hyperparam_dtype: DType,
    schedules: Mapping[str, Callable[..., Any]],
):
    inner = inner_factory
    _check_static(static_args, inner.factory)
    stateful = {name: _with_state(schedule) for name, schedule in schedules.items()}
    candidates = {name: inner.arguments[name] for name in inner.arguments if name in inner.factory.numeric}
    fixed = {
        name: number
        for name, number in candidates.items()
        if name not in static_args and name not in schedules and number is not None
    }

    def in_state(number: Any, like: Any = 0) -> Array:
        # At least float32: a b2 of 0.999 would become 1 in bfloat16.
        dtype = jnp.result_type(number, like)
        wanted = hyperparam_dtype or at_least_float32(dtype)
        return jnp.asarray(number, dtype=wanted if jnp.issubdtype(dtype, jnp.inexact) else dtype)

    def kept(state: InjectStatefulHyperparamsState) -> dict[str, Array]:
        # Whoever sets one may do so with a Python number, which is then as one that it began with.
        return {name: in_state(number, fixed.get(name, 0)) for name, number in state.hyperparams.items()}

    def init(params):
        states = {name: schedule.init() for name, schedule in stateful.items()}
        scheduled = {name: schedule(states[name]) for name, schedule in stateful.items()}
        numbers = {name: in_state(number) for name, number in {**fixed, **scheduled}.items()}
        count, inner_state = jnp.zeros([], jnp.int32), inner.replace(**numbers).init(params)
        return InjectStatefulHyperparamsState(count, numbers, states, inner_state)

    def update(updates, state, params=None, **extra):
        states = state.hyperparams_states
        scheduled = {name: in_state(schedule(states[name], **extra)) for name, schedule in stateful.items()}
        numbers = {**kept(state), **scheduled}
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
        inner_factory: a factory such as ``adamw``, or any function or callable object that returns a
            transformation, also a `functools.partial` of one; or a transformation itself.
        static_args: names of arguments that stay out of the state, and are not taken for schedules where
            they are functions, such as masks.
        hyperparam_dtype: dtype of the numbers in the state. Default: float32, or float64 with x64.
        schedules: schedules of numbers by name, functions of the count or a `StatefulSchedule`. Those
            that the factory is called with come here too.

    Returns:
        A factory with the arguments of `inner_factory`; for a transformation, the wrapped one. The
        state has ``hyperparams``, a dict by name; in it are the numbers of the last update, and those
        that are not scheduled can be replaced.

    Raises:
        TypeError: for what is neither a transformation nor a function.
        ValueError: for static_args that are no arguments.

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
        own = {name: x for name, x in inner_factory.schedules.items() if name not in names}
        return _injected(inner_factory, names, hyperparam_dtype, {**own, **(schedules or {})})
    if not callable(inner_factory):
        raise TypeError(
            "inject_hyperparams: inner_factory must be a transformation, or a function that returns one, "
            f"got {type(inner_factory).__name__}: {inner_factory!r}"
        )
    given = inner_factory if isinstance(inner_factory, partial) else partial(inner_factory)
    recorded = isinstance(getattr(given.func, "factory", None), Factory)
    factory = factory_of(given.func) if recorded else _factory_of_plain(given.func)
    _check_static(names, factory)
    # As in the signature of a partial, what is bound by its place is no argument any more.
    names += tuple(factory.signature.bind_partial(*given.args).arguments)

    @wraps(inner_factory)
    def injected(*args: Any, **kwargs: Any) -> GradientTransformation:
        bound = factory.signature.bind(*given.args, *args, **{**given.keywords, **kwargs})
        bound.apply_defaults()  # a default may be a schedule
        own = {
            name: x
            for name, x in bound.arguments.items()
            if name in factory.numeric and name not in names and callable(x)
        }
        # A plain function may compute with its numbers, so it is called with the first of each schedule.
        first = {} if recorded else {name: _first(schedule) for name, schedule in own.items()}
        places, named = factory.by_position({**bound.arguments, **first})
        return _injected(factory(*places, **named), names, hyperparam_dtype, {**own, **(schedules or {})})

    return injected


def _factory_of_plain(function: Callable[..., Any]) -> Factory:
    # An object's own method has a name, which the object has not.
    body = function if hasattr(function, "__qualname__") else function.__call__
    return factory_of(register(body, Recipe, decorator="recipe"))


def _check_static(names: tuple[str, ...], factory: Any) -> None:
    if not isinstance(names, list | tuple):
        raise TypeError(f"inject_hyperparams: static_args must be names of arguments, got {names!r}")
    known = factory.parameters
    unknown = [name for name in names if name not in known]
    if unknown and not any(p.kind is KEYWORDS for p in known.values()):
        raise ValueError(
            f"inject_hyperparams: static_args: {factory.name} has no argument {unknown[0]!r}; "
            f"its arguments are: {', '.join(known)}"
        )

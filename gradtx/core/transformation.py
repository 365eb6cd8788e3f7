"""Gradient transformations: values that turn gradients into parameter updates.

A transformation is a pair of pure functions. ``init(params)`` makes a state; ``update(updates, state,
params)`` returns new updates and a new state. Updates are added: ``params = apply_updates(params,
updates)``. Transformations chain: each sees the updates that the one before it returned, and an
optimizer is a chain whose last stage points downhill.

There are three kinds, told apart by what their formula looks at.

**Leafwise**: each tensor alone. Momentum, Adam's direction, weight decay. The formula is written for
one tensor, and the executor lifts it to trees; what `update` names is what it gets::

    @leafwise(state=TraceState)
    def trace(decay: Decay):
        def init(param):
            return dict(trace=jnp.zeros_like(param))

        def update(grad, trace):
            trace = grad + decay * trace
            return trace, dict(trace=trace)

        return init, update

**Treewise**: across tensors. Clipping by the global norm, accumulation, everything that wraps another
transformation. It is written with ``init(params)`` and ``update(updates, state, params, **extra)``.

**Recipe**: a function that returns a chain, under a name of its own. ``adamw`` is one.

A call of any of them is recorded (see :mod:`gradtx.core.value`): it prints as source, compares by
value, pickles, goes through ``jit`` and ``vmap``, and **any of its numbers may be a schedule**, a
function of the count of updates so far. The formula never knows: it is handed the number in force.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, ParamSpec, TypeAlias, overload

import jax
import jax.numpy as jnp

from gradtx.core import executor
from gradtx.core.numerics import safe_increment
from gradtx.core.program import Plan, Stage
from gradtx.core.rule import Rule, StateMismatch, StateType
from gradtx.core.types import Array, Params, State, TransformInitFn, TransformUpdateFn, Updates
from gradtx.core.value import Value, keeping_arrays, register

P = ParamSpec("P")


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


class ScheduledState(NamedTuple):
    """The state of a transformation that counts only because one of its numbers is scheduled.

    count: int32 scalar, updates so far; inner_state: its state with fixed numbers.
    """

    count: Array
    inner_state: State


class GradientTransformation(Value):
    """A transformation of gradients, as a value.

    ``GradientTransformation(init, update)`` makes one from two functions, as Optax does. All others
    come from factories such as ``adamw``, and are instances of this class too.

    Args:
        init: ``init(params) -> state``.
        update: ``update(updates, state, params=None, **extra) -> (updates, state)``; it receives those
            of the extra arguments that its signature names, or all if it takes ``**extra``.
    """

    per_example = False
    """Whether incoming updates have the examples of a batch on a first axis, which params lack."""

    def __new__(cls, init: TransformInitFn, update: TransformUpdateFn) -> "GradientTransformation":
        return from_functions(init, update)

    @property
    def name(self) -> str:
        """The name of its factory, as errors print it."""
        return self.factory.name

    @property
    def options(self) -> Mapping[str, Any]:
        """What the factory's decorator was told."""
        return self.factory.options

    def init(self, params: Params) -> State:
        """The state for these params; on ShapeDtypeStructs, the shapes, dtypes and shardings of it."""
        return executor.init(self, params)

    def update(
        self, updates: Updates, state: State, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, State]:
        """The transformed updates and the next state.

        Args:
            updates: a tree like the params: gradients, or what the stage before returned. Where it is
                None, nothing happens.
            state: from `init`, or from the update before.
            params: the parameters; needed by some transformations, and used for dtypes by all.
            **extra: whatever a stage asks for by name (``value=loss``); others ignore it.
        """
        return executor.update([self], None, updates, state, params, extra)

    def __iter__(self) -> Iterator[Any]:
        """``init, update = tx``."""
        return iter((self.init, self.update))

    @staticmethod
    def adopt(argument: Any) -> Any:
        """Transformations of other libraries are taken in as `GradientTransformation(init, update)`."""
        if _is_foreign(argument):
            return from_functions(argument.init, argument.update)
        if type(argument) is dict:
            return {key: GradientTransformation.adopt(child) for key, child in argument.items()}
        if type(argument) in (list, tuple):
            return type(argument)(map(GradientTransformation.adopt, argument))
        return argument

    def validate(self) -> None:
        """Raise if an argument that must be a transformation is something else."""
        for key, argument in self.arguments.items():
            if key == "inner":
                check_transformation(self.name, key, argument)

    def rule_at(self, scheduled: Mapping[str, Any]) -> Rule:
        """For a primitive: what its body returns, with these numbers in place of its schedules."""
        return Rule(self.factory.body(**{**self.arguments, **scheduled}))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The primitives that it consists of, in order."""
        return (self,)

    @cached_property
    def plan(self) -> Plan:
        """How the executor runs it."""
        return Plan(self.stages)

    def unpack(self, state: State) -> list[State]:
        """The states of its stages, in order."""
        raise NotImplementedError

    def pack(self, states: Iterator[State]) -> State:
        """The state made of the states of its stages."""
        return next(states)

    def inner_states(self, state: State) -> "InnerStates":
        """For a stage: which fields of its state are states of transformations that it wraps."""
        del state
        return {}


InnerStates: TypeAlias = dict[str, list[tuple[GradientTransformation, State]]]
"""By field of a state: the transformations whose states are in it, with these."""


def _is_foreign(x: Any) -> bool:
    if isinstance(x, Value | type) or not (hasattr(x, "init") and hasattr(x, "update")):
        return False
    if callable(x):  # a schedule that keeps a state
        return False
    return (
        getattr(x, "_fields", None) == ("init", "update") or not jax.tree.leaves(x) or x in jax.tree.leaves(x)
    )


def check_transformation(name: str, where: str, x: Any) -> None:
    """Raise if x is not a transformation, and say what was meant if it is a factory."""
    if isinstance(x, GradientTransformation):
        return
    if inspect.isfunction(x):
        raise TypeError(
            f"{name}: {where} is the function {x.__name__}, not a transformation; call it: {x.__name__}(...)"
        )
    raise TypeError(f"{name}: {where} must be a gradient transformation, got {type(x).__name__}: {x!r}")


# --- leafwise ---------------------------------------------------------------------------------------


class Leafwise(GradientTransformation):
    """A primitive whose formula sees one tensor."""

    leafwise = True

    @property
    def batch(self) -> bool:
        """Whether the rule runs once for all tensors of one shape."""
        return self.options["batch"]

    @property
    def like_torch(self) -> bool:
        """Whether its state is kept as PyTorch keeps it."""
        return self.options["like_torch"]

    @property
    def real_only(self) -> bool:
        """Whether its rule is not defined for complex tensors."""
        return self.options["real_only"]

    @cached_property
    def rule(self) -> Rule:
        """The rule before the first update: its `init`, and what its `update` names."""
        return Rule(self.factory.body(**self.numbers_at(jnp.zeros([], jnp.int32))))

    @cached_property
    def state_type(self) -> StateType:
        """The layout of its state."""
        plain, counted, counter = (self.options[name] for name in ("state", "counted", "counter"))
        if self.like_torch:
            cls = ScheduledState if self.schedules else plain
            return StateType(cls, plain._fields, counts=cls is not plain, wrapped=cls is not plain)
        slots = tuple(name for name in plain._fields if name != counter)
        if counter in plain._fields:
            return StateType(plain, slots, counts=True, counter=counter)
        if not self.schedules and "step" not in self.rule.names:
            return StateType(plain, slots, counts=False)
        if counted is None:
            return StateType(ScheduledState, slots, counts=True, wrapped=True)
        return StateType(counted, slots, counts=True)

    @cached_property
    def needs(self) -> Mapping[str, str]:
        """What an update must be given, and by whose wish."""
        known = {*self.rule.names[:1], *self.state_type.slots, "step"}
        return {"params" if what == "param" else what: self.name for what in self.rule.required - known}

    def unpack(self, state: State) -> list[State]:
        self.state_type.check(self.name, state)
        return [state]

    def validate(self) -> None:
        super().validate()
        _ = self.rule  # runs the body: what is wrong with the arguments shows where they are given


def leafwise(
    *,
    state: type = EmptyState,
    counted: type | None = None,
    counter: str = "count",
    batch: bool = False,
    like_torch: bool = False,
    real_only: bool = False,
    name: str | None = None,
) -> Callable[[Callable[P, Any]], Callable[P, GradientTransformation]]:
    """Make a factory of a formula on one tensor.

    The decorated function takes the numbers and choices and returns ``init, update``, or ``update``
    alone if there are no slots. ``init(param)`` returns a dict of slots: tensors, or lists of them.
    ``update`` names what it needs, the incoming update first: slots, ``param``, ``step`` (1 on the first
    update), or an extra argument of `update` such as ``value``. It returns the new update, and a dict of
    all slots if there are any. Tensors arrive in at least float32, and the executor casts what comes back.

    Args:
        state: the named tuple of the state; a field ``count`` is kept by the framework (int32, updates
            so far), every other field is a slot: a tree like the params.
        counted: the named tuple used instead if the rule needs a count and `state` has none, because
            it names ``step`` or because a number is scheduled. Default: a `ScheduledState`.
        counter: the field of `state` that is the count, where its layout has another name for it.
        batch: whether to run once for all tensors of one shape, by `jax.vmap` over their stack, where
            that is quicker: on accelerators, not on the CPU. For rules made of matrix products or
            decompositions.
        like_torch: whether to keep the state as PyTorch does: the field ``count`` is a slot too, so
            that each tensor counts its own updates (one without a gradient counts none); slots have
            the dtype of the param, also half precision; and the rule sees a complex tensor as a real
            one with a last axis of 2.
        real_only: whether to refuse complex tensors.
        name: the name in `repr`, errors and states. Default: the function's.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> @gradtx.leafwise()
        ... def scale_by_cube(rate=1.0):
        ...     def update(grad):
        ...         return rate * grad**3
        ...     return update
        >>> tx = gradtx.chain(scale_by_cube(0.5), gradtx.scale(-1.0))
        >>> updates, state = tx.update({"w": jnp.array(2.0)}, tx.init({"w": jnp.array(0.0)}))
        >>> print(updates["w"])
        -4.0
    """
    options = dict(state=state, counted=counted, counter=counter)
    options |= dict(batch=batch, like_torch=like_torch, real_only=real_only)
    return lambda body: register(body, Leafwise, name=name, **options)


# --- treewise ---------------------------------------------------------------------------------------


class Treewise(GradientTransformation):
    """A primitive whose formula sees the whole tree, or that wraps another transformation."""

    leafwise = False
    batch = False

    @cached_property
    def rule(self) -> Rule:
        """The two functions; `init` makes a `ScheduledState` if there is no other count to go by."""
        rule = self.rule_at(self.numbers_at(jnp.zeros([], jnp.int32)))
        if self.schedules and not self._own_count:
            inner_init = rule.init
            rule.init = lambda params: ScheduledState(jnp.zeros([], jnp.int32), inner_init(params))
        return rule

    @property
    def _own_count(self) -> bool:
        state = self.options["state"]
        return state is not None and "count" in state._fields and self.options.get("counts", True)

    @cached_property
    def needs(self) -> Mapping[str, str]:
        """What an update must be given, and by whose wish: its own, or a wrapped transformation's."""
        own = {what: self.name for what in self.rule.required - {*self.rule.names[:2], "extra"}}
        for inner in transformations_in(self.arguments):
            own = {**inner.plan.needs, **own}
        return own

    def run(self, updates: Updates, state: State, params: Params | None, extra: Mapping[str, Any]) -> Any:
        """The update of the whole tree."""
        if not self.schedules:
            return self._apply(self.rule, updates, state, params, extra)
        rule = self.rule_at({name: schedule(state.count) for name, schedule in self.schedules.items()})
        if self._own_count:
            return self._apply(rule, updates, state, params, extra)
        updates, inner = self._apply(rule, updates, state.inner_state, params, extra)
        return updates, state._replace(count=safe_increment(state.count), inner_state=inner)

    @staticmethod
    def _apply(rule: Rule, updates: Any, state: Any, params: Any, extra: Any) -> Any:
        with_params = rule.takes_any or len(rule.names) > 2
        given = rule.extra(extra)
        return (
            rule.update(updates, state, params, **given)
            if with_params
            else rule.update(updates, state, **given)
        )

    def inner_states(self, state: State) -> InnerStates:
        if self.options["inner_states"] is not None:
            return self.options["inner_states"](self.arguments, state)
        fields = {"inner_state", "inner_opt_state"}.intersection(getattr(state, "_fields", ()))
        inner = self.arguments.get("inner")
        return {} if inner is None else {field: [(inner, getattr(state, field))] for field in fields}

    def validate(self) -> None:
        super().validate()
        _ = self.rule  # runs the body: what is wrong with the arguments shows where they are given

    def unpack(self, state: State) -> list[State]:
        expected = ScheduledState if self.schedules and not self._own_count else self.options["state"]
        if expected is not None and getattr(state, "_fields", None) != expected._fields:
            raise StateMismatch(self.name, state, f"{expected.__name__}{expected._fields}")
        for inner, whole in () if expected else self.inner_states(state).get("", ()):
            inner.unpack(whole)
        return [state]


def transformations_in(x: Any) -> Iterator[GradientTransformation]:
    """The transformations among arguments, also inside dicts and sequences."""
    if isinstance(x, GradientTransformation):
        yield x
    elif isinstance(x, Mapping):
        for child in x.values():
            yield from transformations_in(child)
    elif isinstance(x, list | tuple):
        for child in x:
            yield from transformations_in(child)


def init_empty_state(params: Params) -> EmptyState:
    """The `init` of a transformation that remembers nothing."""
    del params
    return EmptyState()


def treewise(
    *,
    state: type | None = None,
    counts: bool = True,
    name: str | None = None,
    inner_states: Callable[[Mapping[str, Any], State], InnerStates] | None = None,
) -> Callable[[Callable[P, Any]], Callable[P, GradientTransformation]]:
    """Make a factory of a formula on the whole tree.

    The decorated function takes the numbers, choices and wrapped transformations and returns ``init,
    update``: ``init(params)`` and ``update(updates, state, params, **extra)``. An ``update`` whose
    ``params``, or any further argument, has no default is never called without it: the executor raises
    the error that names the transformation. Updates arrive in at least float32; the state keeps the
    structure and dtypes of `init`.

    Args:
        state: the named tuple of the state, for the check that a state is this transformation's own;
            if it has a field ``count``, scheduled numbers are resolved at it, and `update` increments
            it. Without, a scheduled number puts the state into a `ScheduledState`.
        counts: whether a field ``count`` is the updates so far; in some of Optax's layouts it is not.
        name: the name in `repr`, errors and states. Default: the function's.
        inner_states: for a wrapper, how `state_dict` finds the wrapped states: ``f(arguments, state)``
            gives ``{field: [(transformation, state)]}``; the field ``""`` is the whole state. Default:
            an argument `inner` has its state in the field ``inner_state``.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> @gradtx.treewise(state=gradtx.EmptyState)
        ... def divide_by_leaves():
        ...     def update(updates, state):
        ...         n = len(jax.tree.leaves(updates))
        ...         return jax.tree.map(lambda u: u / n, updates), state
        ...     return gradtx.init_empty_state, update
        >>> tx = divide_by_leaves()
        >>> updates, _ = tx.update([jnp.array(2.0), jnp.array(4.0)], tx.init([0.0, 0.0]))
        >>> print(updates[0], updates[1])
        1.0 2.0
    """
    options = dict(state=state, counts=counts, inner_states=inner_states)
    return lambda body: register(body, Treewise, name=name, **options)


def _recorded(body: Callable[P, Any]) -> Callable[P, GradientTransformation]:
    return register(body, Treewise, name="GradientTransformation", state=None, inner_states=None)


@_recorded
def from_functions(init: TransformInitFn, update: TransformUpdateFn) -> Any:
    named = inspect.signature(update).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in named.values())

    def call(updates: Updates, state: State, params: Params | None = None, **extra: Any) -> Any:
        given = extra if takes_any else {name: x for name, x in extra.items() if name in named}
        return update(updates, state, params, **given)

    return init, call


# --- recipes ----------------------------------------------------------------------------------------


class Recipe(GradientTransformation):
    """A transformation defined by the one that its function returns."""

    @cached_property
    def expansion(self) -> GradientTransformation:
        """What the recipe stands for."""
        with keeping_arrays():
            expansion = GradientTransformation.adopt(self.factory.body(*_positional(self), **_keywords(self)))
        check_transformation(self.name, "what it returns", expansion)
        return expansion

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.expansion.stages

    def unpack(self, state: State) -> list[State]:
        return self.expansion.unpack(state)

    def pack(self, states: Iterator[State]) -> State:
        return self.expansion.pack(states)

    def validate(self) -> None:
        super().validate()
        _ = self.expansion  # what is wrong with the arguments shows where they are given


def _positional(value: Value) -> tuple[Any, ...]:
    for p in value.factory.signature.parameters.values():
        if p.kind is inspect.Parameter.VAR_POSITIONAL:
            return tuple(value.arguments[p.name])
    return ()


def _keywords(value: Value) -> dict[str, Any]:
    kinds = {p.name: p.kind for p in value.factory.signature.parameters.values()}
    return {k: v for k, v in value.arguments.items() if kinds[k] is not inspect.Parameter.VAR_POSITIONAL}


@overload
def recipe(body: Callable[P, Any]) -> Callable[P, GradientTransformation]: ...
@overload
def recipe() -> Callable[[Callable[P, Any]], Callable[P, GradientTransformation]]: ...
def recipe(body: Any = None) -> Any:
    """Make a factory of a function that returns a transformation.

    The value prints, compares and maps as a call of that function, and runs as what it returns. The
    function's numbers may be traced or schedules: it passes them on, and does not compute with them.

    Example:
        >>> import gradtx
        >>> @gradtx.recipe
        ... def heavy_ball(learning_rate, momentum=0.9):
        ...     return gradtx.chain(gradtx.trace(momentum), gradtx.scale_by_learning_rate(learning_rate))
        >>> heavy_ball(0.1)
        heavy_ball(learning_rate=0.1, momentum=0.9)
    """
    if body is None:
        return recipe
    return register(body, Recipe)

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

A call of any of them is recorded (see :mod:`gradtx.values.value`): it prints as source, compares by
value, pickles, goes through ``jit`` and ``vmap``, and **any of its numbers may be a schedule**, a
function of the count of updates so far. The formula never knows: it is handed the number in force.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.types import (
    KnownState,
    MadeState,
    Params,
    PyTree,
    State,
    TransformInitFn,
    TransformUpdateFn,
    Updates,
)
from gradtx.core.layout import ScheduledState as ScheduledState
from gradtx.core.layout import StateForm, StateMismatch, TakenApart
from gradtx.core.placement import Beginning
from gradtx.core.rule import Asks, Rule
from gradtx.core.run import Factors, Run, Segment
from gradtx.values.parts import Number
from gradtx.values.programs import Programs
from gradtx.values.value import Value


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


class GradientTransformation(Value):
    """A transformation of gradients, as a value.

    ``GradientTransformation(init, update)`` makes one from two functions, as Optax does. All others
    come from factories such as ``adamw``, and are instances of this class too.

    Args:
        init: ``init(params) -> state``.
        update: ``update(updates, state, params=None, **extra) -> (updates, state)``; it receives those
            of the extra arguments that its signature names, or all if it takes ``**extra``.
    """

    shown_as = "GradientTransformation"
    offered = ("init", "name", "stages", "update")
    adopted: Callable[..., "GradientTransformation"]
    """The factory of those that are made from two functions."""

    def __new__(cls, init: TransformInitFn, update: TransformUpdateFn) -> "GradientTransformation":
        return GradientTransformation.adopted(init, update)

    @property
    def name(self) -> str:
        """The name of its factory, as errors print it."""
        return self.factory.name

    @property
    def options(self) -> Mapping[str, Any]:
        """What the factory's decorator was told."""
        return self.factory.options

    def init(self, params: Params) -> MadeState:
        """The state for these params; on ShapeDtypeStructs, the shapes, dtypes and shardings of it."""
        return self.start(Beginning.of(params), [self], ())

    def update(
        self, updates: Updates, state: KnownState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, MadeState]:
        """The transformed updates and the next state.

        Args:
            updates: a tree like the params: gradients, or what the stage before returned. Where it is
                None, nothing happens.
            state: from `init`, or from the update before.
            params: the parameters; needed by some transformations, and used for dtypes by all.
            **extra: whatever a stage asks for by name (``value=loss``); others ignore it.
        """
        try:
            plan = self.plan
            states = _unpacked(self, updates, state)
            # The loop of `run_plan`, here once more: each function on the way is a frame in every traceback.
            run = plan.start(self.name, updates, params, extra)
            for segment in plan.segments:
                run = segment.advance(run, states, final=segment is plan.segments[-1])
            return run.finish(), self.pack(iter(states))
        except TakenApart as error:
            whole = put_together(self, state, updates if params is None else params)
            if whole is None:
                errors.hide_engine(error)
                raise
            updates, new = self.update(updates, whole, params, **extra)
            # In the containers that came in, as whatever is around this has them.
            return updates, jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(new))
        except Exception as error:
            errors.hide_engine(error)
            raise

    # It is used as the named tuple that others have, though it is none.
    _fields = ("init", "update")

    def __iter__(self) -> Iterator[Any]:
        """``init, update = tx``."""
        return iter((self.init, self.update))

    def __len__(self) -> int:
        return len(self._fields)

    def __getitem__(self, index: Any) -> Any:
        """``tx[0]`` is `init`, ``tx[1]`` is `update`."""
        return (self.init, self.update)[index]

    def _replace(self, **functions: Any) -> "GradientTransformation":
        """A transformation with another `init` or `update`."""
        if unknown := functions.keys() - set(self._fields):
            raise ValueError(f"{self.name}: _replace takes init and update, got {sorted(unknown)}")
        return GradientTransformation(**{"init": self.init, "update": self.update, **functions})

    @staticmethod
    def adopt(argument: Any) -> Any:
        """Transformations of other libraries are taken in as `GradientTransformation(init, update)`."""
        if _is_foreign(argument):
            return _made_of(argument) or GradientTransformation.adopted(argument.init, argument.update)
        if type(argument) is dict:
            return {key: GradientTransformation.adopt(child) for key, child in argument.items()}
        if type(argument) in (list, tuple):
            return type(argument)(map(GradientTransformation.adopt, argument))
        return argument

    def validate(self) -> None:
        """Raise if an argument that must be a transformation is something else."""
        if "inner" in self.arguments:
            check_transformation(self.name, "inner", self.arguments["inner"])

    @property
    def stages(self) -> tuple["Stage", ...]:
        """The primitives that it consists of, in order."""
        raise NotImplementedError

    @cached_property
    def plan(self) -> "Plan":
        """How an update runs it."""
        return Plan(self.stages)

    def start(self, beginning: Beginning, variants: Sequence[Any], which: Sequence[int]) -> State:
        """The state for these params.

        Args:
            beginning: the params.
            variants: this transformation and those of its kind that differ in numbers of leafwise stages.
            which: for each param, None included, the index of its variant. Default: the first for all.
        """
        raise NotImplementedError

    def unpack(self, state: State) -> list[State]:
        """The states of its stages, in order."""
        raise NotImplementedError

    def pack(self, states: Iterator[State]) -> State:
        """The state made of the states of its stages."""
        raise NotImplementedError

    def concretely(self) -> AbstractContextManager[Any]:
        """For what is kept on the value: no array that is made within is of a trace that will end."""
        return nullcontext() if self.is_traced else jax.ensure_compile_time_eval()


class Stage(GradientTransformation):
    """A primitive: what a transformation consists of, however it is nested."""

    fuses = False
    """Whether it runs together with its neighbours that do."""
    is_wide = False
    """Whether, as the last stage, it hands out updates in at least float32."""

    @property
    def others(self) -> str:
        """What it does with leaves that have no real or complex numbers: ``"refused"``, for it computes with
        all; ``"hidden"``, it sees None there; ``"shown"``, it sees them."""
        return self.options["others"]

    @property
    def stages(self) -> tuple["Stage", ...]:
        return (self,)

    @property
    def rule(self) -> Rule:
        """The functions that it is made of, with fixed numbers."""
        return self.rule_with({})

    def rule_with(self, numbers: Mapping[str, Number]) -> Rule:
        """The functions with these numbers in place of schedules."""
        return Rule(self.name, self.factory.run(self.arguments | numbers))

    @cached_property
    def asks(self) -> Asks:
        """What its functions ask for; the body is run for it."""
        if not self.schedules:
            return self.rule.asks
        # What schedules give is unknown: the body is traced, once for a structure, which needs no device.
        unknown = dict.fromkeys(self.schedules, jax.ShapeDtypeStruct((), "float32"))
        known, _ = _ASKED([self.with_numbers(unknown)])

        def look(numbers: dict[str, Number]) -> None:
            known.append(self.rule_with(numbers).asks)

        if not known:
            jax.eval_shape(look, unknown)
        return known[0]

    @property
    def form(self) -> StateForm:
        """The form of its state."""
        raise NotImplementedError

    @property
    def needs(self) -> Mapping[str, "Stage"]:
        """What an update must be given, and by whose wish."""
        raise NotImplementedError

    def hint(self, what: str) -> str:
        """What something that nobody gave may have been meant to be."""
        del what
        return ""

    def segment(self, first: int, variants: Sequence[Sequence["Stage"]]) -> Segment:
        """What runs stages of this kind that stand together, from index `first`, in some variants."""
        raise NotImplementedError

    def param_shape(self, shape: tuple[int, ...], param: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the param that an incoming update of this shape is for."""
        return shape

    def pack(self, states: Iterator[State]) -> State:
        return next(states)

    def unpack(self, state: State) -> list[State]:
        self.form.check(self.name, state)
        return [state]

    def inner_states(self, state: State) -> "InnerStates":
        """Which fields of its state are states of transformations that it wraps."""
        del state
        return {}

    def labelled(self, state: State, params: Params | None = None) -> "Sequence[Labelled]":
        """The transformations that it gives some of the params to, by their labels; where params are given,
        by paths as well."""
        del state, params
        return ()

    def shares(self, params: Params) -> "Sequence[Share]":
        """Which of the params it treats in which way; none if it treats all alike."""
        del params
        return ()


_ASKED: Programs[list[Asks]] = Programs(lambda template: [], is_argument=lambda name: True)


InnerStates: TypeAlias = dict[str, list[tuple[GradientTransformation, State]]]
"""By field of a state: the transformations whose states are in it, with these."""


class Labelled(NamedTuple):
    """What some of the params are given to: the label, the transformation and its state; which of its numbers
    are for these params alone, None if all are; and what multiplies some of them."""

    label: Any
    tx: GradientTransformation
    state: State
    names: frozenset[str] | None
    factors: Mapping[str, Any] = MappingProxyType({})


class Share(NamedTuple):
    """Some of the params, which a stage treats alike: their label, the tree with nothing in the place of the
    others, whether they are given to the wrapped transformation, and which numbers differ for them."""

    label: Any
    params: Params
    inside: bool
    numbers: Mapping[str, Any]


def _as_it_is(shape: tuple[int, ...], param: tuple[int, ...]) -> tuple[int, ...]:
    return shape


class Plan:
    """How a transformation runs: its stages cut into segments, and what they need of an update.

    Args:
        *variants: its stages; and those of others that differ only in the numbers of leafwise stages.
    """

    def __init__(self, *variants: Sequence[Stage]):
        stages = variants[0]
        starts = [i for i, stage in enumerate(stages) if not (i and stage.fuses and stages[i - 1].fuses)]
        ends = [*starts[1:], len(stages)][: len(starts)]
        self.segments = [
            stages[a].segment(a, [variant[a:b] for variant in variants])
            for a, b in zip(starts, ends, strict=True)
        ]
        self.needs = {what: whose for stage in reversed(stages) for what, whose in stage.needs.items()}
        self.is_wide = bool(stages) and stages[-1].is_wide
        self.param_shape = stages[0].param_shape if stages else _as_it_is

    def start(
        self,
        name: str,
        updates: Updates,
        params: Params | None,
        extra: Mapping[str, Any],
        which: Sequence[int] = (),
        factors: Sequence[Factors] = (),
    ) -> Run:
        """What the first segment is handed; see `Run`."""
        return Run.start(
            name,
            updates,
            params,
            extra,
            needs=self.needs,
            param_shape=self.param_shape,
            wide=self.is_wide,
            which=which,
            factors=factors,
        )


def run_plan(
    tx: GradientTransformation,
    plan: Plan,
    updates: Updates,
    state: State,
    params: Params | None,
    extra: Mapping[str, Any],
    *,
    which: Sequence[int] = (),
    factors: Sequence[Factors] = (),
) -> tuple[Updates, State]:
    """An update of a transformation by another plan.

    Args:
        tx: the transformation.
        plan: its own, or one of several variants.
        updates, state, params, extra: as in every `update`.
        which: for each leaf (None included) the index of its variant. Default: the first for all.
        factors: for each leaf what multiplies numbers for it alone. Default: nothing for all.
    """
    states = _unpacked(tx, updates, state)
    run = plan.start(tx.name, updates, params, extra, which, factors)
    for segment in plan.segments:
        run = segment.advance(run, states, final=segment is plan.segments[-1])
    return run.finish(), tx.pack(iter(states))


def _unpacked(tx: GradientTransformation, updates: Updates, state: State) -> list[State]:
    try:
        return tx.unpack(state)
    except StateMismatch as mismatch:
        found = mismatch
    try:
        tx.unpack(updates)
        swapped = True
    except (StateMismatch, TypeError):
        swapped = False
    raise errors.another_state(found.name, found.state, found.expected, swapped)


def put_together(tx: GradientTransformation, state: State, like: PyTree) -> State | None:
    """The state in the containers that `init` makes, if the arrays are those; otherwise None."""
    made, treedef = jax.tree.flatten(jax.eval_shape(tx.init, like))
    leaves = jax.tree.leaves(state)
    if [(jnp.shape(x), x.dtype) for x in made] != [(jnp.shape(x), jnp.result_type(x)) for x in leaves]:
        return None
    return treedef.unflatten(leaves)


def _is_foreign(x: Any) -> bool:
    if isinstance(x, Value | type) or not (hasattr(x, "init") and hasattr(x, "update")):
        return False
    if callable(x):  # a schedule that keeps a state
        return False
    return (
        getattr(x, "_fields", None) == ("init", "update") or not jax.tree.leaves(x) or x in jax.tree.leaves(x)
    )


def _made_of(pair: Any) -> GradientTransformation | None:
    """The value whose two functions a pair has, if it says so."""
    whose = [getattr(function, "transformation", None) for function in (pair.init, pair.update)]
    return whose[0] if isinstance(whose[0], GradientTransformation) and whose[0] == whose[1] else None


def check_transformation(name: str, where: str, x: object) -> None:
    """Raise if x is not a transformation, and say what was meant if it is a factory."""
    if isinstance(x, GradientTransformation):
        return
    if inspect.isfunction(x):
        made = x.__name__
        raise TypeError(f"{name}: {where} is the function {made}, not a transformation; call it: {made}(...)")
    raise TypeError(f"{name}: {where} must be a gradient transformation, got {type(x).__name__}: {x!r}")


def __getattr__(name: str) -> Any:
    if name == "from_functions":  # where pickles of before 0.2 look for it
        return GradientTransformation.adopted
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def init_empty_state(params: Params) -> EmptyState:
    """The `init` of a transformation that remembers nothing."""
    del params
    return EmptyState()

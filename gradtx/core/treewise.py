"""Treewise transformations: formulas on the whole tree, and those that wrap other transformations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, ParamSpec, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gradtx.arrays import errors
from gradtx.arrays.numerics import at_least_float32, cast, computable, is_byte_float, would_cut
from gradtx.arrays.signatures import signature, takes_by_position
from gradtx.arrays.types import Array, Params, State, TransformInitFn, TransformUpdateFn, Updates
from gradtx.core.layout import StateForm
from gradtx.core.leafwise import Leafwise
from gradtx.core.placement import Beginning
from gradtx.core.program import incremented
from gradtx.core.rule import Rule, check_state_class, returned_of_tree
from gradtx.core.run import Run, Segment, match
from gradtx.core.transformation import GradientTransformation, InnerStates, Stage
from gradtx.values.counting import number_at
from gradtx.values.factory import register

P = ParamSpec("P")


class Treewise(Stage):
    """A primitive whose formula sees the whole tree, or that wraps another transformation."""

    @cached_property
    def rule(self) -> Rule:
        with self.concretely():  # a wrapper's body may take long, so its functions are kept
            return super().rule

    def _rule_at(self, count: Array | None) -> Rule:
        """The two functions with the numbers in force at this count."""
        numbers = {name: number_at(f, count) for name, f in self.schedules.items()}
        return self.rule_with(numbers) if numbers else self.rule

    @cached_property
    def form(self) -> StateForm:
        cls, counts = self.options["state"], self.options["counts"]
        counter = "count" if cls is not None and "count" in cls._fields and counts else ""
        return StateForm(cls, counter, wrapped=bool(self.schedules) and not counter)

    @cached_property
    def needs(self) -> Mapping[str, Stage]:
        own: dict[str, Stage] = {
            what: self for what in self.asks.update.required - {*self.asks.update.names[:2]}
        }
        for inner in transformations_in(self.arguments):
            own = {**inner.plan.needs, **own}
        return own

    @cached_property
    def is_wide(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  # read only
        """Whether a transformation that it wraps hands out wide updates."""
        return any(inner.plan.is_wide for inner in transformations_in(self.arguments))

    @property
    def on_shards(self) -> bool:
        """Whether, within `over_shards`, it is right on shards of tensors too."""
        return self.options["on_shards"]

    def validate(self) -> None:
        super().validate()
        rule = self.rule  # runs the body: what is wrong with the arguments shows where they are given
        if rule.init is None or rule.refresh is not None:
            raise TypeError(
                f"{self.name}: its function must return init, update; "
                "without a state, init_empty_state, update"
            )

    def start(self, beginning: Beginning, variants: Sequence[Any], which: Sequence[int]) -> State:
        del variants, which  # all the same
        count = beginning.scalar(0, jnp.int32) if self.form.wrapped else None

        def make(params: Params) -> State:
            init = self._rule_at(jnp.zeros([], jnp.int32)).init
            assert init is not None  # as `validate` has seen to
            return init(params)

        if self.others == "refused":
            errors.check_inexact(self.name, beginning.params)
        params = beginning.params if self.others == "shown" else beginning.numbers
        return self.form.start(beginning.made(make, params), count)

    def segment(self, first: int, variants: Sequence[Sequence[Any]]) -> Segment:
        return TreewiseSegment(first, self)

    def unpack(self, state: State) -> list[State]:
        super().unpack(state)
        for inner, whole in () if self.form.cls else self.inner_states(self.form.inner(state)).get("", ()):
            inner.unpack(whole)
        return [state]

    def inner_states(self, state: State) -> InnerStates:
        if self.options["inner_states"] is not None:
            return self.options["inner_states"](self.arguments, state)
        fields = {"inner_state", "inner_opt_state"}.intersection(getattr(state, "_fields", ()))
        inner = self.arguments.get("inner")
        return {} if inner is None else {field: [(inner, getattr(state, field))] for field in fields}

    def advanced(self, run: Run, updates: Updates, state: State) -> tuple[Any, State]:
        """The updates after this stage, and its state."""
        form, count = self.form, None
        if self.schedules:
            count = form.count(state)
        rule, inner = self._rule_at(count), form.inner(state)
        asked = rule.asks.update
        given = asked.of_those(run.extra)
        params = (_computable(run),) if asked.positional > 2 else ()
        updates, new = returned_of_tree(self.name, rule.update(updates, inner, *params, **given))
        if not form.wrapped:
            return updates, new
        (count,) = incremented([count])
        return updates, form.rebuild(state, new, count)


class TreewiseSegment:
    """One treewise stage."""

    def __init__(self, first: int, stage: Treewise):
        self.first, self.stage = first, stage

    def advance(self, run: Run, states: list[State], *, final: bool) -> Run:
        """The run after this stage."""
        del final
        wide = [x if x is None else cast(x, at_least_float32(x.dtype)) for x in run.leaves]
        others, name, state = self.stage.others, self.stage.name, states[self.first]
        given = _of_arrays(state)
        if others == "refused":
            run.check_left(name)
        if run.left and others == "shown":
            wide = [run.left.get(i, x) for i, x in enumerate(wide)]
        incoming = run.treedef.unflatten(wide)
        seen = run if others == "shown" or not run.left else run.of_numbers()
        updates, new = self.stage.advanced(seen, incoming, given)
        states[self.first] = state if self.stage.form.is_empty else _held(name, given, new)
        leaves, left = match(name, run.treedef, incoming, updates, "what it returned"), run.left
        if left:
            if others == "shown":
                left = {i: leaves[i] for i in left}
            leaves = [None if i in left else x for i, x in enumerate(leaves)]
        return run.after(leaves, left)


def _of_arrays(state: State) -> State:
    """The state, with arrays in the place of Python numbers that somebody has written into it."""
    leaves, treedef = jax.tree.flatten(state)
    if not any(isinstance(x, int | float) for x in leaves):
        return state
    return treedef.unflatten([jnp.asarray(x) if isinstance(x, int | float) else x for x in leaves])


def _computable(run: Run) -> Params | None:
    """The params as a formula on the whole tree is handed them."""
    if not any(is_byte_float(getattr(param, "dtype", None)) for param in run.beside):
        return run.params
    return jax.tree.map(lambda x: computable(jnp.asarray(x)), run.params)


def _held(name: str, old: State, new: State) -> State:
    """The new state, in the structure of the old, and its dtypes where nothing is cut by that."""
    old_leaves, treedef = jax.tree.flatten(old)
    try:
        new_leaves = treedef.flatten_up_to(new)
    except (ValueError, TypeError):
        raise errors.another_structure(name, "the state", old, "the state after the update", new) from None
    return treedef.unflatten(map(_as, new_leaves, old_leaves))


def _dtype(x: ArrayLike) -> Any:
    return getattr(x, "dtype", None)


def _as(new: ArrayLike, old: ArrayLike) -> ArrayLike:
    # As a rule it is already, and there may be hundreds.
    if getattr(new, "weak_type", None) is False and _dtype(new) == _dtype(old):
        return new
    if not isinstance(old, jax.Array | np.ndarray):
        return new
    new = jnp.asarray(new)
    return cast(new, new.dtype if would_cut(new, old.dtype) else old.dtype)


def transformations_in(x: object) -> Iterator[GradientTransformation]:
    """The transformations among arguments, also inside dicts and sequences."""
    if isinstance(x, GradientTransformation):
        yield x
    elif isinstance(x, Mapping):
        for child in x.values():
            yield from transformations_in(child)
    elif isinstance(x, list | tuple):
        for child in x:
            yield from transformations_in(child)


def stages_in(x: object) -> Iterator[Stage]:
    """The stages of the transformations in x, those within wrappers among them."""
    for transformation in transformations_in(x):
        for stage in transformation.stages:
            yield stage
            yield from stages_in(stage.arguments)


def signs_in(x: object) -> dict[str, bool]:
    """The slots of the leafwise stages in a transformation, within wrappers too, ``scale_by_adam/mu``; and
    whether their numbers are at least 0."""
    return {
        f"{stage.name}/{slot}": slot in stage.unsigned
        for stage in stages_in(x)
        if isinstance(stage, Leafwise)
        for slot in stage.form.slots
    }


@overload
def treewise(body: Callable[P, Any], /) -> Callable[P, GradientTransformation]: ...
@overload
def treewise(
    *,
    state: type | None = ...,
    counts: bool = ...,
    name: str | None = ...,
    kind: type[Treewise] = ...,
    others: Literal["hidden", "shown", "refused"] = ...,
    on_shards: bool = ...,
    inner_states: Callable[[Mapping[str, Any], State], InnerStates] | None = ...,
    formerly: str = ...,
) -> Callable[[Callable[P, Any]], Callable[P, GradientTransformation]]: ...
def treewise(
    body: Callable[..., Any] | None = None,
    /,
    *,
    state: type | None = None,
    counts: bool = True,
    name: str | None = None,
    kind: type[Treewise] = Treewise,
    others: Literal["hidden", "shown", "refused"] = "hidden",
    on_shards: bool = False,
    inner_states: Callable[[Mapping[str, Any], State], InnerStates] | None = None,
    formerly: str = "",
) -> Any:
    """Make a factory of a formula on the whole tree.

    The decorated function takes the numbers, choices and wrapped transformations and returns ``init,
    update``: ``init(params)`` and ``update(updates, state, params, **extra)``. An ``update`` whose
    ``params``, or any further argument, has no default is never called without it: the executor raises
    the error that names the transformation. Updates arrive in at least float32; the state keeps the
    structure and dtypes of `init`. Only where that would cut a number, such as a fraction that an integer
    becomes, does the state take its dtype, as in Optax; a loop of JAX then says which state has changed.

    Args:
        state: the named tuple of the state, for the check that a state is this transformation's own;
            if it has a field ``count``, scheduled numbers are resolved at it, and `update` increments
            it. Without, a scheduled number puts the state into a `ScheduledState`.
        counts: whether a field ``count`` is the updates so far; in some of Optax's layouts it is not.
        name: the name in `repr`, errors and states. Default: the function's.
        kind: the class of the values. Default: `Treewise`.
        others: what happens to leaves that have no real or complex numbers (integers, keys, the gradients of
            integers). Default: they pass it by, and it sees None in their places. ``"shown"``: it sees them,
            as wrappers do that only choose who is given what. ``"refused"``: they are an error.
        on_shards: whether, within `over_shards`, it is right on shards of tensors too: each number alone, and
            numbers of all tensors as `global_norm` and `gradtx.tree` make them. Of a wrapper: itself.
        inner_states: for a wrapper, how `state_dict` finds the wrapped states: ``f(arguments, state)``
            gives ``{field: [(transformation, state)]}``; the field ``""`` is the whole state. Default:
            an argument `inner` has its state in the field ``inner_state``.
        formerly: an older name, by which configs and entries of `state_dict` are found.

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
    if body is not None:
        return treewise()(body)
    if state is not None:
        check_state_class("treewise", state)
    options: dict[str, Any] = dict(state=state, counts=counts, inner_states=inner_states, others=others)
    options |= dict(on_shards=on_shards)
    return lambda body: register(body, kind, name=name, formerly=formerly, **options)


@treewise(name="GradientTransformation", others="shown")
def from_functions(init: TransformInitFn, update: TransformUpdateFn) -> Any:
    asked = signature(update)
    of_params = takes_by_position(update, 3)

    def call(updates: Updates, state: State, params: Params | None = None, **extra: Any) -> Any:
        given = (updates, state, params) if of_params else (updates, state)
        return update(*given, **asked.of_those(extra))

    return init, call


GradientTransformation.adopted = staticmethod(from_functions)

"""Programs of leafwise stages: consecutive ones as one function per tensor, compiled and cached."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays import errors
from gradtx.arrays.cond import cond
from gradtx.arrays.meshes import everywhere
from gradtx.arrays.numerics import as_array, at_least_float32, cast, safe_increment
from gradtx.arrays.per_tensor import row_of
from gradtx.arrays.types import Array, DType, PyTree
from gradtx.core.batch import STACK, Batch, one_of
from gradtx.core.layout import Slots
from gradtx.core.rule import returned, slots_made
from gradtx.values.counting import number_at
from gradtx.values.programs import Programs, Template


class Tensor(NamedTuple):
    """What belongs to one tensor: its update, its param or None, the slots of each stage, and by name the
    leaves of trees among the extra arguments; `stream`, a number of its path, where a rule names ``key``; by
    argument what multiplies the numbers of each stage for this tensor, if anything does."""

    grad: Array
    param: Array | None
    slots: Sequence[Slots]
    own: Mapping[str, Any]
    stream: Any
    factors: Sequence[Mapping[str, Any]] = ()


class Shared(NamedTuple):
    """What all tensors have in common: the numbers of the program, the step and the seed of each stage, the
    extra arguments that stages name."""

    numbers: Sequence[Any]
    steps: Sequence[Array | None]
    seeds: Sequence[Any]
    extra: Mapping[str, Any]


class LeafwiseProgram:
    """Consecutive leafwise stages, compiled: as a function of one tensor, and of many."""

    def __init__(self, template: Template):
        self.template = template
        self.name = "_".join(call.factory.name for call in template.calls)
        self.one = jax.jit(_named(self._one, self.name), static_argnames=("out_dtype", "path"))
        # What it makes lies where the param does, also if the param says nothing but its shape.
        self.start = jax.jit(self.start_one, static_argnames="path", keep_unused=True)
        self.refresh = jax.jit(self._refresh, static_argnames=("stage", "shape", "every", "spread", "batch"))
        # One for each batch, so that a program goes with what holds it.
        self.many = cache(self._many)

    def _many(self, batch: Batch) -> Callable[..., list[Any]]:
        name = f"{self.name}_of_many"
        if not batch.joins:
            return row_of(self.one, name, static_argnames=("out_dtype", "path"))

        def stacked(columns: Sequence[list[Tensor]], shared: Shared, **static: Any) -> list[Any]:
            (tensors,) = columns
            return batch.map(lambda tensor: self._one(tensor, shared, **static), [(x,) for x in tensors])

        stacked.__name__ = stacked.__qualname__ = name
        return jax.jit(stacked, static_argnames=("out_dtype", "path"))

    def _one(
        self, tensor: Tensor, shared: Shared, *, out_dtype: DType, path: str | None
    ) -> tuple[Array, list[Slots]]:
        dtype = at_least_float32(tensor.grad.dtype, out_dtype)
        param = None if tensor.param is None else cast(tensor.param, dtype)
        x, new_slots = cast(tensor.grad, dtype), []
        for i, (stage, old) in enumerate(zip(self.template.fill(shared.numbers), tensor.slots, strict=True)):
            if tensor.factors and tensor.factors[i]:
                stage = multiplied(stage, tensor.factors[i], dtype)
            rule, layout = stage.rule, stage.layout
            names = rule.asks.update.names
            if stage.real_only and jnp.iscomplexobj(x):
                raise errors.not_real(stage.name)
            seen = layout.read(old)
            known = {**shared.extra, **tensor.own, "path": path, "step": shared.steps[i], **seen}
            if param is not None and tensor.param is not None:
                known |= {"param": layout.see(param), "dtype": tensor.param.dtype}
            if "key" in names:
                known["key"] = key_for(shared.seeds[i], tensor.stream, known["step"])
            given = {name: known[name] for name in names[1:] if name in known}
            try:
                out = rule.update(layout.see(x), **given)
            except Exception as error:
                error.add_note(f"in the rule {stage.name}")
                raise
            new, slots = returned(stage.name, out, layout.see(x))
            new_slots.append(layout.write(stage.name, slots, old))
            x = layout.show(new, x)
        return cast(x, out_dtype), new_slots

    def start_one(
        self,
        param: Array,
        numbers: Sequence[Any],
        *,
        seed: Any,
        stream: Any,
        path: str | None,
    ) -> Slots:
        """The slots of a param, of the one stage that this is a program of; `start` is compiled."""
        (stage,) = self.template.fill(numbers)
        rule = stage.rule
        named: dict[str, Any] = {"path": path} if "path" in rule.asks.init else {}
        if "key" in rule.asks.init:
            named["key"] = key_for(seed, stream, 0)
        made = stage.layout.make(rule.init_with(stage.name, named), param, stage.form.slots)
        slots_made(stage.name, made, stage.form.slots)
        return jax.tree.map(lambda slot: owned_by_state(as_array(slot), {id(param)}), made)

    def _refresh(
        self,
        tensors: Sequence[Slots],
        numbers: Sequence[Any],
        step: Array,
        offset: ArrayLike,
        *,
        stage: int,
        shape: tuple[int, ...],
        every: int,
        spread: bool,
        batch: Batch,
    ) -> list[Slots]:
        """Of tensors of one shape the slots that `refresh` changes, refreshed where they are due.

        They lie where `init` put them: everywhere, but for those of the tensors' shape.
        """
        filled = self.template.fill(numbers)[stage]
        rule, layout = filled.rule, filled.layout
        asked = rule.asks.refresh or ()

        def refreshed(slots: Slots, due: Array | None) -> Refreshed:
            assert rule.refresh is not None
            named = {name: slots[name] for name in asked if name != DUE or name in slots}
            given = layout.read(named)
            out = rule.refresh(**({DUE: due, **given} if DUE in asked else given))
            new, good = out if isinstance(out, tuple) else (out, None)
            if not isinstance(new, dict) or not new.keys() <= named.keys():
                raise ValueError(
                    f"{filled.name}: refresh must return a dict of slots that it names, {sorted(named)}; "
                    f"it returned {sorted(new) if isinstance(new, dict) else new!r}"
                )
            return layout.write(filled.name, new, {name: slots[name] for name in new}), good

        def each(some: list[Slots], due: Sequence[Array | None]) -> list[Refreshed]:
            return batch.map(refreshed, list(zip(some, due, strict=True)))

        if not spread:
            all_of = lambda some: list(map(taken, some, each(some, [None] * len(some))))  # noqa: E731
            new = cond((step - 1) % every == 0, all_of, lambda some: list(some), list(tensors))
        else:
            new = in_turns(each, list(tensors), (step - 1 - offset) % every, every)
        return jax.tree.map(lambda x: x if x.shape == shape else everywhere(x), new)


Refreshed = tuple[Slots, Array | None]
"""Slots that were refreshed, and whether they are to be taken; None if they are without question."""
REJECTED = "rejected"
"""The slot that counts how often they were not."""
DUE = "due"
"""By this name, unless a slot has it, a refresh asks whether it is due; None if it surely is."""


def taken(old: Slots, refreshed: Refreshed) -> Slots:
    """The slots of a tensor with those that are to be taken, and a count of what is not."""
    new, good = refreshed
    if good is None:
        return {**old, **new}
    chosen = partial(jnp.where, good)
    counted = {REJECTED: old[REJECTED] + ~good} if REJECTED in old else {}
    return {**old, **{name: jax.tree.map(chosen, new[name], old[name]) for name in new}, **counted}


def in_turns(
    function: Callable[[list[Slots], list[Array]], list[Refreshed]],
    tensors: list[Slots],
    turn: Array,
    turns: int,
) -> list[Slots]:
    """Slots that the function changes, after those went through it whose turn it is: about one of `turns`.

    As many go through it at every turn, ⌈n / turns⌉, so that there is no branch; it is told which are due.
    """
    count = len(tensors)
    begin, end = (-(-(k * count) // turns) for k in (turn, turn + 1))
    places = [begin + k for k in range(-(-count // turns))]
    flags = [place < end for place in places]
    stacked = STACK.stack(tensors)
    changed: dict[str, PyTree] = {}
    due = [jax.tree.map(partial(one_of, place), stacked) for place in places]
    for place, is_due, (new, good) in zip(places, flags, function(due, flags), strict=True):
        # Where fewer are due than go through it, what comes out goes nowhere.
        target = jnp.where(is_due if good is None else is_due & good, place, count)
        for name, x in new.items():
            put = lambda stack, x, target=target: stack.at[target].set(x, mode="drop")  # noqa: E731
            changed[name] = jax.tree.map(put, changed.get(name, stacked[name]), x)
        if good is not None and REJECTED in stacked:
            counts = changed.get(REJECTED, stacked[REJECTED])
            changed[REJECTED] = counts.at[place].add(is_due & ~good, mode="drop")
    return STACK.unstack(changed, count)


def multiplied(stage: Any, factors: Mapping[str, Any], dtype: DType) -> Any:
    """A stage whose numbers are these times the ones in force, in the precision of a dtype."""
    real = jnp.finfo(dtype).dtype
    return stage.with_numbers({name: stage.arguments[name] * cast(x, real) for name, x in factors.items()})


def key_for(seed: ArrayLike, stream: ArrayLike, step: ArrayLike) -> Array:
    """The random key of one tensor at one step: the same in any order, on any device, in jit or out."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), step)


def owned_by_state(x: Any, params: set[int]) -> Any:
    """What `init` made, strongly typed as every update leaves it; a copy if it is a param itself.

    A state must not share its buffer with a param, or donating both would free it twice.
    """
    if id(x) in params:
        x = jnp.array(x, copy=True)
    return cast(x, x.dtype) if hasattr(x, "dtype") else x


class Books:
    """What schedules, which are values, give at their counts, and all counts after an update, compiled."""

    def __init__(self, template: Template):
        def books(numbers: Sequence[Any], at: Sequence[Array], counts: Sequence[Array | None]) -> Any:
            scheduled = [
                jnp.asarray(number_at(s, count)) for s, count in zip(template.fill(numbers), at, strict=True)
            ]
            return scheduled, incremented(counts)

        self.run = jax.jit(books)


def incremented(counts: Sequence[Array | None]) -> list[Array | None]:
    """The counts after an update."""
    return [None if count is None else safe_increment(count) for count in counts]


PROGRAMS = Programs(LeafwiseProgram)
BOOKS = Programs(Books)


def _named(method: MethodType, name: str) -> MethodType:
    """A bound method under another name, which jit shows in profiles and in the compiled program."""
    function = method.__func__
    named = FunctionType(function.__code__, function.__globals__, name, function.__defaults__)
    named.__kwdefaults__, named.__qualname__ = function.__kwdefaults__, name
    return MethodType(named, method.__self__)

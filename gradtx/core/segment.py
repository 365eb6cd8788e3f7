"""Leafwise segments: consecutive leafwise stages as one update runs them."""

import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays import errors
from gradtx.arrays.numerics import as_array, at_least_float32
from gradtx.arrays.outline import outlined
from gradtx.arrays.per_tensor import rows
from gradtx.arrays.select import leaf_paths
from gradtx.arrays.types import Array, PyTree, State
from gradtx.core.batch import LOOP, Batch, batch_in_force
from gradtx.core.layout import Layout, Slots, StateForm, TakenApart
from gradtx.core.program import BOOKS, PROGRAMS, REJECTED, LeafwiseProgram, Shared, Tensor, incremented
from gradtx.core.rule import Asks, Rule
from gradtx.core.run import Run
from gradtx.values.counting import Untraceable, number_at
from gradtx.values.parts import Number
from gradtx.values.value import Value


class Periodic(NamedTuple):
    """When slots are refreshed: every so many steps, and whether spread over them."""

    every: int
    spread: bool


class LeafwiseStage(Protocol):
    """What a segment asks of its stages."""

    @property
    def name(self) -> str: ...
    @property
    def form(self) -> StateForm: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def asks(self) -> Asks: ...
    @property
    def batch(self) -> bool: ...
    @property
    def periodic(self) -> Periodic | None: ...
    @property
    def others(self) -> str: ...
    @property
    def rule(self) -> Rule: ...
    @property
    def schedules(self) -> Mapping[str, Callable[[Any], Any]]: ...
    def as_value(self) -> Value: ...


class _Scheduled(NamedTuple):
    """In the place of a number, which of the scheduled ones it is."""

    index: int


class Variant:
    """The stages of a segment with the numbers of one group of tensors."""

    def __init__(self, stages: Sequence[LeafwiseStage]):
        self.stages = stages
        self.schedules: list[tuple[int, Callable[[Any], Any]]] = []
        self.values = [self._without_schedules(i, stage) for i, stage in enumerate(stages)]
        self._in_python = False
        self._programs: dict[bool, tuple[LeafwiseProgram, list[Number]]] = {}

    def _without_schedules(self, i: int, stage: LeafwiseStage) -> Value:
        # A program is handed the numbers that schedules give, so it knows nothing of them, nor holds them.
        value, places = stage.as_value(), {}
        for name, schedule in stage.schedules.items():
            places[name] = _Scheduled(len(self.schedules))
            self.schedules.append((i, schedule))
        return value.with_numbers(places) if places else value

    def program(self, traced: bool) -> tuple[LeafwiseProgram, list[Number]]:
        """The compiled functions, and their numbers; a scheduled one is a `_Scheduled`."""
        if traced not in self._programs:
            self._programs[traced] = PROGRAMS(self.values, traced=traced)
        return self._programs[traced]

    def books(self, counts: Sequence[Array | None], traced: bool) -> tuple[list[Number], list[Array | None]]:
        """The numbers in force at these counts, of every stage, and the counts after this update."""
        scheduled, steps = self._kept(counts, traced)
        numbers = self.program(traced)[1]
        return [scheduled[x.index] if isinstance(x, _Scheduled) else x for x in numbers], steps

    def numbers_at(self, counts: Sequence[Array | None], traced: bool) -> list[Number]:
        """The numbers in force at these counts."""
        return self.books(counts if self.schedules else [None], traced)[0]

    def _kept(self, counts: Sequence[Array | None], traced: bool) -> tuple[list[Array], list[Array | None]]:
        at = [counts[i] for i, _ in self.schedules]
        values = [schedule for _, schedule in self.schedules if isinstance(schedule, Value)]
        if self.schedules and len(values) == len(self.schedules) and not self._in_python:
            program, numbers = BOOKS(values, traced=traced)
            try:
                return program.run(numbers, at, counts)
            except Untraceable:
                if traced:
                    raise
                self._in_python = True  # one of them holds a function that takes a number alone
        steps = _incremented(counts) if any(count is not None for count in counts) else list(counts)
        return [
            jnp.asarray(number_at(f, count)) for (_, f), count in zip(self.schedules, at, strict=True)
        ], steps


_incremented = jax.jit(incremented)


class LeafwiseSegment:
    """Consecutive leafwise stages: every tensor goes through all of them in one compiled call.

    Attributes:
        first: the index of the first stage among all.
        stages: those of the first variant; all variants have states of one form.
        variants: the stages with the numbers of each group of tensors.
    """

    def __init__(self, first: int, variants: Sequence[Sequence[LeafwiseStage]]):
        self.first, self.stages = first, variants[0]
        self.variants = [Variant(stages) for stages in variants]

    @cached_property
    def asks(self) -> frozenset[str]:
        """Everything that rules name."""
        stages = [stage for variant in self.variants for stage in variant.stages]
        return frozenset(name for stage in stages for name in stage.asks.update.names[1:])

    def advance(self, run: Run, states: list[State], *, final: bool) -> Run:
        """The run after these stages."""
        mine = states[self.first : self.first + len(self.stages)]
        forms = [stage.form for stage in self.stages]
        inner = [form.inner(state) for form, state in zip(forms, mine, strict=True)]
        counts = [
            as_array(form.count(state)) if form.counts else None
            for form, state in zip(forms, mine, strict=True)
        ]
        seeds = [part.seed if form.seeded else None for form, part in zip(forms, inner, strict=True)]
        tensors, extra = self._tensors(run, inner)
        calls: list[tuple[LeafwiseProgram, Shared]] = []
        for variant in self.variants:
            numbers, steps = variant.books(counts, run.traced)
            calls.append((variant.program(run.traced)[0], Shared(numbers, steps, seeds, extra)))

        outs, slots = self._called(run, tensors, calls, final)
        for j, (stage, form) in enumerate(zip(self.stages, forms, strict=True)):
            if stage.periodic is not None:
                self._refresh(run, j, tensors, slots, calls)
            trees = {name: run.treedef.unflatten([own[j][name] for own in slots]) for name in form.slots}
            kept = inner[j]._replace(**trees) if trees else inner[j]
            states[self.first + j] = form.rebuild(mine[j], kept, calls[0][1].steps[j])
        return run.after(outs, self._passed(run) if run.left else None)

    def _passed(self, run: Run) -> dict[int, Any]:
        """What is left out, after these stages; raise where one of them would compute with it."""
        for stage in self.stages:
            if stage.others == "refused":
                run.check_left(stage.name)
                return dict(run.left)
            if stage.others == "shown":
                left = {i: x if x is None else stage.rule.update(x) for i, x in run.left.items()}
                run = run.after(run.leaves, left)
        return dict(run.left)

    def _called(
        self, run: Run, tensors: list[Tensor], calls: list[tuple[LeafwiseProgram, Shared]], final: bool
    ) -> tuple[list[Any], list[list[Slots]]]:
        """The updates after the stages, and the slots of each, for every leaf."""
        outs, slots = [None] * len(tensors), [list(tensor.slots) for tensor in tensors]
        paths = leaf_paths(run.given) if "path" in self.asks else [None] * len(tensors)
        dtypes = [x if final or x is None else at_least_float32(x) for x in run.dtypes]
        kinds = list(zip(run.which, dtypes, paths, strict=True))
        for members in alike(tensors, kinds) if self.batch.joins else rows(run.leaves, kinds):
            i = members[0]
            (program, shared), static = calls[run.which[i]], dict(out_dtype=dtypes[i], path=paths[i])
            try:
                if len(members) == 1:
                    results = [program.one(tensors[i], shared, **static)]
                else:
                    results = program.many(self.batch)([[tensors[j] for j in members]], shared, **static)
            except Exception as error:
                error.add_note(self._situation(run, tensors[i], i))
                raise
            for j, (out, new) in zip(members, results, strict=True):
                outs[j], slots[j] = out, list(new)
        return outs, slots

    @property
    def batch(self) -> Batch:
        """How tensors of one shape go together."""
        return batch_in_force() if self.stages[0].batch else LOOP

    def _tensors(self, run: Run, inner: Sequence[State]) -> tuple[list[Tensor], dict[str, Any]]:
        """What belongs to each tensor, and what all share of the extra arguments that rules name."""
        columns = [self._slots(run, stage, state) for stage, state in zip(self.stages, inner, strict=True)]
        own: dict[str, list[Any]] = {}
        shared: dict[str, Any] = {}
        for name in run.extra.keys() & self.asks:
            leaves = run.beside_updates(name)
            if leaves is None:
                shared[name] = run.extra[name]
            else:
                own[name] = leaves
        count = len(run.leaves)
        # Each input of a call costs time to trace: what no rule names stays away.
        params = run.beside if {"param", "dtype"} & self.asks else [None] * count
        keyed = "key" in self.asks
        streams = [stream_of(path) for path in leaf_paths(run.given)] if keyed else [None] * count
        slots = list(zip(*columns, strict=True))
        own_by_leaf = [{name: own[name][i] for name in own} for i in range(count)]
        mine = range(self.first, self.first + len(self.stages))
        factors = [tuple(own.get(j, {}) for j in mine) for own in run.factors] or [()] * count
        parts = zip(run.leaves, params, slots, own_by_leaf, streams, factors, strict=True)
        return [Tensor(*part) for part in parts], shared

    def _slots(self, run: Run, stage: LeafwiseStage, inner: State) -> list[Slots]:
        """The slots of one stage, for each leaf."""
        columns = []
        for name in stage.form.slots:
            column = run.column(stage.name, getattr(inner, name), f"the state's {name}")
            for i, (grad, slot) in enumerate(zip(run.leaves, column, strict=True)):
                if grad is not None and slot is None:
                    path = errors.path_of(run.given, i)
                    raise ValueError(
                        f"{stage.name}: {path}: there is an update, but the state was made without this param"
                    )
            apart = next((slot for slot in column if isinstance(slot, Mapping)), None)
            if apart is not None:
                there = f"{type(apart).__name__}({', '.join(map(str, apart))})"
                raise TakenApart(
                    f"{stage.name}: the state's {name} has {there} in the place of a slot; it is of another "
                    "transformation, or was changed"
                )
            columns.append(column)
        if not columns:
            return [{}] * len(run.leaves)
        return [dict(zip(stage.form.slots, one, strict=True)) for one in zip(*columns, strict=True)]

    def _refresh(
        self,
        run: Run,
        j: int,
        tensors: list[Tensor],
        slots: list[list[Slots]],
        calls: list[tuple[LeafwiseProgram, Shared]],
    ) -> None:
        """Refresh the slots of a periodic stage, for all tensors of one shape together."""
        stage = self.stages[j]
        assert stage.periodic is not None
        asked = (*(stage.asks.refresh or ()), REJECTED)
        names = [name for name in stage.form.slots if name in asked]
        old = [{name: own[j][name] for name in names} for own in slots]
        parts = [x._replace(param=None, slots=part) for x, part in zip(tensors, old, strict=True)]
        for place, members in enumerate(alike(parts, list(run.which))):
            program, shared = calls[run.which[members[0]]]
            # Each shape begins a step after the one before, so that not all have many that are due at once.
            given = [old[i] for i in members], shared.numbers, shared.steps[j], np.int32(place)
            static = dict(stage=j, shape=tensors[members[0]].grad.shape, batch=self.batch)
            new = program.refresh(*given, **static, **stage.periodic._asdict())
            for i, own in zip(members, new, strict=True):
                slots[i][j] = {**slots[i][j], **own}

    def _situation(self, run: Run, tensor: Tensor, i: int) -> str:
        """Where a rule failed, and the shapes that met there, for JAX's own errors name neither."""
        held = (
            f", {stage.name}'s {name} {x.shape}"
            for stage, slots in zip(self.stages, tensor.slots, strict=True)
            for name, x in slots.items()
            if hasattr(x, "shape")
        )
        path = errors.path_of(run.given, i)
        return f"while updating {path}: shapes: the update {tensor.grad.shape}{''.join(held)}"


class Choosing(LeafwiseStage, Protocol):
    """A stage whose rule has an argument that is another for each leaf."""

    def choices(self, tree: PyTree) -> list[tuple[Hashable, ...]]: ...
    def chosen(self, choices: tuple[Hashable, ...]) -> LeafwiseStage: ...


def by_choice(
    variants: Sequence[Choosing], which: Sequence[int], choices: Sequence[tuple[Hashable, ...]]
) -> tuple[list[LeafwiseStage], list[int]]:
    """A stage for each variant and choice that there is, and for each leaf the index of its own."""
    kinds = list(zip(which, choices, strict=True))
    places = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
    stages = [variants[i].chosen(choice) for i, choice in places]
    return stages or list(variants), [places[kind] for kind in kinds]


class ChoosingSegment:
    """One stage with an argument that is another for each leaf: a variant for each choice."""

    def __init__(self, first: int, variants: Sequence[Choosing]):
        self.first, self.variants = first, variants
        self._segments: dict[tuple[LeafwiseStage, ...], LeafwiseSegment] = {}

    def advance(self, run: Run, states: list[State], *, final: bool) -> Run:
        """The run after this stage."""
        leaves = run.leaves if run.params is None else run.beside
        own = [None if i in run.left else leaf for i, leaf in enumerate(leaves)]
        tree = run.treedef.unflatten(own)
        choices = self.variants[0].choices(outlined(tree, None) if run.params is None else tree)
        stages, which = by_choice(self.variants, run.which, choices)
        key = tuple(stages)
        if key not in self._segments:
            self._segments[key] = LeafwiseSegment(self.first, [[stage] for stage in stages])
        after = self._segments[key].advance(replace(run, which=which), states, final=final)
        return replace(after, which=run.which)


def alike(tensors: Sequence[Tensor], kinds: Sequence[Any]) -> list[list[int]]:
    """The indices of tensors that can be stacked: of one kind, and of one shape and dtype throughout."""
    groups: dict[Any, list[int]] = {}
    for i, tensor in enumerate(tensors):
        if tensor.grad is not None:
            leaves, treedef = jax.tree.flatten(tensor)
            groups.setdefault((kinds[i], treedef, *((jnp.shape(x), x.dtype) for x in leaves)), []).append(i)
    return list(groups.values())


def stream_of(path: str) -> Any:
    """A number for a path: which random stream is its tensor's, whatever else there is."""
    return np.uint32(zlib.crc32(path.encode()))

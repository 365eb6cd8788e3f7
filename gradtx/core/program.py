"""Programs: consecutive leafwise stages as one function per tensor, compiled and cached."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from gradtx.core import errors
from gradtx.core.gate import gated
from gradtx.core.numerics import as_complex, as_real, at_least_float32, cast, compute_dtype, safe_increment
from gradtx.core.rows import row_of
from gradtx.core.types import Array
from gradtx.core.value import Value, unflatten

Stage: TypeAlias = Any
"""A `Leafwise` or `Treewise` value. The kinds stand on this module, so it knows them by what they do."""


@dataclass(frozen=True)
class Dynamic:
    """In a program's key, the place of a number that is an array or traced."""

    index: int


class Program:
    """Consecutive leafwise stages, compiled: as a function of one tensor, and of many.

    `many` maps the rules over a stack, or it is a row of calls of `one`.
    """

    def __init__(self, templates: tuple[Value, ...], stacked: bool):
        self.templates = templates
        name = "_".join(template.factory.name for template in templates)
        self.scalars = jax.jit(self._scalars)
        self.one = jax.jit(_named(self._one, name), static_argnames="out_dtype")
        if stacked:
            self.many = jax.jit(_named(self._stacked, f"{name}_of_many"), static_argnames="out_dtype")
        else:
            self.many = row_of(self.one, f"{name}_of_many", static_argnames="out_dtype")

    def _stages(self, dynamic: Sequence[Any]) -> list[Any]:
        return [
            unflatten(t._call, [dynamic[x.index] if isinstance(x, Dynamic) else x for x in t._leaves])
            for t in self.templates
        ]

    def _scalars(self, dynamic: Sequence[Any], counts: Sequence[Array | None]) -> Any:
        """The numbers that schedules give at these counts, and the counts after this update."""
        numbers = [
            {name: jnp.asarray(schedule(count)) for name, schedule in stage.schedules.items()}
            for stage, count in zip(self._stages(dynamic), counts, strict=True)
        ]
        return numbers, [None if count is None else safe_increment(count) for count in counts]

    def _one(
        self,
        grad: Array,
        param: Array | None,
        slots: Sequence[Mapping[str, Array]],
        dynamic: Sequence[Any],
        numbers: Sequence[Mapping[str, Array]],
        steps: Sequence[Array | None],
        extra: Mapping[str, Any],
        gate: Array | None,
        *,
        out_dtype: Any,
    ) -> tuple[Array, list[dict[str, Array]]]:
        dtype = at_least_float32(grad.dtype, out_dtype)
        known = {"param": None if param is None else cast(param, dtype), **extra}
        x, new_slots = cast(grad, dtype), []
        for stage, scheduled, step, old in zip(self._stages(dynamic), numbers, steps, slots, strict=True):
            x, new = _apply_rule(stage, scheduled, {**known, "step": step}, x, old, gate)
            if x.shape != grad.shape:
                raise ValueError(
                    f"{stage.name}: returned shape {x.shape} for an update of shape {grad.shape}"
                )
            new_slots.append(new)
        return cast(x, out_dtype), new_slots

    def _stacked(self, columns: Sequence[list[Any]], *shared: Any, out_dtype: Any) -> list[Any]:
        rows = list(zip(*columns, strict=True))
        stacked = jax.tree.map(lambda *tensors: jnp.stack(tensors), *rows)
        out = jax.vmap(lambda *row: self._one(*row, *shared, out_dtype=out_dtype))(*stacked)
        return [jax.tree.map(itemgetter(i), out) for i in range(len(rows))]


def _named(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    # jit shows this name in profiles and in the compiled program.
    def call(*args: Any, out_dtype: Any) -> Any:
        return method(*args, out_dtype=out_dtype)

    call.__name__ = call.__qualname__ = name
    return call


def _apply_rule(
    stage: Any, scheduled: Any, known: dict[str, Any], x: Array, slots: Any, gate: Array | None
) -> Any:
    if stage.real_only and jnp.iscomplexobj(x):
        raise errors.not_real(stage.name)
    rule = stage.rule_at(scheduled)
    seen = jax.tree.map(lambda slot: cast(slot, compute_dtype(slot.dtype)), slots)
    known = {**known, **seen}
    counted, in_pairs = {}, stage.like_torch and jnp.iscomplexobj(x)
    if stage.like_torch and "count" in slots:
        known["step"] = safe_increment(slots["count"])
        counted = {"count": known["step"]}
        count = seen.pop("count")
        if gate is not None:
            counted = {"count": jnp.where(gate, known["step"], count)}
    if in_pairs:
        x, known["param"] = as_real(x), as_real(known["param"])
    given = {name: known[name] for name in rule.names[1:] if name in known}
    update = rule.update if gate is None else gated(rule.update, gate, seen)
    out = update(x, **given)
    x, new = out if isinstance(out, tuple) else (out, {})
    x, new = as_complex(x) if in_pairs else x, {**new, **counted}
    if new.keys() != slots.keys():
        raise ValueError(
            f"{stage.name}: update returned the slots {sorted(new)}; its state has {sorted(slots)}"
        )
    return x, {
        name: jax.tree.map(partial(_kept, f"{stage.name}: {name}", x), slot, new[name])
        for name, slot in slots.items()
    }


def _kept(name: str, x: Array, old: Array, new: Array) -> Array:
    """What goes into a slot, in the dtype of what is there."""
    if jnp.iscomplexobj(new) and not jnp.iscomplexobj(old):
        raise TypeError(f"{name} is kept as {old.dtype} and would lose its imaginary part")
    if new.shape != old.shape:
        raise ValueError(
            f"{name} has shape {old.shape}, and shape {new.shape} after an update of shape {x.shape}"
        )
    return cast(new, old.dtype)


program = lru_cache(maxsize=4096)(Program)
"""One program per row of stages: a rebuilt optimizer that is equal shares its compiled functions."""


def stacking_pays() -> bool:
    """Whether one call on stacked tensors is quicker than one for each, as where a call launches a kernel.

    On the CPU it is not: the stack leaves the cache between two operations on it, and costs two copies.
    """
    return jax.default_backend() != "cpu"


def _stacked(stage: Stage) -> bool:
    return stage.leafwise and stage.batch and stacking_pays()


class Segment:
    """Consecutive leafwise stages with their program, or one treewise stage.

    Attributes:
        stages: the stages, and `first`, the index of the first among all.
        stacked: whether tensors of one shape go through the program as one stack.
        dynamic: the numbers of the program that are arrays or traced.
    """

    def __init__(self, first: int, stages: Sequence[Any]):
        self.first, self.stages = first, stages
        self.leafwise = stages[0].leafwise
        self.stacked = _stacked(stages[0])
        if self.leafwise:
            self.dynamic: list[Any] = []
            self.program = program(tuple(self._template(stage) for stage in stages), self.stacked)
            self.counts = any(stage.state_type.counts for stage in stages)
            self.names_param = any("param" in stage.rule.names for stage in stages)

    def _template(self, stage: Value) -> Value:
        return unflatten(stage._call, [self._place(leaf) for leaf in stage._leaves])

    def _place(self, leaf: Any) -> Any:
        if not hasattr(leaf, "shape"):
            return leaf
        self.dynamic.append(leaf)
        return Dynamic(len(self.dynamic) - 1)


class Plan:
    """How a transformation runs: its stages cut into segments, and what they need of an update."""

    def __init__(self, stages: Sequence[Any]):
        self.segments: list[Segment] = []
        rows: list[list[Any]] = []
        for stage in stages:
            joins = rows and stage.leafwise and rows[-1][-1].leafwise
            if joins and not _stacked(stage) and not _stacked(rows[-1][-1]):
                rows[-1].append(stage)
            else:
                rows.append([stage])
        first = 0
        for row in rows:
            self.segments.append(Segment(first, row))
            first += len(row)
        self.needs = {what: name for stage in reversed(stages) for what, name in stage.needs.items()}

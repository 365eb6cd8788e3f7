"""A walk over the stages of a transformation, also within wrappers, and which params each sees."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax

from gradtx.arrays.types import Params, State
from gradtx.core.transformation import GradientTransformation, Share, Stage
from gradtx.core.treewise import transformations_in
from gradtx.explaining.docstrings import Docstring, docstring_of
from gradtx.values.counting import number_at
from gradtx.values.factory import FACTORIES
from gradtx.values.source import show
from gradtx.wrappers.masking import MaskedNode

SHORT = 54
"""How many characters of an argument are shown."""


@dataclass(frozen=True)
class StageRow:
    """What is told of one stage.

    Attributes:
        number: its place, "2", or "2.1" for the first within the second.
        name: its name.
        label: what it is within, if that has a name: a label of `partition`.
        docstring: what its docstring says.
        numbers: its arguments as text; a schedule with the number that it gives now.
        needs: what an update must be given for it: ``params``, or extra arguments.
        keeps: its slots, and what else its state has.
        sees: ids of the params that it sees; None without params.
    """

    number: str
    name: str
    label: str
    docstring: Docstring
    numbers: Mapping[str, str]
    needs: tuple[str, ...]
    keeps: tuple[str, ...]
    sees: frozenset[int] | None = field(repr=False)


@dataclass(frozen=True)
class ShareRow:
    """What is told of some of the params: what they are called, what differs for them, and which they are."""

    label: str
    differs: str
    sees: frozenset[int]


def ids_in(params: Params) -> frozenset[int]:
    """The leaves, by identity."""
    return frozenset(map(id, jax.tree.leaves(params)))


def walk(
    tx: GradientTransformation,
    state: State | None,
    params: Params | None,
    prefix: str = "",
    label: str = "",
    first: int = 1,
) -> Iterator[StageRow | ShareRow]:
    """Every stage, and after a stage that does not treat all params alike, its shares of them.

    Args:
        tx, state, params: what is walked; what is known of its state and of its params.
        prefix, first: what the numbers of stages begin with, and that of the first.
        label: what the stages are within.
    """
    parts = [None] * len(tx.stages) if state is None else tx.unpack(state)
    for i, (stage, part) in enumerate(zip(tx.stages, parts, strict=True), start=first):
        number = f"{prefix}{i}"
        yield _row(stage, part, params, number, label)
        shares = [] if params is None else list(stage.shares(params))
        inside = list(_inside(stage, part))
        for share in shares:
            yield ShareRow(_label(share.label), _differs(share, inside), ids_in(share.params))
        known = 1
        for inner_label, inner, inner_state in inside:
            within = _restricted(params, shares, inner_label)
            if within is None or jax.tree.leaves(within):
                yield from walk(inner, inner_state, within, f"{number}.", _label(inner_label), known)
                known += len(inner.stages)


def _row(stage: Stage, part: State | None, params: Params | None, number: str, label: str) -> StageRow:
    needs = tuple(what for what, whose in stage.needs.items() if whose is stage)
    form = stage.form
    fields = form.slots or getattr(form.cls, "_fields", ())
    keeps = [*fields, *([form.counter] if form.counter and form.counter not in fields else [])]
    return StageRow(
        number,
        stage.name,
        label,
        docstring_of(stage.factory.public if stage.factory.public.__doc__ else FACTORIES[stage.name].public),
        dict(_numbers(stage, part)),
        needs,
        tuple(keeps),
        None if params is None else ids_in(params),
    )


def _numbers(stage: Stage, part: State | None) -> Iterator[tuple[str, str]]:
    count = 0
    if stage.schedules and part is not None:
        count = int(stage.form.count(part))
    for name, x in stage.arguments.items():
        if x is None or x is False or any(True for _ in transformations_in(x)):
            continue
        text = show(x)
        text = text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"
        now = f"{float(number_at(stage.schedules[name], count)):.6g} by " if name in stage.schedules else ""
        yield name, now + text


def _inside(stage: Stage, part: State | None) -> Iterator[tuple[Any, GradientTransformation, State | None]]:
    """The transformations that a stage wraps: the label of each, itself, and its state if that is known."""
    if part is not None:
        plain = stage.form.inner(part)
        found = [(one.label, one.tx, one.state) for one in stage.labelled(plain) if one.names is None]
        found = found or [("", *pair) for pairs in stage.inner_states(plain).values() for pair in pairs]
        if found:
            yield from found
            return
    for x in stage.arguments.values():
        if isinstance(x, Mapping):
            yield from ((key, inner, None) for key, child in x.items() for inner in transformations_in(child))
        else:
            yield from (("", inner, None) for inner in transformations_in(x))


def _restricted(params: Params | None, shares: list[Share], label: Any) -> Params | None:
    """The params that a wrapped transformation is given."""
    if not shares:
        return params
    mine = [share for share in shares if share.inside and (label == "" or share.label == label)]
    seen = frozenset[int]().union(*(ids_in(share.params) for share in mine))
    return jax.tree.map(lambda x: x if id(x) in seen else MaskedNode(), params)


def _label(label: Any) -> str:
    return getattr(label, "__name__", "") or str(label)


def _differs(share: Share, inside: list[Any]) -> str:
    """What is particular about some of the params, in words."""
    names = " and ".join(inner.name for _, inner, _ in inside)
    if isinstance(share.label, bool):
        return "" if share.inside else f"without {names}"
    if not share.inside:
        return "frozen"
    return ", ".join(f"{name}={show(x)}" for name, x in share.numbers.items())

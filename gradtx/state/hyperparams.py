"""Reading the numbers that an optimizer works with."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.types import Scalar, State
from gradtx.core.transformation import GradientTransformation, ScheduledState, check_transformation
from gradtx.state.state_dict import unique


class Hyperparams(NamedTuple):
    """Effective numbers by name: `last`, of the update that made the state; `next`, of the one to come."""

    last: dict[str, Scalar]
    next: dict[str, Scalar]


def hyperparams(tx: GradientTransformation, state: State) -> Hyperparams:
    """The numbers in force: every numeric argument of every primitive, schedules resolved.

    ``hyperparams(tx, state).next["learning_rate"]`` is the learning rate of the next update. Before
    the first update, `last` is what `next` is. An argument that several primitives have is named
    after each of them, ``scale_by_adam/eps``, ``scale_by_trust_ratio/eps``, and a repeated primitive
    gets a suffix as in `state_dict`: ``clip/max_delta``, ``clip_1/max_delta``.

    Args:
        tx: the transformation.
        state: its state, which holds the counts; it may be traced.

    Returns:
        Two dicts. Fixed numbers are as they were given, scheduled ones are scalars. Overrides by
        path pattern (`groups`) are not in it: these are the numbers of the other parameters.
    """
    check_transformation("hyperparams", "tx", tx)
    found = list(_numbers(tx, state, Counter()))
    repeated = Counter(argument for _, argument, _, _ in found)
    named = [
        (argument if repeated[argument] == 1 else f"{name}/{argument}", last, after)
        for name, argument, last, after in found
    ]
    return Hyperparams({name: last for name, last, _ in named}, {name: after for name, _, after in named})


def _numbers(
    tx: GradientTransformation, state: State, seen: Counter[str]
) -> Iterator[tuple[str, str, Any, Any]]:
    for stage, part in zip(tx.stages, tx.unpack(state), strict=True):
        inner = stage.inner_states(part.inner_state if isinstance(part, ScheduledState) else part)
        for pairs in inner.values():
            for inner_tx, inner_state in pairs:
                yield from _numbers(inner_tx, inner_state, seen)
        count = None
        if stage.schedules:
            count = jnp.asarray(stage.form.count(part))
        last = stage.numbers_at(None if count is None else jnp.maximum(count - 1, 0))
        after = stage.numbers_at(count)
        name = unique(stage.name, seen)
        for argument in stage.arguments:
            if argument in stage.factory.numeric and after[argument] is not None:
                yield name, argument, last[argument], after[argument]

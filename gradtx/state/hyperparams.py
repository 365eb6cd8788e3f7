"""Reading the numbers that an optimizer works with."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.types import Params, Scalar, State
from gradtx.core.transformation import GradientTransformation, Labelled, check_transformation
from gradtx.state.state_dict import unique


class Hyperparams(NamedTuple):
    """Effective numbers by name: `last`, of the update that made the state; `next`, of the one to come."""

    last: dict[str, Scalar]
    next: dict[str, Scalar]


def hyperparams(tx: GradientTransformation, state: State, params: Params | None = None) -> Hyperparams:
    """The numbers in force: every numeric argument of every primitive, schedules resolved.

    ``hyperparams(tx, state).next["learning_rate"]`` is the learning rate of the next update. Before
    the first update, `last` is what `next` is. An argument that several primitives have is named
    after each of them, ``scale_by_adam/eps``, ``scale_by_trust_ratio/eps``, and a repeated primitive
    gets a suffix as in `state_dict`: ``clip/max_delta``, ``clip_1/max_delta``.

    Args:
        tx: the transformation.
        state: its state, which holds the counts; it may be traced.
        params: the params, or their shapes, where numbers are `relative` by a function: such a number is
            another for each param, and comes under its path, ``blocks/3/kernel/learning_rate``. Without
            them, those are left out; their base is there in any case.

    Returns:
        Two dicts. Fixed numbers are as they were given, scheduled ones are scalars. Numbers that some of
        the params have for themselves come under their label: those that `groups` overrides beside those
        of all other params, ``.*bias/weight_decay``, relative ones multiplied out; in a `partition` all,
        ``rest/learning_rate``. Within a label they are named as above.
    """
    check_transformation("hyperparams", "tx", tx)
    seen: Counter[str] = Counter()
    told = [one._replace(name=unique(one.name, seen)) for one in _told(tx, state, params)]
    return Hyperparams({one.name: one.last for one in told}, {one.name: one.after for one in told})


class _Number(NamedTuple):
    """A number of a primitive: its name, which argument it is, and what it was and will be."""

    name: str
    argument: str
    last: Any
    after: Any

    def times(self, factor: Any) -> "_Number":
        """The number multiplied; by None, as it is."""
        if factor is None:
            return self
        return self._replace(last=self.last * factor, after=self.after * factor)


def _told(tx: GradientTransformation, state: State, params: Params | None) -> list[_Number]:
    """The numbers by their names: those of all params, and then those of labels."""
    apart: list[Labelled] = []
    found = list(_numbers(tx, state, Counter(), apart, params))
    repeated = Counter(one.argument for one in found)
    told = [one._replace(name=one.argument) if repeated[one.argument] == 1 else one for one in found]
    seen: Counter[str] = Counter()
    by_prefix: dict[str, set[str]] = {}
    for label, inner, inner_state, names, factors in apart:
        own = [
            one.times(factors.get(one.argument))
            for one in _told(inner, inner_state, None)
            if names is None or one.argument in names
        ]
        prefix = getattr(label, "__name__", str(label))
        if by_prefix.setdefault(prefix, set()) & {one.name for one in own}:
            prefix = unique(prefix, seen)
        else:
            by_prefix[prefix] |= {one.name for one in own}
            seen[prefix] = max(seen[prefix], 1)
        told += [one._replace(name=f"{prefix}/{one.name}") for one in own]
    return told


def _numbers(
    tx: GradientTransformation,
    state: State,
    seen: Counter[str],
    apart: list[Labelled],
    params: Params | None,
) -> Iterator[_Number]:
    """The numbers of primitives, named after these; what has a label is put apart."""
    for stage, part in zip(tx.stages, tx.unpack(state), strict=True):
        plain = stage.form.inner(part)
        labelled = stage.labelled(plain, params)
        apart += labelled
        inner = stage.inner_states(plain) if all(one.names is not None for one in labelled) else {}
        for pairs in inner.values():
            for inner_tx, inner_state in pairs:
                yield from _numbers(inner_tx, inner_state, seen, apart, params)
        count = None
        if stage.schedules:
            count = jnp.asarray(stage.form.count(part))
        last = stage.numbers_at(None if count is None else jnp.maximum(count - 1, 0))
        after = stage.numbers_at(count)
        name = unique(stage.name, seen)
        for argument in stage.arguments:
            if argument in stage.factory.numeric and after[argument] is not None:
                yield _Number(f"{name}/{argument}", argument, last[argument], after[argument])

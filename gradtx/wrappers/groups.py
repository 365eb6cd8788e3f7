"""Groups: other numbers for some of the parameters, in one transformation with one state."""

from collections.abc import Callable, Iterator, Mapping, Set
from functools import cached_property
from typing import Any

import numpy as np

from gradtx.arrays.numerics import zero_like
from gradtx.arrays.outline import outlined
from gradtx.arrays.select import Labels, select
from gradtx.arrays.types import Params, Selector, State
from gradtx.core.leafwise import Leafwise
from gradtx.core.placement import Beginning
from gradtx.core.transformation import GradientTransformation, InnerStates, Labelled, Plan, Share, run_plan
from gradtx.core.treewise import Treewise, treewise
from gradtx.schedules.constant import constant_schedule
from gradtx.values.domains import OFF
from gradtx.values.value import Value
from gradtx.wrappers.masking import keep, merge

OWN = "the optimizer's own"
"""The label of the params that keep the optimizer's own numbers."""
Overrides = Mapping[Any, Mapping[str, Any] | None]
"""By path pattern, or label, the numbers that differ; None freezes."""


def whole_state(arguments: Mapping[str, Any], state: State) -> InnerStates:
    """For a wrapper whose state is that of the wrapped transformation, and nothing else."""
    return {"": [(arguments["inner"], state)]}


class Groups(Treewise):
    """What `groups` returns: it knows whose state its state is, and the numbers of each group."""

    @cached_property
    def variants(self) -> dict[Any, GradientTransformation]:
        """The transformation of each group, by its label, and that of all others by `OWN`."""
        return variants_of(self.arguments["inner"], self.arguments["overrides"])

    def inner_states(self, state: State) -> InnerStates:
        return {"": [(self.variants[OWN], state)]}

    def labelled(self, state: State) -> list[Labelled]:
        overrides = self.arguments["overrides"]
        return [
            Labelled(label, variant, state, frozenset(overrides[label]))
            for label, variant in self.variants.items()
            if label is not OWN
        ]

    def shares(self, params: Params) -> list[Share]:
        overrides = self.arguments["overrides"]
        chosen = _chosen(overrides, self.arguments["labels"], params)
        labels = [OWN if label not in overrides else label for label in chosen]

        def share(label: Any) -> Share:
            own = Labels.of_leaves([one == label for one in labels], params)
            numbers = overrides.get(label, {})
            return Share(label, keep(own, params), numbers is not None, numbers or {})

        return [share(label) for label in (*overrides, OWN) if label in labels]


@treewise(kind=Groups, others="shown", on_shards=True)
def groups(inner: GradientTransformation, overrides: Overrides, labels: Selector | None = None):
    """Change some of an optimizer's numbers for some of the params, or freeze them.

    One transformation runs, with one state in the params' structure and no masked copies. Stages that
    look across tensors (`clip_by_global_norm`) see all params that are not frozen.

    Args:
        inner: the optimizer.
        overrides: for each path pattern the numbers that differ, ``{r".*bias": {"weight_decay": 0.0}}``,
            or None to freeze: such params get updates of 0 and have no state. The first pattern that
            matches decides; params that none matches keep the optimizer's own numbers. A function of
            ``(path, leaf)`` may stand for a pattern. A number beside a schedule is constant; if a group
            has a schedule for a number, the state counts updates, as if the optimizer had one there too.
        labels: instead of patterns, the key in `overrides` for each param: a function of ``(path, leaf)``
            or of the whole params, a tree, or ``{pattern: key}``. A param with another label keeps the
            optimizer's own numbers.

    Raises:
        TypeError: for overrides that are no dicts of numbers.
        ValueError: for a number that no stage has or several have, for one of a stage that looks across
            tensors, and, at `init`, for a pattern that matches no path.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.groups(
        ...     gradtx.adamw(1e-3, weight_decay=0.1),
        ...     {r".*bias": {"weight_decay": 0.0}, r"embedding/.*": None},
        ... )
        >>> state = tx.init({"embedding": {"table": jnp.ones(3)}, "out": {"bias": jnp.ones(2)}})
        >>> state[0].mu
        {'embedding': {'table': MaskedNode()}, 'out': {'bias': Array([0., 0.], dtype=float32)}}
    """
    _check_overrides(overrides)
    variants = variants_of(inner, overrides)
    keys, own = list(variants), variants[OWN]
    plan = Plan(*(variant.stages for variant in variants.values()))

    def resolve(tree):
        """Which params are not frozen, and for each of these the index of its variant."""
        chosen = _chosen(overrides, labels, tree)
        live = [overrides.get(label, {}) is not None for label in chosen]
        which = [
            keys.index(label) if label in variants else 0
            for label, alive in zip(chosen, live, strict=True)
            if alive
        ]
        return Labels.of_leaves(live, tree), which

    def init(params):
        live, which = resolve(params)
        return own.start(Beginning.of(keep(live, params)), list(variants.values()), which)

    def update(updates, state, params=None, **extra):
        live, which = resolve(outlined(updates, params))
        within = None if params is None else keep(live, params)
        new, state = run_plan(own, plan, keep(live, updates), state, within, extra, which=which)
        still = live.map(lambda _, g: g if g is None else zero_like(g), updates)
        return merge(live, new, still), state

    return init, update


def _chosen(overrides: Overrides, labels: Selector | None, tree: Any) -> list[Any]:
    """The label of every leaf of a tree."""
    selector = {key: key for key in overrides} if labels is None else labels
    return select("groups", "overrides" if labels is None else "labels", selector, tree, default=OWN)


def variants_of(inner: GradientTransformation, overrides: Overrides) -> dict[Any, GradientTransformation]:
    """The transformation with the numbers of each group by its label; first, as `OWN`, with its own.

    All have a schedule where one of them has, so that one state is the state of each.
    """
    live = {label: changes for label, changes in overrides.items() if changes is not None}
    made = {OWN: inner}
    made |= {label: overridden(inner, label, x) if x else inner for label, x in live.items()}
    changed = {name for changes in live.values() for name in changes}
    scheduled = {
        name for tx in made.values() for call in _calls(tx) for name in changed & call.schedules.keys()
    }
    if scheduled:
        made = {label: _changed(tx, lambda x: _as_schedules(x, scheduled)) for label, tx in made.items()}
    for label, variant in made.items():
        for own, other in zip(made[OWN].stages, variant.stages, strict=True):
            if own.form != other.form:
                raise ValueError(
                    f"groups: {label!r}: {own.name} would have another state than {inner.name} itself has; "
                    "give it a number of that kind too"
                )
    return made


def _check_overrides(overrides: Any) -> None:
    if not isinstance(overrides, Mapping):
        raise TypeError(f"groups: overrides must be a dict by path pattern, got {overrides!r}")
    for key, changes in overrides.items():
        if changes is not None and not isinstance(changes, Mapping):
            raise TypeError(f"groups: {key!r}: must be a dict of numbers, or None to freeze, got {changes!r}")


def overridden(inner: GradientTransformation, key: Any, changes: Mapping[str, Any]) -> GradientTransformation:
    """The transformation with these numbers changed, wherever in it they are arguments."""
    counts = dict.fromkeys(changes, 0)
    for value in _calls(inner):
        for name in changes.keys() & value.factory.numeric:
            counts[name] += 1
    for name, count in counts.items():
        if count == 0:
            known = sorted({n for value in _calls(inner) for n in value.factory.numeric})
            raise ValueError(
                f"groups: {key!r}: {name} is no number of {inner.name}; there are: {', '.join(known)}"
            )
        if count > 1:
            raise ValueError(
                f"groups: {key!r}: {name} is a number of {count} transformations in {inner.name}"
            )
    for value in _calls(inner):
        for name in changes.keys() & value.factory.numeric:
            if value.arguments[name] is OFF and changes[name] != 0:
                raise ValueError(
                    f"groups: {key!r}: {name} is 0 in {value.name}, which leaves that part out; give it a "
                    f"number there, and {{{name!r}: 0}} to the params that go without"
                )
    variant = _changed(inner, lambda value: _numbers(value, changes))
    for own, other in zip(inner.stages, variant.stages, strict=True):
        if own != other and not isinstance(own, Leafwise):
            raise ValueError(
                f"groups: {key!r}: {own.name} looks across all params, its numbers cannot differ by group"
            )
    return variant


def _calls(x: Any) -> Iterator[GradientTransformation]:
    if isinstance(x, GradientTransformation):
        yield x
        x = x.arguments
    children = x.values() if isinstance(x, Mapping) else x if isinstance(x, list | tuple) else ()
    for child in children:
        yield from _calls(child)


def _changed(x: Any, change: Callable[[Value], Mapping[str, Any]]) -> Any:
    """A transformation with the changes that a function makes to the arguments of each call in it."""
    if isinstance(x, GradientTransformation):
        arguments = {name: _changed(child, change) for name, child in x.arguments.items()}
        return x.factory.record({**arguments, **change(x)})
    if isinstance(x, Value):
        return x
    if type(x) is dict:
        return {name: _changed(child, change) for name, child in x.items()}
    if type(x) in (list, tuple):
        return type(x)(_changed(child, change) for child in x)
    return x


def _numbers(value: Value, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    own = {name: changes[name] for name in changes.keys() & value.factory.numeric}
    # A 0 that would leave a part out is an array here: the groups share one structure.
    zeros = {
        name: np.zeros((), np.float32)
        for name in own
        if value.factory.is_off(name, own[name]) and value.arguments[name] is not OFF
    }
    return {**own, **zeros}


def _as_schedules(value: Value, names: Set[str]) -> Mapping[str, Any]:
    own = {name: value.arguments[name] for name in names & value.factory.numeric}
    return {
        name: constant_schedule(x) for name, x in own.items() if not (x is None or x is OFF or callable(x))
    }

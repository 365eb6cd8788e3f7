"""Groups: other numbers for some of the parameters, in one transformation with one state."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from types import FunctionType
from typing import Any

import jax
import numpy as np

from gradtx.arrays.errors import is_none
from gradtx.arrays.numerics import zero_like
from gradtx.arrays.outline import outlined
from gradtx.arrays.select import Labels, labels_of, leaf_paths
from gradtx.arrays.types import Params, Selector, State
from gradtx.core.leafwise import Leafwise
from gradtx.core.placement import Beginning
from gradtx.core.transformation import (
    GradientTransformation,
    InnerStates,
    Labelled,
    Plan,
    Share,
    Stage,
    run_plan,
)
from gradtx.core.treewise import Treewise, treewise
from gradtx.schedules.constant import constant_schedule
from gradtx.values.domains import OFF
from gradtx.values.parts import is_number
from gradtx.values.value import Value
from gradtx.wrappers.masking import keep, merge
from gradtx.wrappers.relative import Relative

OWN = "the optimizer's own"
"""The label of the params that keep the optimizer's own numbers."""
Overrides = Mapping[Any, Mapping[str, Any] | None]
"""By path pattern, or label, the numbers that differ; None freezes."""
Relatives = dict[Any, dict[str, Relative]]
"""By label the numbers that are relative to the optimizer's own."""
Places = dict[str, list[tuple[int, str]]]
"""By number where it is in force: the index of a stage, and its argument."""


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

    @property
    def on_shards(self) -> bool:
        relatives = [
            x for own in _split(self.arguments["overrides"])[1].values() for x in own.values() if x.asks_leaf
        ]
        return super().on_shards and not relatives

    def labelled(self, state: State, params: Params | None = None) -> list[Labelled]:
        absolute, relatives = _split(self.arguments["overrides"])
        found = []
        for label, variant in self.variants.items():
            if label is OWN:
                continue
            known = {name: x.factor for name, x in relatives[label].items() if not x.is_by_function}
            names = frozenset(absolute[label] or ()) | known.keys()
            found.append(Labelled(label, variant, state, names, known))
        return found + ([] if params is None else self._by_path(state, params, relatives))

    def _by_path(self, state: State, params: Params, relatives: Relatives) -> list[Labelled]:
        """The numbers that a function gives for each param."""
        paths = leaf_paths(params)
        chosen = _chosen(self.arguments["overrides"], self.arguments["labels"], params, paths)
        leaves = jax.tree.leaves(params, is_leaf=is_none)
        found = []
        for label, path, leaf in zip(chosen, paths, leaves, strict=True):
            own = {name: x for name, x in relatives.get(label, {}).items() if x.is_by_function}
            if leaf is not None and own:
                factors = {name: x.of(_where(label, name), label, path, leaf) for name, x in own.items()}
                factors = {name: x.reshape(-1) if np.ndim(x) else x for name, x in factors.items()}
                found.append(Labelled(path, self.variants[label], state, frozenset(own), factors))
        return found

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
            or None to freeze: such params get updates of 0 and have no state. A number may be `relative` to
            the optimizer's own, ``{"learning_rate": gradtx.relative(0.1)}``. The first pattern that
            matches decides; params that none matches keep the optimizer's own numbers. A function of
            ``(path, leaf)`` may stand for a pattern. A number beside a schedule is constant; if a group
            has a schedule for a number, the state counts updates, as if the optimizer had one there too.
        labels: instead of patterns, the key in `overrides` for each param: a function of ``(path, leaf)``
            or of the whole params, a tree, or ``{pattern: key}``. A param with another label keeps the
            optimizer's own numbers.

    Raises:
        TypeError: for overrides that are no dicts of numbers.
        ValueError: for a number that no stage has or several have, for one of a stage that looks across
            tensors, for a relative one of which the slots are made, and, at `init`, for a pattern that
            matches no path.

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
    absolute, relatives = _split(overrides)
    variants = variants_of(inner, overrides)
    places = {label: _places(inner, label, frozenset(names)) for label, names in relatives.items() if names}
    by_path = labels is None or any(
        not is_number(x.factor) for own in relatives.values() for x in own.values()
    )
    own = variants[OWN]
    # Params whose numbers are the optimizer's own, or relative to these, are of one variant.
    apart = [label for label in variants if label is OWN or absolute[label]]
    index = {label: apart.index(label) if label in apart else 0 for label in variants}
    alone = [variants[label] for label in apart]
    plan = Plan(*(variant.stages for variant in alone))

    def resolve(tree):
        """Which params are not frozen, and of each of these path, label and the index of its variant."""
        paths = leaf_paths(tree) if by_path else []
        chosen = _chosen(overrides, labels, tree, paths or None)
        live = [overrides.get(label, {}) is not None for label in chosen]
        pairs = zip(paths or [""] * len(chosen), chosen, strict=True)
        left = [pair for pair, alive in zip(pairs, live, strict=True) if alive]
        return Labels.of_leaves(live, tree), left, [index.get(label, 0) for _, label in left]

    def multiples(tree, live, left):
        """For each param that is not frozen, what its numbers are multiplied by."""
        leaves = jax.tree.leaves(tree, is_leaf=is_none)
        kept = [leaf for leaf, alive in zip(leaves, live.each, strict=True) if alive]
        return [
            {}
            if leaf is None or label not in places
            else _factors(relatives[label], places[label], label, path, leaf)
            for (path, label), leaf in zip(left, kept, strict=True)
        ]

    def init(params):
        live, left, which = resolve(params)
        if places:
            multiples(params, live, left)  # what does not fit shows here
        return own.start(Beginning.of(keep(live, params)), alone, which)

    def update(updates, state, params=None, **extra):
        outline = outlined(updates, params)
        live, left, which = resolve(outline)
        factors = multiples(outline, live, left) if places else ()
        if all(live.each):
            return run_plan(own, plan, updates, state, params, extra, which=which, factors=factors)
        within = None if params is None else keep(live, params)
        new, state = run_plan(
            own, plan, keep(live, updates), state, within, extra, which=which, factors=factors
        )
        still = live.map(lambda alive, g: g if alive or g is None else zero_like(g), updates)
        return merge(live, new, still), state

    return init, update


def _chosen(
    overrides: Overrides, labels: Selector | None, tree: Any, paths: Sequence[str] | None = None
) -> list[Any]:
    """The label of every leaf of a tree."""
    selector = {key: key for key in overrides} if labels is None else labels
    what = "overrides" if labels is None else "labels"
    return labels_of("groups", what, selector, tree, OWN, paths).by_leaf(tree)


def _split(overrides: Overrides) -> tuple[Overrides, Relatives]:
    """The overrides without their relative numbers, and these alone."""
    absolute: dict[Any, Mapping[str, Any] | None] = {}
    relatives: Relatives = {}
    for label, changes in overrides.items():
        own = {name: x for name, x in (changes or {}).items() if isinstance(x, Relative)}
        relatives[label] = own
        absolute[label] = (
            changes if not (changes and own) else {n: changes[n] for n in changes if n not in own}
        )
    return absolute, relatives


def _where(label: Any, name: str) -> str:
    return f"groups: {label!r}: {name}"


_PROBE = constant_schedule(1.0)


def _places(inner: GradientTransformation, label: Any, names: frozenset[str]) -> Places:
    """For each of these numbers, as which argument of which stage it is in force."""
    for value in _calls(inner):
        for name in names & value.factory.numeric:
            if value.arguments[name] is None:
                raise ValueError(
                    f"{_where(label, name)} is None in {value.name}; relative needs a number there"
                )
    found: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        variant = overridden(inner, label, {name: _PROBE})
        found[name] = []
        for i, (own, other) in enumerate(zip(inner.stages, variant.stages, strict=True)):
            for argument in own.arguments if own != other else ():
                x = other.arguments[argument]
                if x is _PROBE:
                    found[name].append((i, argument))
                    _check_place(own, label, name, argument)
                elif not _alike(own.arguments[argument], x):
                    raise ValueError(
                        f"{_where(label, name)}: {inner.name} computes {argument} of {own.name} from "
                        "it, which relative cannot multiply; give the group the number itself"
                    )
    return found


def _check_place(stage: Stage, label: Any, name: str, argument: str) -> None:
    """Raise where a number is none of the update alone, but one that slots are made or refreshed with."""
    number = float("1")  # one that is found by identity, for a helper calls it what it likes
    rule = stage.rule_with({argument: number}) if isinstance(stage, Leafwise) else None
    for function in (rule.init, rule.refresh) if rule else ():
        if _closes_over(function, argument, number, set()):
            raise ValueError(
                f"{_where(label, name)}: {stage.name} makes its slots of it, not its updates alone; give the "
                "group the number itself instead of a relative one"
            )


def _closes_over(x: Any, name: str, number: float, seen: set[int]) -> bool:
    """Whether a function, or one that it closes over, uses a variable of this name or this very number."""
    if id(x) in seen or not isinstance(x, FunctionType):
        return x is number
    seen.add(id(x))
    return name in x.__code__.co_freevars or any(
        _closes_over(cell.cell_contents, name, number, seen) for cell in x.__closure__ or ()
    )


def _alike(x: Any, y: Any) -> bool:
    if x is y:
        return True
    try:
        return bool(x == y)
    except (TypeError, ValueError, jax.errors.ConcretizationTypeError):
        return False


def _factors(
    relatives: Mapping[str, Relative], places: Places, label: Any, path: str, leaf: Any
) -> dict[int, dict[str, Any]]:
    """What multiplies the numbers of stages for one param."""
    found: dict[int, dict[str, Any]] = {}
    for name, x in relatives.items():
        factor = x.of(_where(label, name), label, path, leaf)
        for i, argument in places[name]:
            found.setdefault(i, {})[argument] = factor
    return found


def variants_of(inner: GradientTransformation, overrides: Overrides) -> dict[Any, GradientTransformation]:
    """The transformation with the numbers of each group by its label; first, as `OWN`, with its own.

    All have a schedule where one of them has, so that one state is the state of each.
    """
    absolute, _ = _split(overrides)
    live = {label: changes for label, changes in absolute.items() if changes is not None}
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

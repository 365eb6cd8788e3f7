"""Groups: other numbers for some of the parameters, in one transformation with one state."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from gradtx.arrays.select import map_labelled, select
from gradtx.arrays.types import Selector, State
from gradtx.core.leafwise import Leafwise
from gradtx.core.transformation import GradientTransformation, InnerStates, Plan, run_plan
from gradtx.core.treewise import treewise
from gradtx.values.domains import OFF
from gradtx.values.value import Value
from gradtx.wrappers.masking import keep, merge


def whole_state(arguments: Mapping[str, Any], state: State) -> InnerStates:
    """For a wrapper whose state is that of the wrapped transformation, and nothing else."""
    return {"": [(arguments["inner"], state)]}


@treewise(inner_states=whole_state)
def groups(
    inner: GradientTransformation,
    overrides: Mapping[str, Mapping[str, Any] | None],
    labels: Selector | None = None,
):
    """Change some of an optimizer's numbers for some of the params, or freeze them.

    One transformation runs, with one state in the params' structure and no masked copies. Stages that
    look across tensors (`clip_by_global_norm`) see all params that are not frozen.

    Args:
        inner: the optimizer.
        overrides: for each path pattern the numbers that differ, ``{r".*bias": {"weight_decay": 0.0}}``,
            or None to freeze: such params get updates of 0 and have no state. The first pattern that
            matches decides; params that none matches keep the optimizer's own numbers.
        labels: instead of patterns, the key in `overrides` for each param: a function of ``(path, leaf)``
            or of the whole params, a tree, or ``{pattern: key}``. A param with another label keeps the
            optimizer's own numbers.

    Raises:
        TypeError: for overrides that are no dicts of numbers.
        ValueError: for a number that no stage has or several have, for one of a stage that looks across
            tensors, for an override that changes the state, and, at `init`, for a pattern that matches
            no path.

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
    live_overrides = {key: changes for key, changes in overrides.items() if changes is not None}
    keys = list(live_overrides)
    variants = [inner, *(overridden(inner, key, changes) for key, changes in live_overrides.items())]
    plan = Plan(*(variant.stages for variant in variants))
    selector = {key: key for key in overrides} if labels is None else labels

    def resolve(tree):
        chosen = select("groups", "overrides" if labels is None else "labels", selector, tree, default=None)
        return chosen, [overrides.get(key, _OWN) is not None for key in chosen]

    def init(params):
        _, live = resolve(params)
        return inner.init(keep(live, params))

    def update(updates, state, params=None, **extra):
        chosen, live = resolve(updates)
        which = [
            keys.index(key) + 1 if key in keys else 0
            for key, alive in zip(chosen, live, strict=True)
            if alive
        ]
        within = None if params is None else keep(live, params)
        new, state = run_plan(inner, plan, keep(live, updates), state, within, extra, which=which)
        still = map_labelled(lambda _, g: g if g is None else jnp.zeros_like(g), chosen, updates)
        return merge(live, new, still), state

    return init, update


_OWN: Mapping[str, Any] = {}


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
    variant = _changed(inner, changes)
    for own, other in zip(inner.stages, variant.stages, strict=True):
        leafwise = isinstance(own, Leafwise)
        if not leafwise and own != other:
            raise ValueError(
                f"groups: {key!r}: {own.name} looks across all params, its numbers cannot differ by group"
            )
        if leafwise and own.form != other.form:
            raise ValueError(
                f"groups: {key!r}: {own.name} would have another state; give {inner.name} itself a schedule "
                "there too (constant_schedule for a fixed number)"
            )
    return variant


def _calls(x: Any) -> Iterator[GradientTransformation]:
    if isinstance(x, GradientTransformation):
        yield x
        x = x.arguments
    children = x.values() if isinstance(x, Mapping) else x if isinstance(x, list | tuple) else ()
    for child in children:
        yield from _calls(child)


def _changed(x: Any, changes: Mapping[str, Any]) -> Any:
    if isinstance(x, GradientTransformation):
        own = {name: changes[name] for name in changes.keys() & x.factory.numeric}
        arguments = {name: _changed(child, changes) for name, child in x.arguments.items()}
        # A 0 that would leave a part out is an array here: the groups share one structure.
        zeros = {
            name: np.zeros((), np.float32)
            for name in own
            if x.factory.is_off(name, own[name]) and x.arguments[name] is not OFF
        }
        return x.factory.record({**arguments, **own, **zeros})
    if isinstance(x, Value):
        return x
    if type(x) is dict:
        return {name: _changed(child, changes) for name, child in x.items()}
    if type(x) in (list, tuple):
        return type(x)(_changed(child, changes) for child in x)
    return x

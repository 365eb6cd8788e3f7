"""Monitoring: measurements of updates on their way through a chain, kept in the state."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, ParamSpec

import jax
import jax.numpy as jnp
from jax.tree_util import keystr

from gradtx.arrays import errors
from gradtx.arrays.numerics import at_least_float32, cast
from gradtx.arrays.types import Array, Params, State, Updates
from gradtx.core.transformation import EmptyState, GradientTransformation
from gradtx.core.treewise import treewise
from gradtx.transforms.momentum import ema
from gradtx.values.domains import Decay, DType
from gradtx.values.factory import register
from gradtx.values.value import Value

P = ParamSpec("P")

Measure = Callable[..., Any]
"""A function of the updates, and of what else it names: ``params``, or extra arguments of `update` such as
``value``. It returns any tree of arrays, of one shape at every update."""


class SnapshotState(NamedTuple):
    """measurement: the last measurement, by its name."""

    measurement: dict[str, Any]


class MonitorState(NamedTuple):
    """measurements: the last ones by name, before the first those of updates of 0; measure_states: a
    state for each."""

    measurements: dict[str, Any]
    measure_states: tuple[State, ...]


@treewise(state=SnapshotState)
def snapshot(measure_name: str, measure: Measure):
    """Measure the updates at this place of a chain; they pass unchanged.

    Before the first update the state has the measurement of the params.

    Args:
        measure_name: where the measurement is found: ``gradtx.tree.get(state, measure_name)``.
        measure: a function of the updates, of the tensors in at least float32. It may name what else it
            needs: ``params``, or an extra argument of `update`, as in ``lambda updates, value: value``. At
            `init` such an argument is its default, or else a scalar 0.

    Raises:
        TypeError: at `update`, without something that the measure names.
        ValueError: for a measurement of another structure or shape than at `init`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.chain(gradtx.snapshot("norm", gradtx.global_norm), gradtx.clip_by_global_norm(1.0))
        >>> grads = {"w": jnp.array([3.0, 4.0])}
        >>> _, state = tx.update(grads, tx.init(grads))
        >>> print(gradtx.tree.get(state, "norm"))
        5.0
    """

    _check_measure("snapshot", "measure", measure)

    def init(params):
        found = _measured("snapshot", measure, _wide(params), params, _at_start(measure))
        return SnapshotState({measure_name: found})

    def update(updates, state, params=None, **extra):
        found = _measured("snapshot", measure, updates, params, extra)
        return updates, SnapshotState(_noted("snapshot", state.measurement, {measure_name: found}))

    return init, update


@treewise(state=MonitorState)
def monitor(measures: Mapping[str, Any]):
    """Take several measurements of the updates at this place of a chain; they pass unchanged.

    Args:
        measures: by name a function of the updates, and of what else it names, as in `snapshot`; a
            `measure_with_ema`; or a transformation, whose measurement is what it makes of the updates.
            ``gradtx.tree.get(state, name)`` finds each.

    Raises:
        TypeError: for a measure that is none of these, and, at `update`, without something that a
            measure names.
        ValueError: for a measurement of another structure or shape than at `init`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> average = gradtx.measure_with_ema(gradtx.global_norm, 0.9)
        >>> loss = lambda updates, value: value
        >>> tx = gradtx.monitor({"norm": gradtx.global_norm, "average": average, "loss": loss})
        >>> state = tx.init({"w": jnp.zeros(2)})
        >>> for size in (1.0, 2.0):
        ...     _, state = tx.update({"w": jnp.array([0.0, size])}, state, value=10 * size)
        >>> print(*(f"{state.measurements[name]:.4g}" for name in ("norm", "average", "loss")))
        2 1.526 20
    """
    if not isinstance(measures, Mapping):
        raise TypeError(f"monitor: measures must be a dict by name, got {measures!r}")
    stateful = {name: _stateful(name, measure) for name, measure in measures.items()}

    def init(params):
        states = tuple(measure.init(params) for measure in stateful.values())
        still = jax.tree.map(jnp.zeros_like, _wide(params))
        extras = [_at_start(measure) for measure in measures.values()]
        measurements, _ = measured(still, states, params, extras)
        return MonitorState(measurements, states)

    def measured(updates, states, params, extras):
        pairs = [
            measure.update(updates, state, params, **extra)
            for measure, state, extra in zip(stateful.values(), states, extras, strict=True)
        ]
        measurements = {name: found for name, (found, _) in zip(stateful, pairs, strict=True)}
        return measurements, tuple(state for _, state in pairs)

    def update(updates, state, params=None, **extra):
        measurements, states = measured(updates, state.measure_states, params, [extra] * len(stateful))
        return updates, MonitorState(_noted("monitor", state.measurements, measurements), states)

    return init, update


def _named(measure: Measure) -> dict[str, bool]:
    """What a measure names besides the updates, and whether it can do without."""
    try:
        parameters = list(inspect.signature(measure).parameters.values())[1:]
    except ValueError:  # some functions written in C have no signature
        return {}
    given_by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p.default is not p.empty for p in parameters if p.kind in given_by_name}


def _measured(
    who: str, measure: Measure, updates: Updates, params: Params | None, extra: Mapping[str, Any]
) -> Any:
    """The measurement, by a function that is given what it names."""
    known = {name: x for name, x in {**extra, "params": params}.items() if x is not None}
    named = _named(measure)
    for name, optional in named.items():
        if name not in known and not optional:
            raise errors.needs(who, name)
    return measure(updates, **{name: known[name] for name in named if name in known})


def _at_start(measure: Any) -> dict[str, Any]:
    """Extra arguments for `init`, which is given none."""
    if isinstance(measure, GradientTransformation):
        needed = list(measure.plan.needs)
    else:
        measure = measure.arguments["measure"] if isinstance(measure, Measurement) else measure
        needed = [name for name, optional in _named(measure).items() if not optional]
    return {name: jnp.zeros([]) for name in needed if name != "params"}


def _noted(who: str, old: Any, new: Any) -> Any:
    """The new measurements; where a tensor had no update, the old."""
    befores, treedef = jax.tree_util.tree_flatten_with_path(old, is_leaf=errors.is_none)
    nows, found = jax.tree.flatten(new, is_leaf=errors.is_none)
    if found != treedef:
        raise errors.another_structure(who, "measurements", new, "those at init", old)
    for (path, before), now in zip(befores, nows, strict=True):
        if now is not None and jnp.shape(now) != jnp.shape(before):
            raise ValueError(
                f"{who}: {keystr(path)} has shape {jnp.shape(now)}, and had {jnp.shape(before)} at init: "
                "measurements keep their shape; give an argument that is no scalar a default of its shape"
            )
    pairs = zip(befores, nows, strict=True)
    return treedef.unflatten([before if now is None else now for (_, before), now in pairs])


class Measurement(Value):
    """A measurement with a state, for `monitor`; no transformation, for it does not return updates."""

    shown_as = "Measurement"
    offered = ("init", "update")

    def validate(self) -> None:
        """Raise if the arguments do not fit together."""
        self.factory.body(**self.arguments)

    def init(self, params: Params) -> State:
        """The state before the first measurement."""
        return self.factory.body(**self.arguments)[0](params)

    def update(
        self, updates: Updates, state: State, params: Params | None = None, **extra: Any
    ) -> tuple[Any, State]:
        """The measurement and the next state."""
        return self.factory.body(**self.arguments)[1](updates, state, params, **extra)


def _recorded(body: Callable[P, Any]) -> Callable[P, Measurement]:
    return register(body, Measurement)


@_recorded
def measure_with_ema(
    measure: Measure, decay: Decay, debias: bool = True, accumulator_dtype: DType = None
) -> Any:
    """The exponential moving average of a measurement, for `monitor`.

    Args:
        measure: a function of the updates, and of what else it names, as in `snapshot`; bools are
            averaged as 0 and 1.
        decay, debias, accumulator_dtype: as in `ema`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> large = gradtx.measure_with_ema(lambda updates: gradtx.global_norm(updates) > 1.0, 0.5)
        >>> tx = gradtx.monitor({"large": large})
        >>> state = tx.init({"w": jnp.zeros(1)})
        >>> for size in (2.0, 0.5):
        ...     _, state = tx.update({"w": jnp.array([size])}, state)
        >>> print(state.measurements["large"].round(3))
        0.333
    """
    _check_measure("measure_with_ema", "measure", measure)
    average = ema(decay, debias, accumulator_dtype)

    def measured(updates, params, extra):
        found = _measured("measure_with_ema", measure, updates, params, extra)
        return jax.tree.map(lambda x: cast(jnp.asarray(x), _inexact(x)), found)

    def init(params):
        return EmptyState(), average.init(measured(_wide(params), params, _at_start(measure)))

    def update(updates, state, params=None, **extra):
        measurement, inner_state = average.update(measured(updates, params, extra), state[1])
        return measurement, (state[0], inner_state)

    return init, update


def _stateful(name: str, measure: Any) -> Any:
    if isinstance(measure, Measurement | GradientTransformation):
        return measure
    _check_measure("monitor", repr(name), measure, ", a measure_with_ema(...) or a transformation")
    return _Stateless(f"monitor: {name!r}", measure)


def _check_measure(who: str, what: str, measure: Any, others: str = "") -> None:
    if not callable(measure) or hasattr(measure, "factory"):
        raise TypeError(f"{who}: {what} must be a function of the updates{others}, got {measure!r}")


class _Stateless(NamedTuple):
    who: str
    measure: Measure

    def init(self, params: Params) -> EmptyState:
        del params
        return EmptyState()

    def update(self, updates: Updates, state: State, params: Any = None, **extra: Any) -> tuple[Any, State]:
        return _measured(self.who, self.measure, updates, params, extra), state


def _inexact(x: Array) -> Any:
    dtype = jnp.result_type(x)
    return at_least_float32(dtype) if jnp.issubdtype(dtype, jnp.inexact) else jnp.float32


def _wide(params: Params) -> Params:
    # Updates arrive in at least float32; what is measured of params must have the same dtypes.
    return jax.tree.map(lambda x: cast(jnp.asarray(x), at_least_float32(jnp.result_type(x))), params)

"""Monitoring: measurements of updates on their way through a chain, kept in the state."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, ParamSpec

import jax
import jax.numpy as jnp

from gradtx.core.numerics import at_least_float32, cast
from gradtx.core.transformation import EmptyState, GradientTransformation, treewise
from gradtx.core.types import Array, Decay, Params, State, Updates
from gradtx.core.value import Value, register
from gradtx.transforms.momentum import ema

P = ParamSpec("P")

Measure = Callable[[Updates], Any]
"""A function of the updates: any tree of arrays, of one shape at every update."""


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
        measure: a function of the updates, of the tensors in at least float32.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.chain(gradtx.snapshot("norm", gradtx.global_norm), gradtx.clip_by_global_norm(1.0))
        >>> grads = {"w": jnp.array([3.0, 4.0])}
        >>> _, state = tx.update(grads, tx.init(grads))
        >>> print(gradtx.tree.get(state, "norm"))
        5.0
    """

    def init(params):
        return SnapshotState({measure_name: measure(_wide(params))})

    def update(updates, state):
        return updates, SnapshotState(_noted(state.measurement, {measure_name: measure(updates)}))

    return init, update


@treewise(state=MonitorState)
def monitor(measures: Mapping[str, Any]):
    """Take several measurements of the updates at this place of a chain; they pass unchanged.

    Args:
        measures: by name a function of the updates, a `measure_with_ema`, or a transformation, whose
            measurement is what it makes of the updates; it may need params, but no extra arguments.
            ``gradtx.tree.get(state, name)`` finds each.

    Raises:
        TypeError: for a measure that is none of these.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> average = gradtx.measure_with_ema(gradtx.global_norm, 0.9)
        >>> tx = gradtx.monitor({"norm": gradtx.global_norm, "average": average})
        >>> state = tx.init({"w": jnp.zeros(2)})
        >>> for size in (1.0, 2.0):
        ...     _, state = tx.update({"w": jnp.array([0.0, size])}, state)
        >>> print(state.measurements["norm"], state.measurements["average"])
        2.0 1.5263158
    """
    stateful = {name: _stateful(name, measure) for name, measure in measures.items()}

    def init(params):
        states = tuple(measure.init(params) for measure in stateful.values())
        measurements, _ = measured(jax.tree.map(jnp.zeros_like, _wide(params)), states, params, {})
        return MonitorState(measurements, states)

    def measured(updates, states, params, extra):
        pairs = [
            measure.update(updates, state, params, **extra)
            for measure, state in zip(stateful.values(), states, strict=True)
        ]
        measurements = {name: found for name, (found, _) in zip(stateful, pairs, strict=True)}
        return measurements, tuple(state for _, state in pairs)

    def update(updates, state, params=None, **extra):
        measurements, states = measured(updates, state.measure_states, params, extra)
        return updates, MonitorState(_noted(state.measurements, measurements), states)

    return init, update


def _noted(old: Any, new: Any) -> Any:
    """The new measurements; where a tensor had no update, the old."""
    return jax.tree.map(lambda before, now: before if now is None else now, old, new)


class Measurement(Value):
    """A measurement with a state, for `monitor`; no transformation, for it does not return updates."""

    def init(self, params: Params) -> State:
        """The state before the first measurement."""
        return self.factory.body(**self.arguments)[0](params)

    def update(
        self, updates: Updates, state: State, params: Params | None = None, **extra: Any
    ) -> tuple[Any, State]:
        """The measurement and the next state."""
        del params, extra
        return self.factory.body(**self.arguments)[1](updates, state)


def _recorded(body: Callable[P, Any]) -> Callable[P, Measurement]:
    return register(body, Measurement)


@_recorded
def measure_with_ema(
    measure: Measure, decay: Decay, debias: bool = True, accumulator_dtype: str | None = None
) -> Any:
    """The exponential moving average of a measurement, for `monitor`.

    Args:
        measure: a function of the updates; bools are averaged as 0 and 1.
        decay, debias, accumulator_dtype: as in `ema`.
    """
    average = ema(decay, debias, accumulator_dtype)

    def measured(updates):
        return jax.tree.map(lambda x: cast(jnp.asarray(x), _inexact(x)), measure(updates))

    def init(params):
        return EmptyState(), average.init(measured(_wide(params)))

    def update(updates, state):
        measurement, inner_state = average.update(measured(updates), state[1])
        return measurement, (state[0], inner_state)

    return init, update


def _stateful(name: str, measure: Any) -> Any:
    if isinstance(measure, Measurement | GradientTransformation):
        return measure
    if not callable(measure) or hasattr(measure, "factory"):
        raise TypeError(
            f"monitor: {name!r} must be a function of the updates, a measure_with_ema(...) or a "
            f"transformation, got {measure!r}"
        )
    return _Stateless(measure)


class _Stateless(NamedTuple):
    measure: Measure

    def init(self, params: Params) -> EmptyState:
        del params
        return EmptyState()

    def update(self, updates: Updates, state: State, params: Any = None, **extra: Any) -> tuple[Any, State]:
        del params, extra
        return self.measure(updates), state


def _inexact(x: Array) -> Any:
    dtype = jnp.result_type(x)
    return at_least_float32(dtype) if jnp.issubdtype(dtype, jnp.inexact) else jnp.float32


def _wide(params: Params) -> Params:
    # Updates arrive in at least float32; what is measured of params must have the same dtypes.
    return jax.tree.map(lambda x: cast(jnp.asarray(x), at_least_float32(jnp.result_type(x))), params)

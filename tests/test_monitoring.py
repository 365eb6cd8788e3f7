"""Measurements in a chain: what `snapshot` and `monitor` keep."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from tests.laws import assert_close, assert_same_layout, tree


def measures(library):
    return {
        "norm": gradtx.global_norm,
        "large": library.measure_with_ema(lambda updates: gradtx.global_norm(updates) > 3.0, 0.9),
    }


def test_monitor_measures_what_optax_measures() -> None:
    """1e-5: Optax's bias correction in float32 is off by up to 7e-6."""
    ours, theirs = gradtx.monitor(measures(gradtx)), optax.monitor(measures(optax))
    state, their_state = ours.init(tree(0)), theirs.init(tree(0))
    assert set(state.measurements) == set(measures(gradtx)) and their_state.measurements == {}
    for i in range(1, 5):
        _, after = ours.update(tree(i), state)
        _, their_state = theirs.update(tree(i), their_state)
        assert_same_layout(after, state)
        state = after
        for name, measurement in their_state.measurements.items():
            np.testing.assert_allclose(state.measurements[name], measurement, rtol=1e-5)
    assert 0 < state.measurements["large"] < 1


def test_a_tensor_without_a_gradient_keeps_its_measurement() -> None:
    tx = gradtx.snapshot("sizes", lambda updates: jax.tree.map(jnp.size, updates))
    state = tx.init({"a": jnp.ones(3), "b": jnp.ones(2)})
    _, state = tx.update({"a": jnp.ones(3), "b": None}, state)
    assert_close(state.measurement["sizes"], {"a": 3, "b": 2})


@pytest.mark.parametrize("measure", [3, gradtx.ema, "norm"])
def test_what_is_no_measure(measure) -> None:
    with pytest.raises(TypeError, match="monitor: 'x' must be a function of the updates"):
        gradtx.monitor({"x": measure})


def test_monitor_measures_by_name() -> None:
    tx = gradtx.monitor(measures(gradtx))
    flat = gradtx.state_dict(tx, tx.init(tree(0)))
    assert {"monitor/measurements/norm", "monitor/measurements/large"} < set(flat)

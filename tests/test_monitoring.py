"""Measurements in a chain: what `snapshot` and `monitor` keep."""

import jax
import jax.numpy as jnp
import optax
import pytest

import gradtx
from tests.laws import assert_close, assert_same_layout, tree


def measures(library):
    return {
        "norm": gradtx.global_norm,
        "large": library.measure_with_ema(lambda updates: gradtx.global_norm(updates) > 3.0, 0.9),
    }


def test_monitor_measures_what_optax_measures(x64) -> None:
    """In float64, where Optax's bias correction loses no digits; ours of bools is in float32."""
    ours, theirs = gradtx.monitor(measures(gradtx)), optax.monitor(measures(optax))
    state, their_state = ours.init(tree(0)), theirs.init(tree(0))
    assert set(state.measurements) == set(measures(gradtx)) and their_state.measurements == {}
    for i in range(1, 5):
        _, after = ours.update(tree(i), state)
        _, their_state = theirs.update(tree(i), their_state)
        assert_same_layout(after, state)
        state = after
        for name, measurement in their_state.measurements.items():
            assert_close(state.measurements[name], measurement)
    assert 0 < state.measurements["large"] < 1


def test_a_tensor_without_a_gradient_keeps_its_measurement() -> None:
    tx = gradtx.snapshot("sizes", lambda updates: jax.tree.map(jnp.size, updates))
    state = tx.init({"a": jnp.ones(3), "b": jnp.ones(2)})
    _, state = tx.update({"a": jnp.ones(3), "b": None}, state)
    assert_close(state.measurement["sizes"], {"a": 3, "b": 2})


def loss(updates, value):
    return value


def relative(updates, params, *, value, factor=2.0):
    return factor * gradtx.global_norm(updates) / gradtx.global_norm(params) + value


MEASURES = {
    "snapshot": gradtx.snapshot("loss", relative),
    "monitor": gradtx.monitor({"loss": relative}),
    "measure_with_ema": gradtx.monitor({"loss": gradtx.measure_with_ema(relative, 0.9)}),
}


@pytest.mark.parametrize("tx", MEASURES.values(), ids=MEASURES)
def test_a_measure_names_what_it_needs(tx) -> None:
    params, grads = {"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([0.0, 10.0])}
    state = tx.init(params)
    _, after = jax.jit(tx.update)(grads, state, params, value=1.0)
    assert_same_layout(after, state)
    assert gradtx.tree.get(after, "loss") == pytest.approx(5.0, rel=1e-6)
    _, after = tx.update(grads, state, params, value=1.0, factor=1.0)
    assert gradtx.tree.get(after, "loss") == pytest.approx(3.0, rel=1e-6)


@pytest.mark.parametrize(
    ("tx", "name"),
    [
        (gradtx.snapshot("x", loss), "snapshot"),
        (gradtx.monitor({"x": loss}), "monitor: 'x'"),
        (gradtx.monitor({"x": gradtx.measure_with_ema(loss, 0.9)}), "measure_with_ema"),
        (gradtx.monitor({"x": gradtx.contrib.reduce_on_plateau()}), "contrib.reduce_on_plateau"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_measure_without_what_it_needs(tx, name) -> None:
    params = {"w": jnp.ones(2)}
    with pytest.raises(
        TypeError, match=rf"^{name} needs value: call update\(grads, state, params, value=...\)"
    ):
        tx.update(params, tx.init(params), params)


def test_a_measurement_keeps_its_structure_and_shape() -> None:
    params, losses = {"w": jnp.ones(2)}, jnp.arange(3.0)
    tx = gradtx.monitor({"losses": loss})
    with pytest.raises(
        ValueError, match=r"monitor: \['losses'\] has shape \(3,\), and had \(\) at init: .*default"
    ):
        tx.update(params, tx.init(params), value=losses)
    with pytest.raises(
        ValueError, match=r"monitor: measurements and those at init have different structures"
    ):
        tx.update(params, tx.init(params), value={"a": losses})
    zeros = jnp.zeros(3)
    tx = gradtx.monitor({"losses": lambda updates, value=zeros: value})
    _, state = tx.update(params, tx.init(params), value=losses)
    assert_close(state.measurements["losses"], losses)


@pytest.mark.parametrize("measure", [3, gradtx.ema, "norm"])
def test_what_is_no_measure(measure) -> None:
    with pytest.raises(TypeError, match="monitor: 'x' must be a function of the updates"):
        gradtx.monitor({"x": measure})


def test_monitor_measures_by_name() -> None:
    tx = gradtx.monitor(measures(gradtx))
    flat = gradtx.state_dict(tx, tx.init(tree(0)))
    assert {"monitor/measurements/norm", "monitor/measurements/large"} < set(flat)

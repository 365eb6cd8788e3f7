"""Where gradtx differs from Optax on purpose, and by how much; and what the table cannot say."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from tests import laws
from tests.oracles import formulas as f


def errors_in_float32(make, oracle, steps: int) -> tuple[float, float]:
    """The relative errors of the last of these updates, ours and Optax's, in the median of a tensor."""
    rng = np.random.default_rng(0)
    param = rng.normal(size=100).astype(np.float32)
    ours, theirs = make(gradtx), make(optax)
    state, other_state = ours.init(jnp.asarray(param)), theirs.init(jnp.asarray(param))
    for _ in range(steps):
        grad = rng.normal(size=100).astype(np.float32)
        exact = oracle(grad.astype(np.float64), param.astype(np.float64))
        update, state = ours.update(jnp.asarray(grad), state, jnp.asarray(param))
        other, other_state = theirs.update(jnp.asarray(grad), other_state, jnp.asarray(param))
    far = [np.median(np.abs(x - exact) / np.abs(exact)) for x in (update, other)]
    return far[0], far[1]


def test_radam_knows_the_length_of_its_average() -> None:
    far, others = errors_in_float32(lambda x: x.scale_by_radam(), f.radam(), 6)
    assert far < 1e-6 and others > 1e-3


def test_fromage_keeps_small_angles() -> None:
    """With an update of 0, what is left is (cos θ − 1)·p; θ is 0.001, and 1 − cos θ is 5e-7."""
    params = jnp.ones(4)
    exact = (1 + 0.001**2) ** -0.5 - 1
    far = [
        abs(float(tx.update(jnp.zeros(4), tx.init(params), params)[0][0]) / exact - 1)
        for tx in (x.fromage(x.linear_schedule(0.001, 0.001, 4)) for x in (gradtx, optax))
    ]
    assert far[0] < 1e-6 and far[1] > 1e-2


def test_rprop_steps_at_once() -> None:
    params = grads = {"w": jnp.ones(2)}
    ours, theirs = gradtx.rprop(0.1), optax.rprop(0.1)
    np.testing.assert_allclose(ours.update(grads, ours.init(params))[0]["w"], -0.1)
    np.testing.assert_allclose(theirs.update(grads, theirs.init(params))[0]["w"], 0)


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_adafactor_is_that_of_optax_to_single_precision(x64, momentum) -> None:
    """Optax takes t^−0.8 in float32, off by 6e-8 of itself, and rounds its average to float32."""
    ours, theirs = (x.adafactor(0.1, 2, momentum=momentum, weight_decay_rate=0.01) for x in (gradtx, optax))
    params = laws.tree(0, jnp.float64)
    state, other_state = ours.init(params), theirs.init(params)
    assert str(jax.tree.structure(state)) == str(jax.tree.structure(other_state))
    apart = 0.0
    for i in range(12):
        grads = laws.tree(i + 1, jnp.float64)
        updates, state = ours.update(grads, state, params)
        other, other_state = theirs.update(grads, other_state, params)
        laws.assert_close(updates, other, rtol=1e-6, atol=1e-7)
        apart = max(
            apart, *(np.max(np.abs(x - y)) for x, y in zip(*map(laws.numbers, (updates, other)), strict=True))
        )
    assert apart > 1e-12


@pytest.mark.parametrize("variant", ["sps", "sps+"])
def test_polyak_is_that_of_optax(x64, variant) -> None:
    """In float64 within 1e-12; the values are such that the bounds hold at some steps and not at others."""
    ours, theirs = (x.polyak_sgd(0.2, 0.5, f_min=0.1, eps=0.01, variant=variant) for x in (gradtx, optax))
    params = laws.tree(0, jnp.float64)
    state, other_state = ours.init(params), theirs.init(params)
    assert str(jax.tree.structure(state)) == str(jax.tree.structure(other_state))
    rates = []
    for i, value in enumerate([8.0, 0.3, 0.0, 0.1, 1.0]):
        grads = laws.tree(i + 1, jnp.float64)
        updates, state = ours.update(grads, state, params, value=value)
        other, other_state = theirs.update(grads, other_state, params, value=value)
        laws.assert_close(updates, other, rtol=1e-12, atol=1e-14)
        rates.append(float(updates["scale"] / grads["scale"]))
    assert rates[0] == -0.5 * 0.2 and 0 > rates[1] > -0.1 and (rates[2] > 0 or variant == "sps+")


def test_polyak_needs_the_value() -> None:
    tx, params = gradtx.polyak_sgd(), laws.tree(0)
    with pytest.raises(TypeError, match=r"scale_by_polyak needs value"):
        tx.update(params, tx.init(params), params)
    with pytest.raises(ValueError, match=r"scale_by_polyak: variant must be sps or sps\+, got 'typo'"):
        gradtx.polyak_sgd(variant="typo")


def test_adan_weighs_the_change_as_its_paper_does(x64) -> None:
    """With b2 = 0.5, b2 and 1 - b2 are one, and Optax computes the same, in float64 within 1e-12."""
    params = laws.tree(0, jnp.float64)
    for b2 in (0.5, 0.92):
        ours, theirs = (x.scale_by_adan(b2=b2) for x in (gradtx, optax))
        state, other_state = ours.init(params), theirs.init(params)
        assert str(jax.tree.structure(state)) == str(jax.tree.structure(other_state))
        for i in range(12):
            grads = laws.tree(i + 1, jnp.float64)
            updates, state = ours.update(grads, state, params)
            other, other_state = theirs.update(grads, other_state, params)
            if b2 == 0.5:
                laws.assert_close((updates, state), (other, other_state), rtol=1e-12, atol=1e-14)
        assert b2 == 0.5 or abs(updates["scale"] / other["scale"] - 1) > 0.1


def test_sm3_is_that_of_optax_but_for_scalars(x64) -> None:
    """In float64 within 1e-12, updates and states, for one axis, two and three."""
    shapes = {"a": (4,), "b": (3, 2), "c": (2, 3, 2)}
    rng = np.random.default_rng(0)
    make = lambda: {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}  # noqa: E731
    params = make()
    for b2 in (1.0, 0.8):
        ours, theirs = (x.scale_by_sm3(0.9, b2) for x in (gradtx, optax))
        state, other_state = ours.init(params), theirs.init(params)
        assert str(jax.tree.structure(state)) == str(jax.tree.structure(other_state))
        for _ in range(12):
            grads = make()
            updates, state = ours.update(grads, state, params)
            other, other_state = theirs.update(grads, other_state, params)
            laws.assert_close((updates, state), (other, other_state), rtol=1e-12, atol=1e-14)
    scalar = jnp.asarray(2.0)
    np.testing.assert_allclose(ours.update(scalar, ours.init(scalar))[0], 0.1 * 2 / np.sqrt(0.2 * 4))
    with pytest.raises(IndexError):
        theirs.update(scalar, theirs.init(scalar))

"""Where gradtx differs from Optax on purpose, and by how much; and what the table cannot say."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from tests import laws
from tests.beside_optax import assert_equal_steps, assert_near
from tests.oracles import formulas as f


def errors_in_float32(make, oracle, steps: int) -> tuple[float, float]:
    """The relative errors of the last of these updates, ours and Optax's, in the median of a tensor.

    In `jit`, where numbers are exact: outside, one that was another before is an argument, in float32.
    """
    rng = np.random.default_rng(0)
    param = rng.normal(size=100).astype(np.float32)
    ours, theirs = make(gradtx), make(optax)
    state, other_state = ours.init(jnp.asarray(param)), theirs.init(jnp.asarray(param))
    for _ in range(steps):
        grad = rng.normal(size=100).astype(np.float32)
        exact = oracle(grad.astype(np.float64), param.astype(np.float64))
        update, state = jax.jit(ours.update)(jnp.asarray(grad), state, jnp.asarray(param))
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
    """The values are such that the bounds hold at some steps and not at others."""
    make = lambda x: x.polyak_sgd(0.2, 0.5, f_min=0.1, eps=0.01, variant=variant)  # noqa: E731
    values = [8.0, 0.3, 0.0, 0.1, 1.0]
    assert_equal_steps(make, values=values)
    tx, params = make(gradtx), laws.tree(0, jnp.float64)
    grads = [laws.tree(i, jnp.float64) for i in (1, 2, 3)]
    updates = [tx.update(g, tx.init(params), params, value=x)[0] for g, x in zip(grads, values, strict=False)]
    rates = [float(update["scale"] / g["scale"]) for update, g in zip(updates, grads, strict=True)]
    assert rates[0] == -0.5 * 0.2 and 0 > rates[1] > -0.1 and (rates[2] > 0 or variant == "sps+")


def test_distance_over_gradients_of_a_scalar_is_a_scalar() -> None:
    scalar = jnp.asarray(2.0)
    txs = [x.scale_by_distance_over_gradients(0.1) for x in (gradtx, optax)]
    assert [tx.update(scalar, tx.init(scalar), scalar)[0].shape for tx in txs] == [(), (1,)]


def test_polyak_needs_the_value() -> None:
    tx, params = gradtx.polyak_sgd(), laws.tree(0)
    with pytest.raises(TypeError, match=r"scale_by_polyak needs value"):
        tx.update(params, tx.init(params), params)
    with pytest.raises(ValueError, match=r"scale_by_polyak: variant must be sps or sps\+, got 'typo'"):
        gradtx.polyak_sgd(variant="typo")


def test_adan_weighs_the_change_as_its_paper_does(x64) -> None:
    """With b2 = 0.5, b2 and 1 - b2 are one, and Optax computes the same."""
    assert_near(*assert_equal_steps(lambda x: x.scale_by_adan(b2=0.5)))
    params, grads = laws.tree(0, jnp.float64), [laws.tree(i, jnp.float64) for i in (1, 2, 3)]
    seen = [laws.run(x.scale_by_adan(), params, grads)[0]["scale"] for x in (gradtx, optax)]
    assert abs(seen[0] - seen[1]) > 0.05  # of three updates of about 1


def test_sm3_is_that_of_optax_but_for_scalars(x64) -> None:
    """Updates and states, for one axis, two and three."""
    shapes = {"a": (4,), "b": (3, 2), "c": (2, 3, 2)}

    def tree(seed: int) -> dict[str, jax.Array]:
        rng = np.random.default_rng(seed)
        return {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}

    for b2 in (1.0, 0.8):
        assert_near(*assert_equal_steps(lambda x, b2=b2: x.scale_by_sm3(0.9, b2), tree=tree))
    ours, theirs = gradtx.scale_by_sm3(0.9, 0.8), optax.scale_by_sm3(0.9, 0.8)
    scalar = jnp.asarray(2.0)
    np.testing.assert_allclose(ours.update(scalar, ours.init(scalar))[0], 0.1 * 2 / np.sqrt(0.2 * 4))
    with pytest.raises(IndexError):
        theirs.update(scalar, theirs.init(scalar))


def test_subspaces_of_galore_are_in_the_dtype_of_the_state(x64) -> None:
    """Optax's are orthonormal to 6e-8 in double precision, and fail where gradients have another dtype."""
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(5, 4)))}
    off = []
    for x in (gradtx, optax):
        tx = x.contrib.scale_by_galore(2)
        _, state = tx.update(params, tx.init(params))
        P = state.projector["w"]
        off.append(float(jnp.max(jnp.abs(P.T @ P - jnp.eye(2)))))
    assert off[0] < 1e-15 * 5 and 1e-9 < off[1] < 1e-6
    half = {"w": params["w"].astype(jnp.bfloat16)}
    ours, theirs = gradtx.contrib.galore(0.1, 2), optax.contrib.galore(0.1, 2)
    updates, state = ours.update({"w": params["w"].astype(jnp.float32)}, ours.init(half), half)
    assert updates["w"].dtype == gradtx.tree.get(state, "projector")["w"].dtype == jnp.float32
    with pytest.raises(TypeError, match="cond branches"):
        theirs.update({"w": params["w"].astype(jnp.float32)}, theirs.init(half), half)


def test_galore_is_differentiable_where_singular_values_coincide() -> None:
    def total(grads, x):
        tx = x.contrib.scale_by_galore(2)
        return jnp.sum(tx.update(grads, tx.init(grads))[0])

    zeros = jnp.zeros((4, 3))
    assert np.isfinite(jax.grad(total)(zeros, gradtx)).all()
    assert np.isnan(jax.grad(total)(zeros, optax)).all()


def test_opaque_sam_leaves_a_missing_gradient_alone() -> None:
    params = {"a": jnp.ones(3), "b": jnp.ones(2)}
    grads = {"a": jnp.ones(3), "b": None}
    grad_fn = lambda params, i: jax.tree.map(lambda p: 4 * p**3, params)  # noqa: E731
    ours, theirs = (x.contrib.sam(x.sgd(0.1), x.sgd(0.05), opaque_mode=True) for x in (gradtx, optax))
    updates, _ = ours.update(grads, ours.init(params), params, grad_fn=grad_fn)
    np.testing.assert_allclose(updates["a"], -0.1 * 4 * 1.05**3, rtol=1e-6)
    assert updates["b"] is None
    with pytest.raises(TypeError):
        theirs.update(grads, theirs.init(params), params, grad_fn=grad_fn)

"""The executor: one function per tensor, compiled once, and batched by shape where a rule asks for it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from tests.laws import Compilations, assert_close, assert_same_layout, tree

traced: list[tuple[int, ...]] = []


class SeenState(NamedTuple):
    total: gradtx.Params


@gradtx.leafwise(state=SeenState)
def counted(rate: gradtx.Number = 1.0):
    def init(param):
        return dict(total=jnp.zeros_like(param))

    def update(grad, total):
        traced.append(grad.shape)
        return rate * grad, dict(total=total + grad)

    return init, update


@pytest.fixture(autouse=True)
def forget():
    traced.clear()
    jax.clear_caches()


def many(n: int = 10) -> list[jax.Array]:
    return [jnp.full((3,) if i % 2 else (2, 2), float(i)) for i in range(n)]


@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_rule_is_traced_once_per_shape(mode) -> None:
    params = many()
    tx = gradtx.chain(counted(0.5), gradtx.scale(2.0), counted(3.0))
    state = tx.init(params)
    update = mode(tx.update)
    for _ in range(3):
        updates, state = update(params, state, params)
    assert sorted(traced) == sorted([(3,), (2, 2)] * 2), traced
    assert_close(updates, [3.0 * x for x in params])


def calls(jaxpr: Any) -> list[Any]:
    return [eqn for eqn in jaxpr.eqns if eqn.primitive.name in ("pjit", "jit")]


def test_consecutive_leafwise_stages_are_one_function_per_tensor() -> None:
    params = many(100)
    tx = gradtx.chain(
        gradtx.adamw(1e-3), gradtx.trace(0.9), gradtx.chain(gradtx.scale(0.5), gradtx.identity())
    )
    jaxpr = jax.make_jaxpr(tx.update)(params, tx.init(params), params)
    counts, *rows = calls(jaxpr)
    assert counts.params["name"] == "incremented"
    # Of each of the two shapes there are fifty: a row of 32, and 18 alone.
    inner = [calls(row.params["jaxpr"]) or [row] for row in rows]
    assert sorted(map(len, inner)) == [1] * 36 + [32] * 2
    assert len({id(one.params["jaxpr"]) for row in inner for one in row}) == 2


def test_outside_of_tracing_tensors_may_be_on_different_devices() -> None:
    devices = jax.devices()[:2]
    params = [jax.device_put(jnp.full(i % 3 + 1, 1.0), devices[i % 2]) for i in range(6)] + [None]
    tx = gradtx.chain(gradtx.clip(0.5), gradtx.trace(0.9))
    updates, state = tx.update(params, tx.init(params), params)
    with Compilations() as compilations:
        updates, state = tx.update(params, state, params)
    assert compilations.count == 0
    for update, param in zip(updates[:-1], params[:-1], strict=True):
        assert update.devices() == param.devices()
        assert_close(update, jnp.full_like(param, 0.95))


def test_a_rule_that_fails_names_the_tensor() -> None:
    @gradtx.leafwise()
    def picky():
        def update(grad):
            if grad.shape == (2,):
                raise RuntimeError("not this one")
            return grad

        return update

    params = {"a": jnp.ones(3), "b": jnp.ones(2), "c": jnp.ones(1)}
    with pytest.raises(RuntimeError) as caught:
        picky().update(params, picky().init(params))
    assert caught.value.__notes__[-1] == "while updating ['b']: shapes: the update (2,)"


def test_a_treewise_stage_cuts_the_row() -> None:
    tx = gradtx.chain(
        gradtx.scale(0.5), gradtx.clip_by_global_norm(1.0), gradtx.scale(0.5), gradtx.trace(0.9)
    )
    assert [type(segment).__name__ for segment in tx.plan.segments] == [
        "LeafwiseSegment",
        "TreewiseSegment",
        "LeafwiseSegment",
    ]


def test_equal_optimizers_share_their_programs() -> None:
    params = many(2)
    first, second = gradtx.adam(0.25), gradtx.adam(0.25)
    first.update(params, first.init(params))
    with Compilations() as compilations:
        second.update(params, second.init(params))
    assert compilations.count == 0


def test_an_array_number_is_no_new_program() -> None:
    params = many(2)
    values = jax.tree.map(jnp.asarray, [gradtx.adam(0.25), gradtx.adam(0.5)])
    state = values[0].init(params)
    values[0].update(params, state)
    with Compilations() as compilations:
        updates, _ = values[1].update(params, state)
    assert compilations.count == 0
    assert updates[1][0] == pytest.approx(-0.5)


class MomentumState(NamedTuple):
    mu: gradtx.Params


def orthogonalised(x: jax.Array) -> jax.Array:
    """The nearest orthogonal matrix, by Newton and Schulz's cubic iteration."""
    x = x / jnp.linalg.norm(x)
    for _ in range(12):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x


def orthogonalise(batch: bool):
    @gradtx.leafwise(state=MomentumState, batch=batch)
    def orthogonal_momentum(decay: gradtx.Decay = 0.9):
        def init(param):
            return dict(mu=jnp.zeros_like(param))

        def update(grad, mu, param, step):
            traced.append(grad.shape)
            mu = gradtx.decay_towards(mu, grad, decay)
            return orthogonalised(mu) + 0.01 * param / step, dict(mu=mu)

        return init, update

    return orthogonal_momentum()


@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_batched_rule_runs_once_per_shape(mode, stacking, x64) -> None:
    rng = np.random.default_rng(0)
    shapes = [(3, 4)] * 4 + [(2, 2)] * 3 + [(5, 3)]
    params = [jnp.asarray(rng.normal(size=shape)) for shape in shapes] + [None]
    alone = gradtx.chain(gradtx.clip_by_global_norm(5.0), orthogonalise(False), gradtx.scale(-0.1))
    together = gradtx.chain(gradtx.clip_by_global_norm(5.0), orthogonalise(True), gradtx.scale(-0.1))
    state, other = alone.init(params), together.init(params)
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for _ in range(2):
        updates, state = mode(alone.update)(params, state, params)
        traced.clear()
        batched, other = mode(together.update)(params, other, params)
        assert len(traced) <= 3
        # A batched matrix product sums in another order, twelve times over.
        assert_close((batched, other), (updates, state))
    u = batched[0] / -0.1 - 0.01 * params[0] / 2
    np.testing.assert_allclose(u @ u.T, np.eye(3), atol=1e-4)


def test_batched_products_are_batched_in_the_program(stacking) -> None:
    params = [jnp.ones((3, 4)) + jnp.eye(3, 4) * i for i in range(6)]
    tx = orthogonalise(True)
    text = jax.jit(tx.update).lower(params, tx.init(params), params).as_text()
    assert (
        text.count("dot_general") == 24
    )  # two products in each of twelve iterations, whatever the number of tensors


def test_half_precision_travels_in_float32_along_a_chain() -> None:
    # In bfloat16, 1 + 2**-9 is 1: the sum survives only if it is never rounded between the stages.
    params = {"w": jnp.ones(2, jnp.bfloat16)}
    tx = gradtx.chain(
        gradtx.scale(1 + 2**-9),
        gradtx.clip_by_global_norm(10.0),
        gradtx.add_decayed_weights(-1.0),
        gradtx.scale(2.0**9),
    )
    updates, _ = tx.update(params, tx.init(params), params)
    assert updates["w"].dtype == jnp.bfloat16
    assert updates["w"][0] == 1.0


def test_state_of_half_precision_params_is_float32_and_does_not_stall() -> None:
    """Each step rounds by 2⁻²⁴ at most, a thousand of which are remembered: 6e-5, for one of the two
    roundings of a step is of a thousandth of the other's number."""
    params = {"w": jnp.ones(2, jnp.bfloat16)}
    tx = gradtx.scale_by_adam()
    state = tx.init(params)
    step = jax.jit(lambda state: tx.update(params, state)[1])
    for _ in range(3000):
        state = step(state)
    assert state.nu["w"].dtype == jnp.float32
    assert state.nu["w"][0] == pytest.approx(1 - 0.999**3000, rel=1e-4)


def test_mu_dtype_is_kept() -> None:
    params = tree(0)
    tx = gradtx.adam(0.1, mu_dtype=jnp.bfloat16)
    assert repr(tx) == repr(gradtx.adam(0.1, mu_dtype="bfloat16"))
    _, state = tx.update(params, tx.init(params))
    assert state[0].mu["scale"].dtype == jnp.bfloat16 and state[0].nu["scale"].dtype == jnp.float32


def test_optax_stages_mix(x64) -> None:
    import optax

    params = tree(0)
    mixed = gradtx.chain(optax.clip_by_global_norm(1.0), gradtx.scale_by_adam(), optax.scale(-0.1))
    plain = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.scale(-0.1))
    within = optax.chain(gradtx.clip_by_global_norm(1.0), gradtx.scale_by_adam(), gradtx.scale(-0.1))
    states = [tx.init(params) for tx in (mixed, plain, within)]
    for i in range(3):
        results = [
            tx.update(tree(i), s, params) for tx, s in zip((mixed, plain, within), states, strict=True)
        ]
        updates, states = zip(*results, strict=True)
        assert_close(updates[0], updates[1])
        assert_close(updates[2], updates[1])


def test_a_pair_of_functions_is_a_transformation() -> None:
    def init(params):
        return jnp.zeros([], jnp.int32)

    def update(updates, state, params=None, *, factor=1.0):
        return jax.tree.map(lambda u: factor * u, updates), state + 1

    tx = gradtx.GradientTransformation(init, update)
    assert isinstance(tx, gradtx.GradientTransformation)
    assert tx == gradtx.GradientTransformation(init, update)
    params = tree(0)
    updates, state = gradtx.chain(tx, gradtx.scale(2.0)).update(
        params, (tx.init(params), gradtx.EmptyState()), factor=3.0
    )
    assert_close(updates, jax.tree.map(lambda x: 6 * x, params))
    init_of, update_of = gradtx.sgd(0.1)
    assert_close(update_of(params, init_of(params))[0], jax.tree.map(lambda x: -0.1 * x, params))


class CopyState(NamedTuple):
    start: gradtx.Params


@gradtx.leafwise(state=CopyState)
def remember_each():
    def init(param):
        return dict(start=param)

    def update(grad, start):
        return grad - start, dict(start=start)

    return init, update


@gradtx.treewise(state=CopyState)
def remember_all():
    def update(updates, state):
        return jax.tree.map(jnp.subtract, updates, state.start), state

    return CopyState, update


@pytest.mark.parametrize("tx", [remember_each(), remember_all(), gradtx.masked(remember_all(), True)])
@pytest.mark.parametrize("param", [jnp.ones(3), jnp.asarray(1.0)], ids=["strong", "weak"])
def test_a_state_that_copies_the_params_owns_its_buffers(tx, param) -> None:
    state = tx.init({"w": param})
    (start,) = jax.tree.leaves(state)
    assert start.unsafe_buffer_pointer() != param.unsafe_buffer_pointer() and not start.weak_type
    _, after = tx.update({"w": param}, state, {"w": param})
    assert_same_layout(after, state)


@pytest.mark.parametrize("step_size", [0.0, 0.01, 0.7, 1.0])
def test_incremental_update_is_optax(step_size: float, x64) -> None:
    new, old = tree(0, jnp.float64), tree(1, jnp.float64)
    expected = optax.incremental_update(new, old, step_size)
    assert_close(gradtx.incremental_update(new, old, step_size), expected, rtol=1e-14, atol=1e-16)


def test_incremental_update_keeps_what_is_old_and_what_is_missing() -> None:
    """In bfloat16 a small step is lost to rounding, in any order of the sum; the dtype is not."""
    out = gradtx.incremental_update(
        {"a": jnp.ones(2), "b": None}, {"a": jnp.zeros(2, jnp.bfloat16), "b": None}, 0.5
    )
    assert out["b"] is None and out["a"].dtype == jnp.bfloat16 and float(out["a"][0]) == 0.5


def test_periodic_update_is_optax() -> None:
    new, old = tree(0), tree(1)
    for step in range(5):
        assert_close(gradtx.periodic_update(new, old, step, 2), optax.periodic_update(new, old, step, 2))


def test_jit_step_takes_an_array_in_several_places() -> None:
    tx, table, fixed = gradtx.adam(0.1), jnp.ones(3), jnp.ones(2)
    params = {"embed": table, "head": table, "b": fixed}
    grads = {"embed": 2 * jnp.ones(3), "head": -jnp.ones(3), "b": fixed}  # one of them is a gradient too
    expected, _ = tx.update(grads, tx.init(params), params)
    new, state = gradtx.jit_step(tx, grads, tx.init(params), params)
    assert_close(new, gradtx.apply_updates(jax.tree.map(jnp.ones_like, params), expected))
    gradtx.jit_step(tx, grads, state, new)
    assert not fixed.is_deleted() and table.is_deleted()

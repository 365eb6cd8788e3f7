"""Numbers injected into a state: of any function that makes a transformation, and set from outside."""

import json
import pickle
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

PARAMS = {"w": jnp.ones((1, 2)), "b": jnp.ones(2)}


def make(learning_rate, decay=0.5):
    return gradtx.chain(gradtx.trace(decay), gradtx.scale(-learning_rate))


def masked_scale(learning_rate, mask, times: gradtx.Static[int] = 2):
    for _ in range(times):  # a loop, which takes no traced number
        learning_rate = 0.5 * learning_rate
    return gradtx.masked(gradtx.scale(-learning_rate), mask)


@gradtx.recipe
def decorated(learning_rate, mask):
    return gradtx.masked(gradtx.chain(gradtx.scale_by_learning_rate(learning_rate), gradtx.scale(0.25)), mask)


def by_place(decay, learning_rate):
    return make(learning_rate, decay)


class Builder:
    """An object that can be called."""

    def __call__(self, learning_rate, decay=0.5):
        return make(learning_rate, decay)


BUILDER = Builder()


def first(tx: Any, state: Any = None) -> list[float]:
    """The first update, compiled and not, of gradients of ones."""
    state = tx.init(PARAMS) if state is None else state
    eager, compiled = (run(PARAMS, state, PARAMS)[0] for run in (tx.update, jax.jit(tx.update)))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, eager, compiled))
    return [float(x.reshape(-1)[0]) for x in jax.tree.leaves(eager)]


MAKERS = {
    "a function": lambda x: x.inject_hyperparams(make),
    "a partial": lambda x: x.inject_hyperparams(partial(make, decay=0.25)),
    "a partial of a partial": lambda x: x.inject_hyperparams(partial(partial(make, decay=0.25), decay=0.75)),
    "an object": lambda x: x.inject_hyperparams(BUILDER),
    "a partial by place": lambda x: x.inject_hyperparams(partial(by_place, 0.25)),
    "a partial of a factory": lambda x: x.inject_hyperparams(partial(x.adamw, b1=0.5)),
}


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_any_function_is_a_factory_as_in_optax(maker: Any) -> None:
    ours, theirs = (maker(x)(learning_rate=0.5) for x in (gradtx, optax))
    states = ours.init(PARAMS), theirs.init(PARAMS)
    mine, other = ({name: float(x) for name, x in state.hyperparams.items()} for state in states)
    assert mine == other
    expected, _ = theirs.update(PARAMS, states[1], PARAMS)
    assert first(ours) == pytest.approx([float(x.reshape(-1)[0]) for x in jax.tree.leaves(expected)])


@pytest.mark.parametrize("name", ["a function", "a partial", "an object", "a partial of a factory"])
def test_what_is_made_twice_is_one_value(name: str) -> None:
    tx, again = (MAKERS[name](gradtx)(learning_rate=0.5) for _ in range(2))
    assert tx == again and hash(tx) == hash(again)
    assert tx != MAKERS[name](gradtx)(learning_rate=0.25)
    assert gradtx.from_config(json.loads(json.dumps(gradtx.to_config(tx)))) == tx
    if name != "an object":  # which has no name
        assert pickle.loads(pickle.dumps(tx)) == tx
        assert eval(repr(tx), {**vars(gradtx), "make": make}) == tx


def matrices(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim > 1, params)


def is_matrix(path: str, leaf: Any) -> bool:
    return path == "w" and leaf.ndim > 1


@pytest.mark.parametrize("mask", [matrices, is_matrix, "w", {"w": True, "b": False}])
@pytest.mark.parametrize("make", [masked_scale, decorated])
def test_a_mask_among_the_static_arguments(make: Any, mask: Any) -> None:
    tx = gradtx.inject_hyperparams(make, static_args=["mask"])(1.0, mask)
    state = jax.jit(tx.init)(PARAMS)
    assert list(state.hyperparams) == ["learning_rate"]
    assert first(tx, state) == [1.0, -0.25]
    scheduled = gradtx.inject_hyperparams(make, static_args=["mask"])(lambda count: 1.0, mask)
    assert first(scheduled) == [1.0, -0.25]
    params, _ = gradtx.jit_step(tx, PARAMS, tx.init(PARAMS), jax.tree.map(jnp.copy, PARAMS))
    assert params["w"][0, 0] == 0.75


@pytest.mark.parametrize("jit", [jax.jit, lambda f: f], ids=["jit", "eager"])
@pytest.mark.parametrize("number", [0.5, 1, np.float64(0.5), jnp.float32(0.5)])
def test_a_number_written_into_a_state_is_as_it_began(jit: Any, number: Any) -> None:
    tx = gradtx.inject_hyperparams(gradtx.sgd)(learning_rate=1e-3)
    state = tx.init(PARAMS)
    state.hyperparams["learning_rate"] = number
    updates, after = jit(tx.update)(PARAMS, state, PARAMS)
    rate = after.hyperparams["learning_rate"]
    assert float(updates["b"][0]) == -float(number) and float(rate) == float(number)
    assert isinstance(rate, jax.Array)
    if not (number == 1 and jit is jax.jit):  # the compiled function keeps the dtypes that it is handed
        assert (rate.dtype, rate.weak_type) == (jnp.float32, False)
    # A fraction in the place of an integer stays a fraction.
    tx = gradtx.inject_hyperparams(gradtx.sgd)(learning_rate=2)
    state = tx.init(PARAMS)
    state.hyperparams["learning_rate"] = 0.5
    updates, after = jit(tx.update)(PARAMS, state, PARAMS)
    assert updates["b"][0] == -0.5 == -after.hyperparams["learning_rate"]


def test_static_arguments_must_be_arguments() -> None:
    for factory in (gradtx.adam, gradtx.adam(0.1), make, partial(make, decay=0.5), BUILDER):
        with pytest.raises(ValueError, match="static_args: .* has no argument 'epss'; its arguments are: le"):
            gradtx.inject_hyperparams(factory, static_args="epss")

    def rest(learning_rate, **others):
        return gradtx.adam(learning_rate, **others)

    tx = gradtx.inject_hyperparams(rest, static_args="b1")(0.1, b1=0.5)
    assert list(tx.init(PARAMS).hyperparams) == ["learning_rate"]


def test_schedules_by_name_go_to_factories_too() -> None:
    tx = gradtx.inject_hyperparams(gradtx.sgd, schedules={"learning_rate": lambda count: 0.5})(1.0)
    assert first(tx) == [-0.5, -0.5]


FALLING = {library: library.linear_schedule(0.5, 0.25, 4) for library in (gradtx, optax)}


def test_a_schedule_that_is_a_default_is_injected_as_a_given_one() -> None:
    @gradtx.leafwise
    def descent(rate=FALLING[gradtx]):
        return lambda grad: -rate * grad

    def ours(learning_rate=FALLING[gradtx]):
        return gradtx.sgd(learning_rate)

    def theirs(learning_rate=FALLING[optax]):
        return optax.sgd(learning_rate)

    made = gradtx.inject_hyperparams(ours)(), optax.inject_hyperparams(theirs)(), descent()
    states = [tx.init(PARAMS) for tx in made]
    for count in range(3):
        steps = [tx.update(PARAMS, state) for tx, state in zip(made, states, strict=True)]
        states = [state for _, state in steps]
        for updates, _ in steps:
            np.testing.assert_allclose(updates["w"], -FALLING[gradtx](count), rtol=1e-6)
    for state in states[:2]:
        np.testing.assert_allclose(state.hyperparams["learning_rate"], 0.375, rtol=1e-6)
    kron = gradtx.inject_hyperparams(gradtx.kron)(0.5)
    assert kron.init(PARAMS).hyperparams["probability"] == 1

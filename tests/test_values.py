"""Values: what a recorded call keeps, compares and maps."""

import copy
import json
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradtx
from tests.laws import Compilations, assert_close, tree


def test_repr_is_the_call_in_full() -> None:
    assert repr(gradtx.adam(1e-3)) == (
        "adam(learning_rate=0.001, b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0, mu_dtype=None, nesterov=False)"
    )
    tx = gradtx.chain(gradtx.clip_by_global_norm(1), gradtx.scale(-gradtx.abs_sq(jnp.float32(0.5))))
    assert (
        repr(tx)
        == "chain(clip_by_global_norm(max_norm=1), scale(step_size=jax.numpy.array(-0.25, dtype='float32')))"
    )
    assert repr(gradtx.step_lr(0.1, step_size=30)) == "step_lr(init_value=0.1, step_size=30, gamma=0.1)"
    assert repr(gradtx.GradientTransformation(tree, tree)) == "GradientTransformation(init=tree, update=tree)"


@pytest.mark.parametrize("number", [np.float32(0.25), np.float64(0.25)])
def test_numpy_numbers_become_python_numbers(number: Any) -> None:
    tx = gradtx.sgd(number)
    assert tx == gradtx.sgd(0.25) and hash(tx) == hash(gradtx.sgd(0.25))
    assert type(tx.arguments["learning_rate"]) is float


@pytest.mark.parametrize("array", [jnp.asarray(0.25), np.asarray(0.25, np.float32), jnp.bfloat16(0.25)])
def test_an_array_stays_an_array(array: Any) -> None:
    """Who gives an array means a number that may change; it is compared by dtype and value."""
    tx, again = gradtx.sgd(array), gradtx.sgd(copy.copy(array))
    assert jax.tree.leaves(tx) == [array] and type(jax.tree.leaves(tx)[0]) is type(array)
    assert tx == again and hash(tx) == hash(again) and tx != gradtx.sgd(0.25) != gradtx.sgd(array + 1)
    assert eval(repr(tx), {**vars(gradtx), "jax": jax}) == gradtx.sgd(jnp.asarray(array))
    assert gradtx.from_config(gradtx.to_config(tx)) == gradtx.sgd(jnp.asarray(array))


@gradtx.leafwise
def keeps(x):
    """A rule that only keeps an argument."""
    return lambda grad: grad


ARGUMENTS = {
    "half precision": jnp.bfloat16(0.1),
    "bools": np.array([True, False]),
    "complex": 1 - 2j,
    "complex zeros": complex(-0.0, -0.0),
    "complex array": jnp.array([complex(-0.0, 1.0), complex(np.nan, np.inf)]),
    "not finite": [np.inf, -np.inf, np.nan],
    "wide floats": np.array([0.1, np.inf]),  # which JAX would cut
    "wide integers": np.array(2**40),
    "empty": np.zeros((0, 2), np.int32),
    "key": jax.random.key(3),
    "keys of another kind": jax.random.split(jax.random.key(3, impl="rbg")),
    "odd keys": {1: "a", (2, None): {"call": 1, "tuple": 2}, "items": ({"array": 1.0},)},
}


@pytest.mark.parametrize("x", ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_of_any_kind_round_trip(x: Any) -> None:
    tx = keeps(x)
    assert eval(repr(tx), {"keeps": keeps, "jax": jax, "numpy": np}) == tx
    assert gradtx.from_config(json.loads(json.dumps(gradtx.to_config(tx)))) == tx
    assert tx.replace(x=x) == tx == copy.deepcopy(tx)


@pytest.mark.parametrize(
    ("a", "b"), [(2, 2.0), (0.0, -0.0), (jnp.zeros([]), -jnp.zeros([])), (1.0, jnp.asarray(1.0))]
)
def test_numbers_that_compute_otherwise_are_told_apart(a: Any, b: Any) -> None:
    assert gradtx.scale(a) != gradtx.scale(b) and gradtx.scale(a) == gradtx.scale(a)


def test_nan_is_itself() -> None:
    nan, again = (gradtx.add_noise(0.1, 0.5, np.full(2, np.nan)) for _ in range(2))
    assert nan == again and hash(nan) == hash(again)


def test_a_float_stays_a_float_until_it_is_traced() -> None:
    seen = []

    @gradtx.leafwise()
    def peek(rate: gradtx.Number):
        def update(grad):
            seen.append(rate)
            return rate * grad

        return update

    params = {"w": jnp.ones(2)}
    tx = peek(0.1)
    jax.jit(lambda g: tx.update(g, tx.init(g)))(params)
    assert seen.pop() == 0.1 and not seen
    jax.jit(lambda tx, g: tx.update(g, tx.init(g)))(tx, params)
    assert isinstance(seen.pop(), jax.core.Tracer)


def test_values_travel_through_jax() -> None:
    tx = gradtx.adamw(gradtx.linear_schedule(0.1, 0.0, 10), mask={".*": True})
    back = jax.jit(lambda tx: tx)(tx)
    assert back != tx and back.replace() != tx  # as float32, 0.1 is another number
    assert jax.tree.structure(back) == jax.tree.structure(tx)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(tx)[0]]
    assert paths[0] == ".learning_rate.init_value" and ".b1" in paths


def test_a_sweep_is_a_vmap_over_the_value() -> None:
    params, grads = tree(0), tree(1)
    rates = jnp.asarray([0.1, 0.2, 0.4])
    txs = jax.vmap(gradtx.sgd)(rates)
    updates, _ = jax.vmap(lambda tx: tx.update(grads, tx.init(params)))(txs)
    for i, rate in enumerate(rates):
        assert_close(
            jax.tree.map(lambda x, i=i: x[i], updates), jax.tree.map(lambda g, r=rate: -r * g, grads)
        )


def test_hypergradients_are_another_value() -> None:
    params = {"w": jnp.asarray([1.0, -2.0])}

    def loss_after(tx: Any) -> Any:
        updates, _ = tx.update(params, tx.init(params), params)
        return 0.5 * jnp.sum(gradtx.apply_updates(params, updates)["w"] ** 2)

    gradient = jax.grad(loss_after)(gradtx.sgd(0.25))
    # loss = (1 - lr)²·5/2, so its derivative is -(1 - lr)·5
    assert type(gradient) is type(gradtx.sgd(0.25))
    assert gradient.arguments["learning_rate"] == pytest.approx(-0.75 * 5)


def test_changing_numbers_of_a_passed_in_value_compiles_nothing() -> None:
    params, grads = tree(0), tree(1)
    tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(1e-3))
    params, state = gradtx.jit_step(tx, grads, tx.init(params), params)
    with Compilations() as compilations:
        for other in (
            gradtx.chain(gradtx.clip_by_global_norm(2.0), gradtx.adamw(1e-4, b1=0.8, b2=0.95, eps=1e-6)),
            gradtx.chain(gradtx.clip_by_global_norm(0.5), gradtx.adamw(3e-3, weight_decay=0.3)),
        ):
            params, state = gradtx.jit_step(other, grads, state, params)
    assert compilations.count == 0


def test_choices_are_structure() -> None:
    plain, nesterov = gradtx.adam(1e-3), gradtx.adam(1e-3, nesterov=True)
    assert jax.tree.structure(plain) != jax.tree.structure(nesterov)
    assert jax.tree.leaves(gradtx.sgd(0.1, nesterov=True)) == [0.1]
    assert jax.tree.leaves(gradtx.MultiSteps(gradtx.sgd(0.1), 4)) == [0.1]


def test_an_unhashable_argument_is_compared_by_identity() -> None:
    class Odd:
        __hash__ = None  # type: ignore[assignment]  # what makes it unhashable

    @gradtx.leafwise()
    def with_choice(choice: Any):
        return lambda grad: grad

    odd = Odd()
    assert with_choice(odd) == with_choice(odd) != with_choice(Odd())
    hash(with_choice(odd))


def test_first_match_order_survives_jax() -> None:
    overrides = {"z.*": {"learning_rate": 1.0}, "a.*": {"learning_rate": 2.0}, ".*": None}
    tx = gradtx.groups(gradtx.sgd(0.1), overrides)
    back = jax.jit(lambda tx: tx)(tx)
    assert list(back.arguments["overrides"]) == ["z.*", "a.*", ".*"]


def test_copies_are_equal() -> None:
    tx = gradtx.chain(
        gradtx.clip(1.0), gradtx.adamw(gradtx.step_lr(0.1, 30), mask={"a": True, "b": [True, False]})
    )
    for copied in (copy.copy(tx), copy.deepcopy(tx), pickle.loads(pickle.dumps(tx)), tx.replace()):
        assert copied == tx and hash(copied) == hash(tx)


def test_init_and_update_unpack() -> None:
    params = tree(0)
    init, update = gradtx.sgd(0.5)
    assert_close(update(params, init(params))[0], jax.tree.map(lambda x: -0.5 * x, params))


def test_a_transformation_is_used_as_a_named_tuple() -> None:
    params, tx = {"w": jnp.ones(2)}, gradtx.sgd(0.5)
    state = tx[0](params)
    assert tx[1](params, state)[0]["w"][0] == -0.5 == tx[-1](params, state)[0]["w"][0]
    assert len(tx) == 2 and tx._fields == ("init", "update") and tx[:] == (tx.init, tx.update) and tx
    with pytest.raises(IndexError):
        tx[2]
    doubled = tx._replace(update=lambda *args: (jax.tree.map(lambda g: 2 * g, args[0]), args[1]))
    assert doubled.update(params, doubled.init(params))[0]["w"][0] == 2
    assert isinstance(doubled, gradtx.GradientTransformation) and doubled.init(params) == state
    with pytest.raises(ValueError, match=r"sgd: _replace takes init and update, got \['initial'\]"):
        tx._replace(initial=None)
    # And is no tuple to those who ask: a value is one node of a tree, and a chain takes it as it is.
    assert gradtx.chain(tx) == gradtx.chain(tx.replace()) and jax.tree.leaves((tx, tx)) == [0.5, 0.5]
    beside = optax.chain(tx, optax.scale(2.0))
    assert beside.update(params, beside.init(params))[0]["w"][0] == -1


NUMBERS = st.floats(0.0, 0.999) | st.just(0)
MASKS = st.sampled_from([None, True, r".*bias", {r".*bias": False, ".*": True}])
SCHEDULES = st.builds(gradtx.linear_schedule, NUMBERS, NUMBERS, st.integers(1, 100)) | NUMBERS
LEAVES = (
    st.builds(gradtx.scale, SCHEDULES)
    | st.builds(
        gradtx.adamw, SCHEDULES, NUMBERS, NUMBERS, weight_decay=SCHEDULES, mask=MASKS, nesterov=st.booleans()
    )
    | st.builds(gradtx.sgd, SCHEDULES, momentum=st.none() | NUMBERS, nesterov=st.booleans())
    | st.builds(gradtx.adaptive_grad_clip, NUMBERS, axis=st.sampled_from([None, 0, (0, 1)]))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda members: gradtx.chain(*members))
        | st.builds(gradtx.apply_if_finite, inner, st.integers(0, 5))
        | st.builds(gradtx.MultiSteps, inner, st.integers(1, 4))
        | st.builds(gradtx.masked, inner, MASKS.filter(lambda mask: mask is not None))
    ),
    max_leaves=5,
)


@settings(deadline=None, max_examples=100)
@given(VALUES)
def test_any_value_round_trips(tx) -> None:
    assert eval(repr(tx), dict(vars(gradtx))) == tx
    assert gradtx.from_config(gradtx.to_config(tx)) == tx
    assert pickle.loads(pickle.dumps(tx)) == tx
    leaves, treedef = jax.tree.flatten(tx)
    assert treedef.unflatten(leaves) == tx and all(isinstance(leaf, int | float) for leaf in leaves)


SHAPES = st.sampled_from([(), (1,), (3,), (2, 3), (0,)])
TREES = st.recursive(
    SHAPES.map(lambda shape: np.full(shape, 0.5, np.float32)) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(TREES)
def test_any_tree_of_params_works(params) -> None:
    tx = gradtx.chain(gradtx.clip_by_global_norm(0.5), gradtx.adamw(1e-2))
    state = tx.init(params)
    updates, after = tx.update(params, state, params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.map(np.shape, updates) == jax.tree.map(np.shape, params)
    assert len(gradtx.state_dict(tx, after)) == len(jax.tree.leaves(after))


def test_a_schedule_takes_schedules() -> None:
    outer = gradtx.linear_schedule(gradtx.step_lr(1.0, 2, 0.5), 0.0, 8)
    assert [float(outer(count)) for count in range(5)] == [1.0, 0.875, 0.375, 0.3125, 0.125]


def test_a_default_may_be_a_schedule() -> None:
    @gradtx.leafwise
    def scaled(factor: gradtx.Number = gradtx.linear_schedule(1.0, 3.0, 2)):  # noqa: B008 - a value
        return lambda grad: factor * grad

    for tx in (scaled(), scaled(gradtx.linear_schedule(1.0, 3.0, 2))):
        state, found = tx.init(1.0), []
        for _ in range(3):
            update, state = tx.update(jnp.ones([]), state)
            found.append(float(update))
        assert found == [1, 2, 3] and tx == scaled()


def test_numpy_arguments_are_recorded_as_python_ones() -> None:
    schedule = gradtx.piecewise_constant_schedule(np.float64(1.0), {np.int64(2): np.float32(0.5)})
    assert repr(schedule) == "piecewise_constant_schedule(init_value=1.0, boundaries_and_scales={2: 0.5})"

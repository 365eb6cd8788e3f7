"""Which parameters: labels that see the params, whatever says them; and leaves that nobody optimises."""

import functools
from typing import Any

import equinox as eqx
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx.arrays.errors import NotGiven
from tests.laws import assert_close, assert_same_layout, run, tree

PARAMS = {"kernel": jnp.ones((2, 3), jnp.bfloat16), "rest": {"bias": jnp.ones(3), "none": None}}
GRADS = {"kernel": jnp.ones((2, 3)), "rest": {"bias": jnp.ones(3), "none": None}}


def halves(params: Any) -> Any:
    return jax.tree.map(lambda x: x.dtype == jnp.bfloat16, params)


def matrices(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim > 1, params)


def doubling(mask: Any, labels: Any) -> list[gradtx.GradientTransformation]:
    """Twice the updates of what a mask says, and the labels "a", by all that takes one."""
    return [
        gradtx.masked(gradtx.scale(2.0), mask),
        gradtx.partition({"a": gradtx.scale(2.0), "b": gradtx.identity()}, labels),
        gradtx.groups(gradtx.scale(1.0), {"a": {"step_size": 2.0}}, labels),
    ]


def named(mask: Any) -> Any:
    """Labels that say what a mask says."""
    return lambda params: jax.tree.map(lambda one: "a" if one else "b", mask(params))


def doubled(updates: Any) -> list[bool]:
    return [bool(jnp.all(x == 2)) for x in jax.tree.leaves(updates)]


BY_DTYPE = [
    (halves, lambda path, leaf: "a" if leaf.dtype == jnp.bfloat16 else "b"),
    (lambda path, leaf: leaf.dtype == jnp.bfloat16, named(halves)),
]


@pytest.mark.parametrize(("mask", "labels"), BY_DTYPE)
def test_labels_are_those_of_the_params_in_every_update(mask, labels) -> None:
    for tx in doubling(mask, labels):
        state = tx.init(PARAMS)
        for update in (tx.update, jax.jit(tx.update)):
            updates, _ = update(GRADS, state, PARAMS)
            assert doubled(updates) == [True, False]
        with pytest.raises(
            NotGiven, match="needs params: call update.grads, state, params.; .* looks at more"
        ):
            tx.update(GRADS, state)


def test_labels_by_shape_need_no_params() -> None:
    """What updates and params share, they are asked for where there are no params, as in Optax."""
    by_shape = [
        matrices,
        lambda path, leaf: leaf is not None and np.ndim(leaf) > 1 and path == "kernel",
        lambda params: jax.tree.map(lambda x: isinstance(x, jax.Array) and x.size == 6, params),
    ]
    for mask in by_shape[::2]:
        for tx in [*doubling(mask, named(mask)), gradtx.masked(gradtx.scale(2.0), by_shape[1])]:
            for update in (tx.update, jax.jit(tx.update)):
                assert doubled(update(GRADS, tx.init(PARAMS))[0]) == [True, False]


def test_labels_where_a_gradient_is_none() -> None:
    """The param decides whether it is frozen, not the gradient."""
    frozen = lambda path, leaf: "b" if leaf is None or leaf.ndim == 1 else "a"  # noqa: E731
    tx = gradtx.groups(gradtx.trace(0.9), {"a": {"decay": 0.5}, "b": None}, frozen)
    state = tx.init(PARAMS)
    updates, after = tx.update({"kernel": None, "rest": {"bias": jnp.ones(3), "none": None}}, state, PARAMS)
    assert updates["kernel"] is None and doubled(updates) == [False]
    assert_same_layout(state, after)


def test_labels_by_value_are_an_error_while_tracing() -> None:
    by_value = lambda params: jax.tree.map(lambda x: bool(jnp.all(x > 0)), params)  # noqa: E731
    traced = lambda params: jax.tree.map(lambda x: jnp.all(x > 0), params)  # noqa: E731
    for mask in (by_value, traced):
        for tx in doubling(mask, named(mask) if mask is by_value else mask):
            with pytest.raises(
                TypeError, match=f"{tx.name}: .* looks at the values of the params, which are not"
            ):
                jax.jit(tx.init)(PARAMS)
    tx = gradtx.masked(gradtx.scale(2.0), traced)
    assert doubled(tx.update(GRADS, tx.init(PARAMS), PARAMS)[0]) == [True, True]


def test_axes_of_muon_and_galore_are_those_of_the_params() -> None:
    params, grads = {"w": jnp.eye(3, 2)}, {"w": jnp.eye(3, 2, dtype=jnp.bfloat16)}
    axes = lambda path, leaf: gradtx.contrib.MuonDimensionNumbers() if leaf.dtype == jnp.float32 else None  # noqa: E731
    for tx in (
        gradtx.contrib.scale_by_muon(ns_steps=2, weight_dimension_numbers=axes),
        gradtx.contrib.scale_by_shape(axes),
        gradtx.contrib.scale_by_galore(1, weight_dimension_numbers=axes),
        gradtx.contrib.muon(0.1, ns_steps=2, muon_weight_dimension_numbers=axes),
    ):
        state = tx.init(params)
        _, after = tx.update(grads, state, params)
        assert_same_layout(state, after)
        with pytest.raises(NotGiven, match="needs params: call update"):
            tx.update(grads, state)


# --- who says it --------------------------------------------------------------------------------------


class Chooser:
    """Callables of all kinds; an instance is one, too."""

    def __call__(self, params: Any) -> Any:
        return matrices(params)

    def by_leaf(self, path: str, leaf: Any, least: int = 2) -> bool:
        return leaf is not None and leaf.ndim >= least

    @classmethod
    def of_params(cls, params: Any, *rest: Any, least: int = 2, **more: Any) -> Any:
        return matrices(params)

    @staticmethod
    def of_path(path: str, leaf: Any, /) -> bool:
        return path == "kernel"


def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


CALLABLES = {
    "an object": Chooser(),
    "a method": Chooser().by_leaf,
    "a class method": Chooser.of_params,
    "a static method": Chooser.of_path,
    "wrapped": wrapped(matrices),
    "wrapped, of a path": wrapped(Chooser.of_path),
    "compiled": jax.jit(matrices),
    "a partial of tree.map": functools.partial(jax.tree.map, lambda x: x.ndim > 1),
    "a partial of a method": functools.partial(Chooser().by_leaf, least=2),
    "all arguments": lambda *args: matrices(*args),
    "a partial": functools.partial(lambda least, path, leaf, *rest: path == "kernel", 2),
}


@pytest.mark.parametrize("mask", CALLABLES.values(), ids=CALLABLES.keys())
def test_whatever_can_be_called_says_which_params(mask) -> None:
    two, still = gradtx.scale(2.0), gradtx.scale(0.0)
    for tx, outside in (
        (gradtx.masked(two, mask), 1.0),
        (gradtx.partition({True: two, False: gradtx.identity()}, mask), 1.0),
        (gradtx.groups(gradtx.scale(1.0), {True: {"step_size": 2.0}}, mask), 1.0),
        (gradtx.chain(still, gradtx.add_decayed_weights(2.0, mask)), 0.0),
        (gradtx.chain(gradtx.freeze(mask), gradtx.add_decayed_weights(2.0, mask)), 1.0),
        (gradtx.chain(gradtx.selective_transform(two, freeze_mask=mask), gradtx.masked(two, mask)), 2.0),
    ):
        updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
        inside = 0.0 if outside == 2.0 else 2.0
        assert [float(x.ravel()[0]) for x in jax.tree.leaves(updates)] == [inside, outside]


def test_a_function_stands_for_a_pattern() -> None:
    matrix, everything = lambda path, leaf: leaf.ndim > 1, lambda path, leaf: True
    tx = gradtx.groups(gradtx.scale(1.0), {matrix: {"step_size": 2.0}, "rest/bias": None})
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    assert doubled(updates) == [True, False] and float(updates["rest"]["bias"][0]) == 0.0
    tx = gradtx.partition({"a": gradtx.scale(2.0), "b": gradtx.identity()}, {matrix: "a", everything: "b"})
    assert doubled(tx.update(GRADS, tx.init(PARAMS), PARAMS)[0]) == [True, False]
    with pytest.raises(TypeError, match="a function in the place of a pattern must take .path, leaf."):
        gradtx.groups(gradtx.scale(1.0), {matrices: None}).init(PARAMS)


def test_classes_of_torch_take_functions_and_freeze() -> None:
    params = {"stem": jnp.ones((2, 2)), "head": jnp.ones(2), "scale": jnp.ones(2)}
    options = {(lambda path, leaf: leaf.ndim > 1): {"lr": 0.25}, "head": None}
    optimizer = gradtx.torch.optim.SGD(params, lr=0.5, weight_decay=0.5, groups=options)
    new = optimizer.step(params)
    assert new["stem"][0, 0] == 1 - 0.25 * 1.5
    assert new["head"][0] == 1.0 and new["scale"][0] == 1 - 0.5 * 1.5
    loss = optimizer.step(lambda p: sum(jnp.sum(x) for x in jax.tree.leaves(p)))
    assert jnp.isfinite(loss) and optimizer.params["head"][0] == 1.0 and optimizer.params["scale"][0] < 0.25


# --- groups: numbers ----------------------------------------------------------------------------------

OF_INIT = [
    (lambda **number: gradtx.rprop(**number), dict(learning_rate=0.01), dict(learning_rate=0.5)),
    (
        lambda **number: gradtx.adagrad(0.1, **number),
        dict(initial_accumulator_value=0.1),
        dict(initial_accumulator_value=4.0),
    ),
    (lambda **number: gradtx.rmsprop(0.1, **number), dict(initial_scale=0.0), dict(initial_scale=4.0)),
    (lambda **number: gradtx.torch.optim.rprop(**number), dict(lr=0.01), dict(lr=0.5)),
    (
        lambda **number: gradtx.torch.optim.adagrad(lr=0.1, **number),
        dict(initial_accumulator_value=0.1),
        dict(initial_accumulator_value=4.0),
    ),
]


@pytest.mark.parametrize(("make", "own", "other"), OF_INIT)
def test_numbers_that_only_init_reads_differ_by_group(x64, make, own, other) -> None:
    params, grads = tree(0), [tree(1), tree(2)]
    tx = gradtx.groups(make(**own), {".*/bias": other})
    both, alone, others = (run(one, params, grads)[0] for one in (tx, make(**own), make(**other)))
    assert_close(both["dense"]["bias"], others["dense"]["bias"])
    assert_close([both["dense"]["kernel"], both["scale"]], [alone["dense"]["kernel"], alone["scale"]])
    assert not np.allclose(both["dense"]["bias"], alone["dense"]["bias"])
    assert_same_layout(tx.init(params), make(**own).init(params))
    assert_same_layout(jax.jit(tx.init)(params), tx.init(params))


@pytest.mark.parametrize("scheduled", ["the optimizer", "the group", "two groups"])
def test_numbers_beside_schedules(x64, scheduled) -> None:
    """One state, as if all had a schedule; each number is what it is alone."""
    schedule, params, grads = gradtx.linear_schedule(0.5, 0.0, 4), tree(0), [tree(1), tree(2), tree(3)]
    base = schedule if scheduled == "the optimizer" else 0.3
    overrides = {".*/bias": 0.25 if scheduled == "the optimizer" else schedule}
    overrides |= {"scale": gradtx.constant_schedule(0.125)} if scheduled == "two groups" else {}
    tx = gradtx.groups(gradtx.adamw(base), {key: {"learning_rate": x} for key, x in overrides.items()})
    both, state = run(tx, params, grads)
    alone = run(gradtx.adamw(base), params, grads)[0]
    other = run(gradtx.adamw(overrides[".*/bias"]), params, grads)[0]
    assert_close(both["dense"]["bias"], other["dense"]["bias"])
    assert_close(both["dense"]["kernel"], alone["dense"]["kernel"])
    assert_same_layout(state, gradtx.adamw(schedule).init(params))
    numbers = gradtx.hyperparams(tx, state)
    expected = {"learning_rate": base, **{f"{key}/learning_rate": x for key, x in overrides.items()}}
    for name, x in expected.items():
        assert np.isclose(numbers.next[name], x(3) if callable(x) else x)
        assert np.isclose(numbers.last[name], x(2) if callable(x) else x)
    flat = gradtx.state_dict(tx, state)
    assert flat.keys() == gradtx.state_dict(gradtx.adamw(schedule), state).keys()
    assert_close(gradtx.load_state_dict(tx, tx.init(params), flat), state)
    assert eval(repr(tx), vars(gradtx)) == tx and gradtx.from_config(gradtx.to_config(tx)) == tx


def test_hyperparams_under_labels() -> None:
    inner = gradtx.groups(gradtx.adamw(0.1), {".*bias": {"weight_decay": 0.5}, "scale": None})
    tx = gradtx.partition({0: gradtx.sgd(0.2), 1: inner}, {"kernel": 0, ".*": 1})
    params = {"kernel": jnp.ones(2), "bias": jnp.ones(2), "scale": jnp.ones(2)}
    tx = gradtx.chain(
        gradtx.clip(1.0),
        tx,
        gradtx.masked(gradtx.groups(gradtx.scale(3.0), {"kernel": {"step_size": 4.0}}), True),
    )
    found = gradtx.hyperparams(tx, tx.init(params)).next
    assert found == {
        "max_delta": 1.0,
        "step_size": 3.0,
        "kernel/step_size": 4.0,
        "0/learning_rate": 0.2,
        **{f"1/{name}": x for name, x in dict(b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0).items()},
        "1/weight_decay": 1e-4,
        "1/learning_rate": 0.1,
        "1/.*bias/weight_decay": 0.5,
    }


# --- prefixes and states ------------------------------------------------------------------------------

NESTED = {"a": jnp.ones(2), "b": {"c": jnp.ones(1), "d": (jnp.ones(3), jnp.ones(2))}}
PREFIXES: dict[str, Any] = {
    "one for all": True,
    "none": False,
    "of a subtree": {"a": True, "b": False},
    "of a tuple": {"a": False, "b": {"c": True, "d": False}},
    "a function": lambda params: {"a": False, "b": {"c": False, "d": (True, False)}},
}


def test_where_there_is_no_param_the_state_is_that_of_optax() -> None:
    params = {"w": jnp.ones((2, 2)), "none": None, "b": [jnp.ones(2), None]}
    txs = [
        x.chain(
            x.masked(x.trace(0.9), matrices),
            x.partition({"a": x.adam(0.1), "b": x.trace(0.9)}, named(matrices)),
        )
        for x in (gradtx, optax)
    ]
    states = [tx.init(params) for tx in txs]
    for _ in range(2):
        assert str(jax.tree.structure(states[0])) == str(jax.tree.structure(states[1]))
        states = [tx.update(params, state, params)[1] for tx, state in zip(txs, states, strict=True)]


@pytest.mark.parametrize("mask", PREFIXES.values(), ids=PREFIXES.keys())
def test_prefixes_give_the_states_of_optax(mask) -> None:
    def make(x: Any) -> Any:
        labels = named(mask) if callable(mask) else jax.tree.map(lambda one: "a" if one else "b", mask)
        return x.chain(
            x.masked(x.trace(0.9), mask),
            x.partition({"a": x.adam(0.1), "b": x.sgd(0.1, momentum=0.9)}, labels),
        )

    ours, theirs = make(gradtx), make(optax)
    state, other = ours.init(NESTED), theirs.init(NESTED)
    for _ in range(2):
        assert (
            flax.serialization.to_state_dict(state).keys() == flax.serialization.to_state_dict(other).keys()
        )
        assert str(jax.tree.structure(state)) == str(jax.tree.structure(other))
        assert_close(
            flax.serialization.from_bytes(state, flax.serialization.to_bytes(other)), other, rtol=1e-6
        )
        assert_close(
            flax.serialization.from_bytes(other, flax.serialization.to_bytes(state)), state, rtol=1e-6
        )
        updates, state = ours.update(NESTED, state, NESTED)
        others, other = theirs.update(NESTED, other, NESTED)
        assert_close(updates, others)


def test_masks_within_a_prefix_may_say_more() -> None:
    """Where a prefix masks a subtree out, a tree of labels for all params is one for the rest."""
    inner = gradtx.adamw(0.1, mask={"a": True, "b": {"c": True, "d": (True, False)}})
    tx = gradtx.partition({"a": inner, "b": inner}, {"a": "a", "b": "b"})
    updates, _ = tx.update(NESTED, tx.init(NESTED), NESTED)
    assert_close(updates, inner.update(NESTED, inner.init(NESTED), NESTED)[0])


EMPTY = {"None": None, "a tuple": (), "a dict": {}, "a list": []}


@pytest.mark.parametrize("state", EMPTY.values(), ids=EMPTY.keys())
def test_what_remembers_nothing_takes_any_empty_state(state) -> None:
    grads = {"w": jnp.array([3.0, 4.0])}
    for tx in (
        gradtx.clip_by_global_norm(1.0),
        gradtx.clip(1.0),
        gradtx.centralize(),
        gradtx.add_decayed_weights(0.1),
    ):
        expected, _ = tx.update(grads, tx.init(grads), grads)
        for update in (tx.update, jax.jit(tx.update)):
            updates, after = update(grads, state, grads)
            assert_close(updates, expected)
            assert after == state and type(after) is type(state)
    parts = gradtx.chain(gradtx.clip(1.0), gradtx.scale(2.0))
    updates, after = parts.update(grads, (state, state))
    assert doubled(updates) == [True] and after == (state, state)
    for tx in (gradtx.trace(0.9), gradtx.scale(gradtx.constant_schedule(0.1)), parts):
        with pytest.raises(ValueError, match="this is not its state"):
            tx.update(grads, state)


# --- what is left out ---------------------------------------------------------------------------------


OTHERS = {"ids": jnp.arange(3, dtype=jnp.int8), "key": jax.random.key(0), "is": jnp.array(True), "none": None}
MIXED = {"w": jnp.array([3.0, 4.0]), "others": OTHERS}
BY_DTYPE_ALONE = lambda path, leaf: "a" if jnp.issubdtype(leaf.dtype, jnp.inexact) else "b"  # noqa: E731


def gradients(params: Any) -> Any:
    """As JAX returns them: those of integers and keys have no numbers."""
    return jax.grad(lambda p: jnp.sum(p["w"] ** 2) / 2, allow_int=True)(params)


LEAVING = {
    "nothing": lambda x: gradtx.identity(),
    "a norm": lambda x: gradtx.clip_by_global_norm(1e6),
    "a mask": lambda x: gradtx.masked(x, "w"),
    "a partition": lambda x: gradtx.partition({"a": x, "b": gradtx.set_to_zero()}, BY_DTYPE_ALONE),
    "groups": lambda x: gradtx.groups(x, {"others/.*": None}),
    "a frozen rest": lambda x: gradtx.selective_transform(x, freeze_mask={"w": False, "others": True}),
    "steps": lambda x: gradtx.MultiSteps(gradtx.masked(x, "w"), 1),
    "a condition": lambda x: gradtx.conditionally_transform(gradtx.masked(x, "w"), lambda step: True),
    "a guard": lambda x: gradtx.apply_if_finite(gradtx.groups(x, {"others/.*": None}), 3),
    "a look ahead": lambda x: gradtx.lookahead(gradtx.masked(x, "w"), 1, 1.0),
    "another library": lambda x: gradtx.chain(optax.masked(optax.sgd(0.5), {"w": True, "others": False})),
}


@pytest.mark.parametrize("wrap", LEAVING.values(), ids=LEAVING.keys())
def test_leaves_without_numbers_are_left_alone(wrap) -> None:
    tx = wrap(gradtx.sgd(0.5))
    plain = MIXED | {"others": jax.tree.map(lambda x: x, OTHERS)}
    for grads in (gradients(MIXED), plain):
        for update in (tx.update, jax.jit(tx.update)):
            updates, state = update(grads, tx.init(MIXED), MIXED)
            assert_same_layout(state, tx.init(MIXED))
            assert float(updates["w"][0]) in (3.0, -1.5)
            for name, x in OTHERS.items():
                assert x is None or updates["others"][name].dtype == grads["others"][name].dtype
    new = gradtx.apply_updates(MIXED, tx.update(gradients(MIXED), tx.init(MIXED), MIXED)[0])
    assert all(new["others"][name] is x for name, x in OTHERS.items())
    own = jax.tree.map(lambda x: jnp.array(x, copy=True), MIXED)
    stepped, _ = gradtx.jit_step(tx, gradients(own), tx.init(own), own)
    assert_close(stepped, new)


def test_what_would_be_optimised_is_refused_by_name() -> None:
    for tx, name in (
        (gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(0.1)), "scale_by_adam"),
        (gradtx.masked(gradtx.trace(0.9), ".*"), "trace"),
        (gradtx.contrib.prodigy(0.1), "contrib.prodigy"),
        (gradtx.scale_by_lbfgs(), "scale_by_lbfgs"),
    ):
        with pytest.raises(TypeError, match=rf"^{name}: \['others'\]\['ids'\] is int8; only floating-point"):
            tx.init(MIXED)
    tx = gradtx.scale(2.0)
    for grads, params, kind in (
        ({"a": jnp.arange(2)}, None, "int32"),
        ({"a": jnp.arange(2)}, {"a": jnp.arange(2)}, "int32"),
        ({"a": jnp.ones(2)}, {"a": jnp.arange(2)}, "int32"),
        ({"a": jax.random.key(0)}, None, "key<fry>"),
        ({"a": "text"}, None, "a str, 'text'"),
    ):
        with pytest.raises(TypeError, match=rf"^scale: \['a'\] is {kind}; only"):
            tx.update(grads, gradtx.EmptyState(), params)
    with pytest.raises(TypeError, match=r"^scale_by_adam: \['a'\]\[0\] is a str, 'text'; only"):
        gradtx.adam(0.1).init({"a": ["text"]})
    with pytest.raises(TypeError, match=r"^apply_updates: \['a'\] is a str, 'text'; only"):
        gradtx.apply_updates({"a": "text"}, {"a": 1.0})


def test_whole_numbers_for_params_that_are_not() -> None:
    """They are numbers, as in Optax; the updates are in the dtype of the params."""
    for make in (lambda x: x.scale(0.5), lambda x: x.adam(0.1), lambda x: x.clip_by_global_norm(1.0)):
        for dtype in (jnp.float32, jnp.bfloat16):
            params, grads = {"w": jnp.ones(3, dtype)}, {"w": jnp.array([0, -3, 4])}
            ours, theirs = make(gradtx), make(optax)
            updates, _ = ours.update(grads, ours.init(params), params)
            expected, _ = theirs.update({"w": grads["w"].astype(jnp.float32)}, theirs.init(params), params)
            assert updates["w"].dtype == dtype
            assert_close(updates["w"], expected["w"], rtol=2e-2 if dtype == jnp.bfloat16 else 1e-5)


def test_apply_updates_adds_what_are_numbers() -> None:
    params = {"n": jnp.arange(2), "is": jnp.array(False), "x": jnp.ones(2)}
    updates = {"n": jnp.ones(2, int), "is": jnp.array(True), "x": jnp.ones(2, int)}
    assert_close(gradtx.apply_updates(params, updates), optax.apply_updates(params, updates))


def test_conditions_are_given_the_arguments_that_they_name() -> None:
    grads = {"w": jnp.ones(2)}
    for condition in (
        lambda step, value: value < 1,
        lambda step, *, value=2.0: value < 1,
        lambda step, least=1, **extra: extra["value"] < least,
        functools.partial(lambda least, step, value: value < least, 1),
        jax.jit(lambda step, value: value < 1),
    ):
        tx = gradtx.conditionally_transform(gradtx.scale(2.0), condition, forward_extra_args=True)
        for value in (0.5, 1.5):
            updates, _ = tx.update(grads, tx.init(grads), value=value, other=3)
            assert doubled(updates) == [value < 1]


class Counted(eqx.Module):
    """A layer that counts its calls and holds a key."""

    layer: eqx.nn.Linear
    calls: jax.Array
    key: jax.Array


def test_modules_with_integers_and_keys() -> None:
    model = Counted(eqx.nn.Linear(2, 2, key=jax.random.key(0)), jnp.arange(2), jax.random.key(1))
    params = eqx.filter(model, eqx.is_array)
    grads = eqx.filter_grad(lambda model: jnp.sum(model.layer(jnp.ones(2)) ** 2))(model)
    norm = gradtx.clip_by_global_norm(1.0)
    for tx in (
        gradtx.chain(norm, gradtx.groups(gradtx.adam(0.1), {"calls|key": None})),
        gradtx.chain(norm, gradtx.masked(gradtx.adam(0.1), lambda path, leaf: path.startswith("layer/"))),
    ):
        updates, _ = tx.update(grads, tx.init(params), params)
        new = eqx.apply_updates(model, updates)
        assert new.calls is model.calls and new.key is model.key
        assert np.allclose(jnp.abs(new.layer.weight - model.layer.weight), 0.1, rtol=1e-3)

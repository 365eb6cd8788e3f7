"""Names of entries of states and of params: each is another, and what is loaded is what was saved."""

import dataclasses
import io
import random
import re
from collections import OrderedDict
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import gradtx
from gradtx.arrays.select import leaf_paths


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Head:
    """With a field that is called as that of Flax's boxes."""

    value: Any
    other: Any


class Pair(NamedTuple):
    """The same, as a named tuple."""

    value: Any
    policy: Any


KEYS = st.text("a/01'\"[].~\\_\n", max_size=4) | st.sampled_from(["value", "a/b", "['a']", "count", "0"])
ODD_KEYS = KEYS | st.integers(-1, 2) | st.booleans() | st.none() | st.sampled_from([0.5, (0, "a"), b"0"])
WILD = st.recursive(
    st.just(None) | st.just(np.zeros((), np.float32)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(ODD_KEYS, inner, max_size=4).map(OrderedDict)
        | st.builds(Head, inner, inner)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300)
@given(WILD, st.randoms())
def test_every_leaf_of_any_tree_has_a_name_of_its_own(params: Any, chance: random.Random) -> None:
    tx = gradtx.chain(gradtx.trace(0.9), gradtx.trace(0.5))
    numbers = iter(range(1000))
    made = jax.tree.structure(params), lambda _: np.asarray(next(numbers), np.float32)
    first, second = (made[0].unflatten(map(made[1], jax.tree.leaves(params))) for _ in range(2))
    state = gradtx.TraceState(first), gradtx.TraceState(second)
    items = list(gradtx.state_dict(tx, state).items())
    assert len(items) == len(jax.tree.leaves(state)) == len({name for name, _ in items})
    chance.shuffle(items)
    loaded = gradtx.load_state_dict(tx, jax.tree.map(np.zeros_like, state), dict(items))
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    assert list(map(float, jax.tree.leaves(loaded))) == list(map(float, jax.tree.leaves(state)))
    paths = leaf_paths(params)
    assert len(set(paths)) == len(paths)


def names(tx: Any, params: Any) -> list[str]:
    return list(gradtx.state_dict(tx, tx.init(params)))


def test_names_that_are_unique_stay_as_they_read() -> None:
    one = jnp.ones(1)
    alike = {"a": {"b": one}, "a/b": one, "mlp/~/linear": {"w": one}, "c": [one]}
    assert names(gradtx.trace(0.9), alike) == [
        "trace/trace/['a']['b']",
        "trace/trace/['a/b']",
        "trace/trace/c/0",
        "trace/trace/mlp/~/linear/w",
    ]
    assert names(gradtx.trace(0.9), OrderedDict({1: one, "1": one, 2: one})) == [
        "trace/trace/[1]",
        "trace/trace/['1']",
        "trace/trace/2",
    ]


def test_only_boxes_have_no_name() -> None:
    model = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    boxed = {"w": nn.Partitioned(jnp.ones(1), names=("x",)), "value": jnp.ones(1)}
    assert names(gradtx.trace(0.9), nnx.state(model)) == ["trace/trace/bias", "trace/trace/kernel"]
    assert names(gradtx.trace(0.9), boxed) == ["trace/trace/value", "trace/trace/w"]
    pair = Pair(jnp.ones(1), jnp.ones(1))
    assert names(gradtx.trace(0.9), pair) == ["trace/trace/value", "trace/trace/policy"]
    assert leaf_paths([pair, Head(jnp.ones(1), None)]) == ["0/value", "0/policy", "1/value", "1/other"]
    # As such a field was written before it had its name.
    state = gradtx.load_state_dict(
        gradtx.trace(0.9),
        gradtx.trace(0.9).init(pair),
        {"trace/trace": np.full(1, 2.0), "trace/trace/policy": np.full(1, 3.0)},
    )
    assert float(state.trace.value[0]) == 2 and float(state.trace.policy[0]) == 3


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.sm3(0.1),
        gradtx.stored(gradtx.adam(0.1), {"mu": gradtx.formats.companded()}, min_size=0),
        gradtx.inject_hyperparams(gradtx.adamw)(0.1),
    ],
    ids=["a list in a box", "codes in a box", "numbers in boxes"],
)
def test_a_state_in_boxes_is_read_as_without(tx: gradtx.GradientTransformation) -> None:
    boxed = nnx.Optimizer(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), tx, wrt=nnx.Param).opt_state
    flat = gradtx.state_dict(tx, boxed)
    state = nnx.as_pure(boxed)
    assert set(flat) == set(gradtx.state_dict(tx, state))
    assert gradtx.hyperparams(tx, boxed).next == gradtx.hyperparams(tx, state).next
    # As they were written before names went into boxes.
    before = {re.sub(r"(kernel|bias)/", r"\1/value/", name): np.ones_like(x) for name, x in flat.items()}
    before |= {name: flat[name.replace("/value/", "/")] for name in before if name.endswith("/form")}
    loaded = gradtx.load_state_dict(tx, state, before)
    assert all(np.all(x == 1) for x in jax.tree.leaves(loaded))


def test_a_pattern_tells_alike_paths_apart() -> None:
    params = {"a": {"b": jnp.ones(1)}, "a/b": jnp.ones(1)}
    tx = gradtx.add_decayed_weights(1.0, r"\['a/b'\]")
    updates, _ = tx.update(params, tx.init(params), params)
    assert float(updates["a/b"][0]) == 2 and float(updates["a"]["b"][0]) == 1


@gradtx.leafwise(state=gradtx.TraceState)
def trace_1():
    return (lambda param: dict(trace=param)), lambda grad, trace: (grad, dict(trace=grad))


def test_stages_of_any_names_are_told_apart() -> None:
    trace, own = gradtx.trace(0.9), trace_1()
    for stages, expected in (
        ((trace, own, trace), ["trace", "trace_1", "trace_2"]),
        ((trace, trace, own), ["trace", "trace_1", "trace_1_1"]),
        ((own, own), ["trace_1", "trace_1_1"]),
    ):
        assert names(gradtx.chain(*stages), {"w": 0.0}) == [f"{name}/trace/w" for name in expected]


def test_entries_without_any_difference_are_an_error() -> None:
    @gradtx.treewise(name="a/b")
    def plain():
        return (lambda params: {"c": jnp.zeros(1)}), lambda updates, state: (updates, state)

    @gradtx.treewise(name="a")
    def other():
        state = {"b/['c']": jnp.zeros(1), "b/c": jnp.zeros(1)}
        return (lambda params: state), lambda updates, state: (updates, state)

    class Alike(list):
        """A node whose children have one key."""

    jax.tree_util.register_pytree_with_keys(
        Alike,
        lambda xs: ([(jax.tree_util.GetAttrKey("x"), x) for x in xs], None),
        lambda _, children: Alike(children),
    )
    tx = gradtx.chain(plain(), other())
    assert len(names(tx, {})) == 3
    with pytest.raises(ValueError, match=r"state_dict: two entries of the state are called trace/trace/\.x"):
        names(gradtx.trace(0.9), Alike([0.0, 1.0]))


def test_a_scheduled_stage_with_a_state_of_any_form_has_names() -> None:
    @gradtx.treewise()
    def damp(rate: gradtx.Number):
        def update(updates, state):
            return jax.tree.map(lambda u: rate * u, updates), {key: x + 1 for key, x in state.items()}

        return (lambda params: {"seen": jnp.zeros([]), "count": jnp.zeros([])}), update

    tx, params = damp(gradtx.linear_schedule(0.0, 1.0, 10)), {"w": jnp.ones(1)}
    _, state = tx.update(params, tx.init(params))
    flat = gradtx.state_dict(tx, state)
    assert {name: float(x) for name, x in flat.items()} == {
        "damp/count": 1,
        "damp/['count']": 1,
        "damp/seen": 1,
    }
    loaded = gradtx.load_state_dict(tx, tx.init(params), flat)
    assert jax.tree.leaves(loaded) == jax.tree.leaves(state)
    scheduled = gradtx.lookahead(gradtx.sgd(0.1, momentum=0.9), gradtx.constant_schedule(2), 0.5)
    assert names(scheduled, params) == [
        "lookahead/count",
        "trace/trace/w",
        "lookahead/steps_since_sync",
        "lookahead/slow_params/w",
    ]


# --- loading ----------------------------------------------------------------------------------------

TX = gradtx.chain(gradtx.trace(0.9, accumulator_dtype="float16"), gradtx.scale_by_adam(mu_dtype="bfloat16"))


def loaded(**changes: Any) -> Any:
    state = TX.init({"w": jnp.zeros(2)})
    names = {"trace": "trace/trace/w", "count": "scale_by_adam/count", "mu": "scale_by_adam/mu/w"}
    flat = {**gradtx.state_dict(TX, state), **{names[name]: x for name, x in changes.items()}}
    return gradtx.load_state_dict(TX, state, flat)


def nested(levels: int, x: Any = 1.0) -> Any:
    for _ in range(levels):
        x = [x]
    return x


@pytest.mark.parametrize(
    ("name", "entry", "problem"),
    [
        ("scale_by_adam/count", np.int64(2**32 + 5), "int64[] with numbers that do not fit int32[]"),
        ("scale_by_adam/count", np.uint32(2**32 - 1), "uint32[] with numbers that do not fit int32[]"),
        ("scale_by_adam/count", np.uint64(2**64 - 1), "uint64[] with numbers that do not fit int32[]"),
        ("scale_by_adam/count", -(2**40), "int64[] with numbers that do not fit int32[]"),
        ("scale_by_adam/count", 2**70, "which are no numbers"),
        ("scale_by_adam/count", 1.5, "float64[], the state has int32[]"),
        ("scale_by_adam/count", True, "bool[], the state has int32[]"),
        ("scale_by_adam/count", "7", "which are no numbers"),
        ("scale_by_adam/count", None, "which are no numbers"),
        ("scale_by_adam/count", b"7", "which are no numbers"),
        ("trace/trace/w", np.full(2, 1e5), "float64[2] with numbers that do not fit float16[2]"),
        ("trace/trace/w", jnp.full(2, 1e5), "float32[2] with numbers that do not fit float16[2]"),
        ("trace/trace/w", np.ones(2, "V3"), "which are no numbers"),
        ("trace/trace/w", np.ones(2, object), "which are no numbers"),
        ("trace/trace/w", [1.0, [2.0]], "a list that is no array"),
        ("trace/trace/w", nested(3000), "a list that is no array"),
        ("trace/trace/w", {"w": 1.0}, "which are no numbers"),
        ("trace/trace/w", [1.0], "float64[1], the state has float16[2]"),
        ("trace/trace/w", [1j, 0], "complex128[2], the state has float16[2]"),
        ("scale_by_adam/mu/w", np.full(2, 3.4e38, np.float32), "numbers that do not fit bfloat16[2]"),
    ],
)
def test_what_does_not_fit_is_named(name: str, entry: Any, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        loaded(**{name.split("/")[-2 if name.endswith("w") else -1]: entry})
    message = str(caught.value)
    assert f"of another shape or kind: {name}: " in message and problem in message, message


def test_what_fits_is_loaded_as_it_is() -> None:
    state = loaded(count=np.uint64(7), trace=[65504.0, -np.inf], mu=np.full(2, np.nan))
    assert int(state[1].count) == 7 and state[1].count.dtype == jnp.int32
    assert list(map(float, state[0].trace["w"])) == [65504, -np.inf] and np.isnan(state[1].mu["w"]).all()


def test_bfloat16_comes_back_from_files_of_numpy() -> None:
    file = io.BytesIO()
    np.savez(file, mu=jnp.asarray([0.1, -3.0], jnp.bfloat16))
    (kept,) = np.load(io.BytesIO(file.getvalue())).values()
    assert kept.dtype == "V2"
    assert list(map(float, loaded(mu=kept)[1].mu["w"])) == [float(jnp.bfloat16(0.1)), -3]
    assert list(map(float, loaded(trace=kept)[0].trace["w"])) == [float(jnp.bfloat16(0.1)), -3]


def test_keys_of_any_kind_are_named() -> None:
    state = TX.init({"w": jnp.zeros(2)})
    flat = {**gradtx.state_dict(TX, state), 3: 1, None: 2, ("a",): 3, "leftover": 4}
    with pytest.raises(ValueError, match=r"unexpected: \('a',\), 3, None, leftover"):
        gradtx.load_state_dict(TX, state, flat)
    for other in ([1, 2], None, "state", 3):
        with pytest.raises(TypeError, match="load_state_dict: expected a dict of arrays by name, got "):
            gradtx.load_state_dict(TX, state, other)  # pyright: ignore[reportArgumentType]  # what is tested


def test_random_keys_load_in_both_forms() -> None:
    params, tx = {"w": jnp.zeros(2)}, gradtx.add_noise(0.1, 0.5, 3)
    state = tx.init(params)
    bits = jax.random.key_data(state.rng_key)
    for key in (state.rng_key, bits, np.asarray(bits)):
        again = gradtx.load_state_dict(tx, tx.init(params), {"add_noise/count": 1, "add_noise/rng_key": key})
        assert again.rng_key == state.rng_key
    with pytest.raises(ValueError, match=r"add_noise/rng_key: key<rbg>\[\], the state has key<fry>\[\]"):
        other = jax.random.key(0, impl="rbg")
        gradtx.load_state_dict(tx, state, {"add_noise/count": 1, "add_noise/rng_key": other})

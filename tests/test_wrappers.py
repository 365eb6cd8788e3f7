"""Wrappers: who sees which parameters, when, and with which numbers."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from tests.beside_optax import STEPS, assert_equal_steps, assert_near
from tests.laws import assert_close, assert_same_layout, numbers, run, tree

PARAMS = tree(0)
PATHS = ["dense/bias", "dense/kernel", "scale"]

SELECTORS = {
    "pattern": r".*kernel",
    "patterns": {r".*kernel": True, r".*": False},
    "first match wins": {r"dense/k.*": True, r"dense/.*": False, "scale": False},
    "path and leaf": lambda path, leaf: path.endswith("kernel") and leaf.ndim == 2,
    "whole params": lambda params: jax.tree.map(lambda x: x.ndim == 2, params),
    "tree": {"dense": {"kernel": True, "bias": False}, "scale": False},
}


@pytest.mark.parametrize("mask", SELECTORS.values(), ids=SELECTORS.keys())
def test_every_way_to_say_which_params(mask) -> None:
    expected = jax.tree.map(lambda x: 3.0 * x if x.ndim == 2 else x, PARAMS)
    labels = mask
    if isinstance(mask, str):
        labels = {mask: True, ".*": False}
    for tx in (
        gradtx.masked(gradtx.scale(3.0), mask),
        gradtx.partition({True: gradtx.scale(3.0), False: gradtx.identity()}, labels),
        gradtx.groups(gradtx.scale(1.0), {True: {"step_size": 3.0}}, labels),
        gradtx.chain(
            gradtx.scale(2.0), gradtx.add_decayed_weights(2.0, mask), gradtx.add_decayed_weights(-1.0)
        ),
    ):
        updates, _ = jax.jit(tx.update)(PARAMS, tx.init(PARAMS), PARAMS)
        assert_close(updates, expected)


def test_a_prefix_of_the_tree_is_a_tree() -> None:
    tx = gradtx.masked(gradtx.scale(0.0), {"dense": True, "scale": False})
    updates, _ = tx.update(PARAMS, tx.init(PARAMS))
    assert updates["dense"]["bias"][0] == 0 and updates["scale"] == PARAMS["scale"]


def test_masked_extra_arguments_that_are_trees() -> None:
    def update(updates, state, params=None, *, scales):
        return jax.tree.map(jnp.multiply, updates, scales), state

    inner = gradtx.GradientTransformation(lambda params: (), update)
    tx = gradtx.masked(inner, ".*kernel", mask_compatible_extra_args=True)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), scales=jax.tree.map(lambda x: x * 0 + 3.0, PARAMS))
    assert_close(updates["dense"]["kernel"], 3.0 * PARAMS["dense"]["kernel"])
    assert_close(updates["scale"], PARAMS["scale"])


def test_partition_equals_each_alone(x64) -> None:
    make = lambda x: x.partition({"a": x.adamw(0.1), "b": x.sgd(0.2, 0.9), "unused": x.sgd(0.3)}, LABELS)  # noqa: E731
    assert_near(*assert_equal_steps(make))


LABELS = {"dense": {"kernel": "a", "bias": "b"}, "scale": "a"}


# --- groups -----------------------------------------------------------------------------------------


def test_groups_may_switch_off_what_others_have() -> None:
    """A weight decay of 0 leaves its stage out of PyTorch's optimizers; the groups keep one structure."""
    params = {"w": jnp.ones(2), "bias": jnp.ones(2)}
    for make in (gradtx.torch.optim.adamw, gradtx.torch.optim.sgd):
        inner = make(lr=0.1, weight_decay=0.5)
        tx = gradtx.groups(inner, {"bias": {"weight_decay": 0}})
        updates, _ = tx.update(params, tx.init(params), params)
        plain = make(lr=0.1, weight_decay=0)
        alone, _ = plain.update(params["bias"], plain.init(params["bias"]), params["bias"])
        np.testing.assert_allclose(updates["bias"], alone, rtol=1e-6)
        assert not np.allclose(updates["w"], alone)
        assert eval(repr(tx), vars(gradtx)) == tx
    with pytest.raises(ValueError, match="groups: 'w': weight_decay is 0 in torch.optim.adam, which leaves"):
        gradtx.groups(gradtx.torch.optim.adam(), {"w": {"weight_decay": 0.1}})


def test_a_group_without_changes_is_one_of_any_optimizer() -> None:
    params, labels = {"a": jnp.ones((4, 4)), "b": jnp.ones(4)}, {"a": "same", "b": "frozen"}
    muon = gradtx.contrib.muon(1e-3)  # its numbers cannot differ by group: which stage sees a param does
    tx = gradtx.groups(muon, {"same": {}, "frozen": None}, labels)
    updates, _ = tx.update(params, tx.init(params), params)
    alone, _ = muon.update({"a": params["a"]}, muon.init({"a": params["a"]}), {"a": params["a"]})
    assert_close(updates, {**alone, "b": jnp.zeros(4)})


def test_groups_equal_an_optimizer_for_each(x64) -> None:
    inner = gradtx.adamw(gradtx.linear_schedule(0.1, 0.0, 10), weight_decay=0.1)
    changes = {"weight_decay": 0.0, "b1": 0.5, "learning_rate": gradtx.constant_schedule(0.3)}
    tx = gradtx.groups(inner, {".*bias": changes, "scale": {"eps": 1e-2}})
    params, grads = tree(0), [tree(1), tree(2), tree(3)]
    assert_same_layout(tx.init(params), inner.init(params))
    after, _ = run(tx, params, grads)
    own, _ = run(inner, params, grads)
    bias, _ = run(inner.replace(**changes), params, grads)
    scale, _ = run(inner.replace(eps=1e-2), params, grads)
    expected = {
        "dense": {"kernel": own["dense"]["kernel"], "bias": bias["dense"]["bias"]},
        "scale": scale["scale"],
    }
    assert_close(after, expected)


def test_frozen_params_have_no_state_and_count_in_no_norm() -> None:
    inner = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(0.1))
    tx = gradtx.groups(inner, {"dense/.*": None})
    state = tx.init(PARAMS)
    assert [x.shape for x in jax.tree.leaves(state)] == [(), (), ()]
    updates, state = jax.jit(tx.update)(PARAMS, state, PARAMS)
    assert_close(updates["dense"], jax.tree.map(jnp.zeros_like, PARAMS["dense"]), rtol=0, atol=0)
    alone, _ = inner.update({"scale": PARAMS["scale"]}, inner.init({"scale": PARAMS["scale"]}))
    assert_close(updates["scale"], alone["scale"])


def test_a_change_of_an_overridden_number_compiles_nothing() -> None:
    step = jax.jit(lambda tx, g, s, p: tx.update(g, s, p))
    tx = gradtx.groups(gradtx.sgd(0.1), {".*bias": {"learning_rate": 0.2}})
    step(tx, PARAMS, tx.init(PARAMS), PARAMS)
    size = step._cache_size()
    other = gradtx.groups(gradtx.sgd(0.5), {".*bias": {"learning_rate": 0.0}})
    updates, _ = step(other, PARAMS, tx.init(PARAMS), PARAMS)
    assert step._cache_size() == size and updates["dense"]["bias"][0] == 0


# --- the finite guard ---------------------------------------------------------------------------------


def test_bad_gradients_leave_no_trace_until_there_are_too_many(x64) -> None:
    ours, theirs = gradtx.apply_if_finite(gradtx.adam(0.1), 2), optax.apply_if_finite(optax.adam(0.1), 2)
    params = tree(0, jnp.float64)
    state, other = ours.init(params), theirs.init(params)
    for i, bad in enumerate([0, 1, 0, 1, 1, 0, 1, 1, 1]):
        grads = tree(i, jnp.float64)
        if bad:
            grads["dense"]["bias"] = grads["dense"]["bias"].at[1].set([jnp.nan, jnp.inf, -jnp.inf][i % 3])
        updates, state = ours.update(grads, state, params)
        expected, other = theirs.update(grads, other, params)
        for x, y in zip(numbers((updates, state)), numbers((expected, other)), strict=True):
            # An average that has seen an infinity is NaN here, and infinite for ever in Optax.
            np.testing.assert_array_equal(np.isfinite(x), np.isfinite(y))
            np.testing.assert_allclose(x[np.isfinite(x)], y[np.isfinite(x)], rtol=1e-12)
    assert state.total_notfinite == 6
    # What was let through is in the state, where Optax does not look.
    for tx, seen, count in ((ours, state, 4), (theirs, other, 0)):
        updates, seen = tx.update(params, seen, params)
        assert not np.all(np.isfinite(updates["dense"]["bias"])) and seen.notfinite_count == count


def large(x: Any) -> Any:
    """Gradients whose squares are infinite in float32."""
    return jax.tree.map(lambda x: jnp.full_like(x, 1e25), x)


GUARDED = {
    "adamw": lambda guard: guard(gradtx.adamw(0.1)),
    "groups inside": lambda guard: guard(
        gradtx.groups(gradtx.adamw(0.1), {".*bias": {"learning_rate": 0.2}})
    ),
    "groups outside": lambda guard: gradtx.groups(guard(gradtx.adamw(0.1)), {".*bias": None}),
    "frozen": lambda guard: guard(gradtx.groups(gradtx.adamw(0.1), {".*bias": None})),
    "across tensors": lambda guard: guard(gradtx.lookahead(gradtx.adamw(0.1), 2, 0.5)),
}


@pytest.mark.parametrize("make", GUARDED.values(), ids=GUARDED.keys())
@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_guard_looks_at_what_comes_out_too(make: Any, mode: Any) -> None:
    tx = make(lambda inner: gradtx.apply_if_finite(inner, 1))
    update, before = mode(tx.update), tx.init(PARAMS)
    _, before = update(tree(1), before, PARAMS)
    updates, after = update(large(PARAMS), before, PARAMS)
    assert after.notfinite_count == after.total_notfinite == 1 and not after.last_finite
    assert not any(np.any(x) for x in numbers(updates))
    assert_close(after.inner_state, before.inner_state, rtol=0, atol=0)
    updates, again = update(tree(2), after, PARAMS)
    assert_close(updates, update(tree(2), before, PARAMS)[0])
    assert again.notfinite_count == 0 and again.total_notfinite == 1
    _, twice = update(large(PARAMS), after, PARAMS)
    assert not all(np.all(np.isfinite(x)) for x in numbers(twice.inner_state))  # enough: let through


def test_the_guard_holds_for_each_of_a_batch() -> None:
    tx = gradtx.apply_if_finite(gradtx.adam(0.1), 3)
    params = {"w": jnp.ones((2, 3))}
    grads = {"w": jnp.array([[1.0, 1e25, 1.0], [1.0, 2.0, 3.0]])}
    updates, state = jax.vmap(tx.update)(grads, jax.vmap(tx.init)(params), params)
    np.testing.assert_array_equal(state.notfinite_count, [1, 0])
    np.testing.assert_allclose(updates["w"], [[0, 0, 0], [-0.1, -0.1, -0.1]], rtol=1e-6)


def test_what_begins_at_infinity_does_not_close_the_guard() -> None:
    """The best value of a plateau is infinite until there is a mean; it may stay so, and become finite."""
    tx = gradtx.apply_if_finite(
        gradtx.chain(gradtx.sgd(1.0), gradtx.contrib.reduce_on_plateau(accumulation_size=2)), 3
    )
    state = tx.init(PARAMS)
    for _ in range(2):
        assert np.isinf(state.inner_state[1].best_value)
        updates, state = tx.update(PARAMS, state, PARAMS, value=1.0)
        assert state.last_finite and updates["scale"] == -PARAMS["scale"]
    assert state.inner_state[1].best_value == 1
    _, state = tx.update(PARAMS, state, PARAMS, value=jnp.inf)
    assert not state.last_finite and state.inner_state[1].avg_value == 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_one_bad_number_among_many_is_seen(bad, dtype) -> None:
    # XLA's maximum on a CPU would lose the NaN here.
    params = {"w": jnp.ones((400, 300), dtype)}
    tx = gradtx.apply_if_finite(gradtx.sgd(0.1), 2)
    for update in (tx.update, jax.jit(tx.update)):
        updates, state = update({"w": params["w"].at[123, 45].set(bad)}, tx.init(params), params)
        assert not state.last_finite and not updates["w"].any()
        assert update(params, tx.init(params), params)[1].last_finite


# --- accumulation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("k", [1, 3, lambda step: jnp.where(step < 2, 2, 3)], ids=["1", "3", "2 then 3"])
def test_accumulation_equals_optax(k, mean, x64) -> None:
    def make(x):
        dtype = {} if x is gradtx else {"accumulator_dtype": jnp.float64}
        return x.MultiSteps(x.adam(x.linear_schedule(0.5, 0.25, 4)), k, use_grad_mean=mean, **dtype)

    state, other = assert_equal_steps(make, same_layout=k != 1)  # for 1, ours holds no buffer
    assert_near(state.inner_opt_state, other.inner_opt_state)
    assert state.mini_step == other.mini_step and state.gradient_step == other.gradient_step


def test_one_gradient_per_step_holds_no_buffer() -> None:
    tx = gradtx.MultiSteps(gradtx.sgd(0.1), 1)
    assert isinstance(tx, gradtx.GradientTransformation)
    assert sum(x.size for x in jax.tree.leaves(tx.init(PARAMS))) == 2  # the two counters


def too_large(updates, gradient_step, params):
    return gradtx.global_norm(updates) > 100.0, {"norm": gradtx.global_norm(updates)}


def test_skipping_works_without_accumulation() -> None:
    tx = gradtx.MultiSteps(gradtx.sgd(1.0, momentum=0.5), 1, should_skip_update_fn=too_large)
    state = tx.init({"w": jnp.zeros(1)})
    seen = []
    for grad in (1.0, 1000.0, 3.0):
        updates, state = jax.jit(tx.update)({"w": jnp.full(1, grad)}, state)
        seen.append(float(updates["w"][0]))
    assert seen == [-1.0, 0.0, -3.5] and state.gradient_step == 2


def test_skipped_gradients_are_as_if_unseen() -> None:
    tx = gradtx.MultiSteps(gradtx.sgd(1.0), 2, should_skip_update_fn=too_large)
    state = tx.init({"w": jnp.zeros(1)})
    seen = []
    for grad in (1.0, 1000.0, 3.0, 5.0):
        updates, state = jax.jit(tx.update)({"w": jnp.full(1, grad)}, state)
        seen.append(float(updates["w"][0]))
    assert seen == [0.0, 0.0, -2.0, 0.0]
    assert state.skip_state["norm"] == 5.0 and state.mini_step == 1


def test_half_precision_gradients_are_accumulated_in_float32() -> None:
    params = {"w": jnp.zeros(1, jnp.bfloat16)}
    tx = gradtx.MultiSteps(gradtx.sgd(1.0), 4)
    state = tx.init(params)
    assert state.acc_grads["w"].dtype == jnp.float32
    for grad in (1.0, 2.0**-9, 2.0**-9, 2.0**-9):
        updates, state = tx.update({"w": jnp.full(1, grad, jnp.bfloat16)}, state, params)
    assert updates["w"].dtype == jnp.bfloat16 and updates["w"][0] == jnp.bfloat16(-(1 + 3 * 2.0**-9) / 4)


# --- hyperparameters ----------------------------------------------------------------------------------


def test_injected_numbers_are_set_from_outside() -> None:
    tx = gradtx.inject_hyperparams(gradtx.sgd)(learning_rate=0.1)
    state = tx.init(PARAMS)
    step = jax.jit(tx.update)
    step(PARAMS, state)
    state.hyperparams["learning_rate"] = jnp.asarray(0.5)
    updates, state = step(PARAMS, state)
    assert_close(updates, jax.tree.map(lambda g: -0.5 * g, PARAMS))
    assert gradtx.hyperparams(tx, state).next["learning_rate"] == 0.5


def test_injected_numbers_of_a_plain_function() -> None:
    @gradtx.inject_hyperparams
    def make(learning_rate, momentum=0.9):
        return optax.chain(optax.trace(momentum), optax.scale(-learning_rate))

    tx = make(learning_rate=gradtx.linear_schedule(0.5, 0.0, 2))
    state = tx.init(PARAMS)
    updates, state = jax.jit(tx.update)(PARAMS, state)
    assert_close(updates, jax.tree.map(lambda g: -0.5 * g, PARAMS))
    assert set(state.hyperparams) == {"learning_rate", "momentum"}


def test_injected_is_not_injected_in_half_precision() -> None:
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    plain, injected = gradtx.adamw(1e-2), gradtx.inject_hyperparams(gradtx.adamw)(learning_rate=1e-2)
    state = injected.init(params)
    assert state.hyperparams["b2"].dtype == jnp.float32
    a, b = run(plain, params, [params] * 3)[0], run(injected, params, [params] * 3)[0]
    assert_close(a, b, rtol=0, atol=0)


def test_the_numbers_in_force_are_readable() -> None:
    tx = gradtx.chain(
        gradtx.clip_by_global_norm(gradtx.linear_schedule(1.0, 0.0, 4)),
        gradtx.scale_by_adam(b1=gradtx.step_lr(0.5, 1, 0.5)),
        gradtx.scale_by_trust_ratio(),
        gradtx.MultiSteps(gradtx.sgd(gradtx.linear_schedule(1.0, 0.0, 4)), 2),
    )
    state = tx.init(PARAMS)
    first = gradtx.hyperparams(tx, state)
    assert first.last == first.next and first.next["learning_rate"] == 1.0
    for i in range(2):
        _, state = tx.update(tree(i), state, PARAMS)
    last, after = gradtx.hyperparams(tx, state)
    assert (last["max_norm"], after["max_norm"]) == (0.75, 0.5)
    assert (last["b1"], after["b1"]) == (0.25, 0.125)
    assert (last["learning_rate"], after["learning_rate"]) == (1.0, 0.75)
    assert after["scale_by_adam/eps"] == 1e-8 and after["scale_by_trust_ratio/eps"] == 0.0
    assert jax.jit(lambda s: gradtx.hyperparams(tx, s).next["max_norm"])(state) == 0.5


def test_numbers_of_repeated_primitives_are_all_readable_under_their_labels() -> None:
    tx = gradtx.partition(
        {"x": gradtx.sgd(0.1), "y": gradtx.chain(gradtx.clip(1.0), gradtx.clip(2.0), gradtx.sgd(0.2))},
        {".*kernel": "x", ".*": "y"},
    )
    found = gradtx.hyperparams(tx, tx.init(PARAMS)).next
    assert found == {
        "x/learning_rate": 0.1,
        "y/clip/max_delta": 1.0,
        "y/clip_1/max_delta": 2.0,
        "y/learning_rate": 0.2,
    }


def test_every_learning_rate_is_found_by_its_name() -> None:
    """In a recipe whose stages share it too: fromage shrinks by the angle that it steps by."""
    tx = gradtx.fromage(gradtx.linear_schedule(0.1, 0.0, 2))
    found = gradtx.hyperparams(tx, tx.init(PARAMS)).next
    assert found["learning_rate"] == found["tangent"] == np.float32(0.1)


def test_any_number_takes_a_schedule(x64) -> None:
    """The scheduled value at each step equals the fixed value given by hand."""
    params = tree(0, jnp.float64)
    schedule = gradtx.linear_schedule(0.5, 0.25, 4)
    for make in (
        lambda x: gradtx.adamw(0.1, b1=x),
        lambda x: gradtx.adamw(0.1, b2=x, weight_decay=x),
        lambda x: gradtx.trace(x),
        lambda x: gradtx.clip(x),
        lambda x: gradtx.clip_by_global_norm(x),
        lambda x: gradtx.rmsprop(x, momentum=x),
        lambda x: gradtx.apply_if_finite(gradtx.lion(x), 2),
    ):
        scheduled = make(schedule)
        state = scheduled.init(params)
        fixed_state = make(0.5).init(params)
        for count in range(5):
            grads = tree(count, jnp.float64)
            fixed = make(0.5 - 0.0625 * count)
            expected, fixed_state = fixed.update(grads, fixed_state, params)
            updates, state = scheduled.update(grads, state, params)
            assert_close(updates, expected, rtol=1e-12, atol=1e-14)


# --- gradients to leave out -------------------------------------------------------------------------

VERDICTS = {
    "not finite": (lambda x: x.skip_not_finite, {jnp.nan, jnp.inf}),
    "large": (lambda x: partial(x.skip_large_updates, max_squared_norm=50.0), {jnp.nan, jnp.inf, 10.0}),
}


@pytest.mark.parametrize(("make", "skipped"), VERDICTS.values(), ids=VERDICTS.keys())
@pytest.mark.parametrize("number", [jnp.nan, jnp.inf, 10.0, 2.0])
def test_verdicts_are_those_of_optax(make, skipped, number) -> None:
    updates = {"a": jnp.array([1.0, number, number]), "b": jnp.array(3.0)}
    ours, theirs = (make(x)(updates, jnp.zeros([], jnp.int32), None) for x in (gradtx, optax))
    assert_close(ours, theirs)
    assert bool(ours[0]) == (number in skipped)


# --- names, and one vector --------------------------------------------------------------------------


def test_named_chains_are_checked() -> None:
    one = gradtx.scale(1.0)
    with pytest.raises(ValueError, match=r"named_chain: names must be unique, but \['a'\] are repeated"):
        gradtx.named_chain(("a", one), ("b", one), ("a", one))
    with pytest.raises(TypeError, match=r"named_chain: argument 1 must be a pair \(name, transformation\)"):
        gradtx.named_chain(one)
    with pytest.raises(TypeError, match="named_chain: 'a' is the function ema, not a transformation"):
        gradtx.named_chain(("a", gradtx.ema))
    with pytest.raises(
        ValueError, match=r"named_chain: this is not its state: expected a dict with the keys"
    ):
        gradtx.named_chain(("a", one)).update(PARAMS, {"b": gradtx.EmptyState()})


def test_a_named_chain_takes_a_plain_dict(x64) -> None:
    """As a checkpoint is restored to; jax sorts its keys, a chain does not."""
    tx = gradtx.named_chain(("z", gradtx.trace(0.9)), ("a", gradtx.adam(0.1)), ("m", gradtx.trace(0.5)))
    params = tree(0)
    _, state = run(tx, params, [tree(1)])
    plain = dict(sorted(state.items()))
    expected, found = tx.update(tree(2), state, params), jax.jit(tx.update)(tree(2), plain, params)
    assert_same_layout(found, expected)
    assert_close(found, expected)
    flat = gradtx.state_dict(tx, state)
    assert_close(gradtx.state_dict(tx, plain), flat, rtol=0, atol=0)
    loaded = gradtx.load_state_dict(tx, dict(sorted(tx.init(params).items())), flat)
    assert_close(loaded, plain, rtol=0, atol=0)


def test_a_missing_gradient_is_zeros_in_the_vector() -> None:
    params = {"a": jnp.ones(2), "b": jnp.ones((2, 2))}
    tx = gradtx.flatten(gradtx.trace(0.5))
    _, state = tx.update(params, tx.init(params), params)
    updates, state = tx.update({"a": jnp.ones(2), "b": None}, state, params)
    assert updates["b"] is None
    np.testing.assert_array_equal(state.trace, [1.5, 1.5, 0.5, 0.5, 0.5, 0.5])


def test_real_tensors_stay_real_beside_complex_ones() -> None:
    params = {"a": jnp.ones(2), "b": jnp.ones(2, jnp.complex64), "c": jnp.ones(3, jnp.bfloat16)}
    tx = gradtx.flatten(gradtx.adam(0.1))
    updates, _ = tx.update(params, tx.init(params), params)
    assert jax.tree.map(lambda x: x.dtype, updates) == jax.tree.map(lambda x: x.dtype, params)


# --- lookahead --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset_state", [False, True])
def test_lookahead_goes_where_optax_goes(reset_state, x64) -> None:
    """Both kinds of params, which Optax has as a pair."""
    make = lambda x: x.lookahead(x.adam(0.1), 3, 0.5, reset_state)  # noqa: E731
    ours, theirs = make(gradtx), make(optax)
    params = tree(0, jnp.float64)
    pair = optax.LookaheadParams.init_synced(params)
    own_pair = gradtx.LookaheadParams.init_synced(params)
    state, their_state, own_state = ours.init(params), theirs.init(pair), ours.init(own_pair)
    update, reference = jax.jit(ours.update), jax.jit(theirs.update)
    for i in range(1, STEPS + 1):
        updates, state = update(tree(i, jnp.float64), state, params)
        params = gradtx.apply_updates(params, updates)
        updates, their_state = reference(tree(i, jnp.float64), their_state, pair)
        pair = optax.apply_updates(pair, updates)
        assert_near(params, pair.fast)
        assert_near(gradtx.evaluation_params(state, params), pair.slow)
        assert state.steps_since_sync == their_state.steps_since_sync
        updates, own_state = update(tree(i, jnp.float64), own_state, own_pair)
        own_pair = gradtx.apply_updates(own_pair, updates)
        assert_near(own_pair, pair)
    assert jax.tree.structure(ours.update(params, ours.init(pair), pair)[0]) == jax.tree.structure(pair)


def test_evaluation_params_are_found_wherever_they_are() -> None:
    ahead = gradtx.lookahead(gradtx.sgd(1.0), 5, 0.5)
    for tx, slow in (
        (gradtx.chain(gradtx.clip(1.0), ahead), set(PATHS)),
        (gradtx.masked(ahead, "scale"), {"scale"}),
        (gradtx.partition({"a": ahead, "b": gradtx.sgd(1.0)}, LABELS), {"dense/kernel", "scale"}),
        (gradtx.sgd(1.0), set()),
    ):
        after, state = jax.jit(partial(run, tx))(PARAMS, [tree(1)])
        found = gradtx.evaluation_params(state, after)
        expected = {path: PARAMS if path in slow else after for path in PATHS}
        for path, leaf in zip(PATHS, jax.tree.leaves(found), strict=True):
            np.testing.assert_array_equal(leaf, jax.tree.leaves(expected[path])[PATHS.index(path)])
    tx = gradtx.flatten(ahead)
    with pytest.raises(ValueError, match="evaluation_params: params and what LookaheadState knows"):
        gradtx.evaluation_params(tx.init(PARAMS), PARAMS)


def test_evaluation_params_have_the_dtype_of_the_params() -> None:
    params = {"w": jnp.ones(2, jnp.bfloat16), "gone": None}
    state = gradtx.lookahead(gradtx.sgd(1.0), 5, 0.5).init(params)
    assert state.slow_params["w"].dtype == jnp.float32
    assert gradtx.evaluation_params(state, params)["w"].dtype == jnp.bfloat16

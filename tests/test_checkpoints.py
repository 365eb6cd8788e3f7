"""States between this library and Optax, by every road that checkpoints take."""

import pickle
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import gradtx
from tests.laws import assert_close, numbers, run, tree

CHAINS = {
    "adamw": lambda x: x.adamw(1e-2, b2=0.9),
    "clip and scheduled adamw": lambda x: x.chain(
        x.clip_by_global_norm(1.0),
        x.adamw(x.linear_schedule(0.1, 0.0, 8), b2=0.9, mask=lambda p: jax.tree.map(lambda _: True, p)),
    ),
    "sgd with momentum": lambda x: x.sgd(0.1, momentum=0.9, nesterov=True),
    "centred rmsprop": lambda x: x.rmsprop(0.1, centered=True, momentum=0.9),
    "lamb": lambda x: x.lamb(0.1, b2=0.9, weight_decay=0.01),
    "partition": lambda x: x.partition(
        {"a": x.sgd(0.1, momentum=0.9), "b": x.amsgrad(0.1, b2=0.9)},
        {"dense": {"kernel": "a", "bias": "b"}, "scale": "b"},
    ),
    "injected": lambda x: x.inject_hyperparams(x.adamw)(learning_rate=x.linear_schedule(0.1, 0.0, 8), b2=0.9),
    "guarded": lambda x: x.apply_if_finite(x.adam(0.1, b2=0.9), 3),
    "accumulating": lambda x: x.MultiSteps(x.adam(0.1, b2=0.9), 2),
}


def by_flax(state, target, path):
    return flax.serialization.from_bytes(target, flax.serialization.to_bytes(state))


def by_orbax(state, target, path):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "state", state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(path / "state", jax.tree.map(ocp.utils.to_shape_dtype_struct, target))


def by_pickled_arrays(state, target, path):
    leaves = pickle.loads(pickle.dumps([np.asarray(x) for x in jax.tree.leaves(state)]))
    return jax.tree.unflatten(jax.tree.structure(target), [jnp.asarray(x) for x in leaves])


class Compiled(NamedTuple):
    """A chain of one of the libraries, as one program for each of its functions."""

    name: str
    init: Callable[..., Any]
    update: Callable[..., Any]


@cache
def compiled(make, library) -> Compiled:
    """The same for all roads: then the second compiles nothing."""
    tx = make(library)
    return Compiled(library.__name__, jax.jit(tx.init), jax.jit(tx.update))


@pytest.mark.parametrize("road", [by_flax, by_orbax, by_pickled_arrays])
@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS.keys())
def test_states_travel_both_ways(make, road, tmp_path) -> None:
    """Two steps from the same state enlarge no rounding; nor does Optax's 1 − b2ᵗ, which for the default b2
    is a difference of nearly equal numbers."""
    ours, theirs = compiled(make, gradtx), compiled(make, optax)
    params, early, late = tree(0), [tree(1), tree(2), tree(3)], [tree(4), tree(5)]
    for source, sink in ((theirs, ours), (ours, theirs)):
        middle, state = run(source, params, early)
        restored = road(state, sink.init(params), tmp_path / source.name)
        assert [x.dtype for x in numbers(restored)] == [x.dtype for x in numbers(state)]
        for grad in late:
            updates, state = source.update(grad, state, middle)
            other, restored = sink.update(grad, restored, middle)
            assert_close(other, updates)


def test_a_changed_chain_loads_by_name() -> None:
    params = tree(0)
    plain = gradtx.adam(0.1)
    _, state = run(plain, params, [tree(1), tree(2)])
    flat = gradtx.state_dict(plain, state)
    assert sorted(flat) == [
        "scale_by_adam/count",
        *(
            f"scale_by_adam/{slot}/{path}"
            for slot in ("mu", "nu")
            for path in ("dense/bias", "dense/kernel", "scale")
        ),
    ]
    changed = [
        gradtx.chain(gradtx.clip_by_global_norm(1.0), plain),
        gradtx.apply_if_finite(plain, 3),
        gradtx.MultiSteps(plain, 4),
        gradtx.masked(plain, True),
        gradtx.groups(plain, {".*bias": {"learning_rate": 0.0}}),
        gradtx.inject_hyperparams(gradtx.adam)(learning_rate=0.1),
        gradtx.adam(gradtx.linear_schedule(0.1, 0.0, 9), b1=gradtx.constant_schedule(0.9)),
        gradtx.partition({"x": plain}, lambda p: jax.tree.map(lambda _: "x", p)),
    ]
    for tx in changed:
        assert flat.keys() <= gradtx.state_dict(tx, tx.init(params)).keys(), tx
    with pytest.warns(UserWarning, match="missing: scale_by_learning_rate/count"):
        loaded = gradtx.load_state_dict(changed[6], changed[6].init(params), flat, strict=False)
    assert_close(loaded[0], state[0], rtol=0, atol=0)


def test_a_repeated_primitive_gets_a_suffix() -> None:
    tx = gradtx.chain(
        gradtx.trace(0.9), gradtx.scale(2.0), gradtx.trace(0.5), gradtx.trace(gradtx.constant_schedule(0.1))
    )
    names = gradtx.state_dict(tx, tx.init({"w": jnp.ones(2)})).keys()
    assert list(names) == ["trace/trace/w", "trace_1/trace/w", "trace_2/count", "trace_2/trace/w"]


def test_loading_keeps_dtypes_and_shardings_and_owns_its_buffers() -> None:
    mesh = jax.make_mesh((8,), ("data",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    params = {"w": jax.device_put(jnp.ones((8, 2)), split)}
    tx = gradtx.adam(0.1)
    state = tx.init(params)
    flat = {
        "scale_by_adam/count": np.int64(3),
        "scale_by_adam/mu/w": np.full((8, 2), 0.5),
        "scale_by_adam/nu/w": params["w"],
    }
    loaded = gradtx.load_state_dict(tx, state, flat)
    assert loaded[0].count.dtype == jnp.int32 and loaded[0].mu["w"].dtype == jnp.float32
    assert loaded[0].mu["w"].sharding.is_equivalent_to(split, 2)
    gradtx.jit_step(tx, params, loaded, jax.tree.map(jnp.copy, params))
    assert not params["w"].is_deleted()
    assert not state[0].count.is_deleted()


def test_an_abstract_state_is_a_target_for_loading() -> None:
    params = tree(0)
    tx = gradtx.adamw(0.1)
    _, state = run(tx, params, [tree(1)])
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    assert_close(
        gradtx.load_state_dict(tx, tx.init(shapes), gradtx.state_dict(tx, state)), state, rtol=0, atol=0
    )


def test_the_key_of_sophia_is_kept_as_optax_keeps_it() -> None:
    """Bits of a seed, which flax writes; and what was given, where that was a key."""
    params, bits = {"w": jnp.ones(2)}, jax.random.PRNGKey(0)
    loss = lambda p: jnp.sum(p["w"] ** 4)  # noqa: E731
    make = lambda x: x.contrib.sophia(0.1)  # noqa: E731
    ours, theirs = make(gradtx).init(params), make(optax).init(params)
    assert_close(gradtx.tree.get(ours, "key"), gradtx.tree.get(theirs, "key"), rtol=0, atol=0)
    restored = flax.serialization.from_bytes(ours, flax.serialization.to_bytes(theirs))
    assert gradtx.tree.get(restored, "key").dtype == jnp.uint32
    estimate, typed = gradtx.contrib.hutchinson_estimator_diag_hessian, jax.random.key(0)
    made = [estimate(given) for given in (0, bits, typed)]
    steps = [tx.update(params, tx.init(params), params, obj_fn=loss) for tx in made]
    for updates, state in steps:
        assert_close(updates, steps[0][0], rtol=0, atol=0)
        assert_close(state, steps[0][1], rtol=0, atol=0)
    assert steps[2][1].key.dtype == typed.dtype
    # A state from before, when it was a key of the other kind.
    flat = gradtx.state_dict(made[2], steps[2][1])
    assert_close(gradtx.load_state_dict(made[0], made[0].init(params), flat), steps[0][1], rtol=0, atol=0)
    assert_close(made[0].update(params, made[2].init(params), params, obj_fn=loss)[0], steps[0][0])

"""Outer optimizers: replicas in a batch, on a mesh and in processes; what they are, and what they cost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import gradtx
from tests.laws import assert_close, looped, pair
from tests.oracles import formulas as f
from tests.oracles import modern as n
from tests.replicas import REPLICAS, STEPS, diloco, gradients, start, step_on_shards

P = PartitionSpec


def expected() -> np.ndarray:
    """The way of all replicas by the paper, in NumPy."""
    make = lambda: f.then(f.adam(), f.times(-0.1))  # noqa: E731
    update = n.diloco(make, f.then(f.momentum(0.9, True), f.times(-0.7)), 3, REPLICAS)
    params, way = np.tile(start(), (REPLICAS, 1)), []
    for step in range(STEPS):
        params = params + update(gradients(params, step), params)
        way.append(params)
    return np.stack(way)


def test_in_a_batch(x64) -> None:
    tx, params = diloco(), {"w": jnp.tile(start(), (REPLICAS, 1))}
    state = jax.vmap(tx.init)(params)
    update = jax.jit(jax.vmap(tx.update, axis_name="replica"))
    for step, wanted in enumerate(expected()):
        updates, state = update({"w": gradients(params["w"], step)}, state, params)
        params = gradtx.apply_updates(params, updates)
        np.testing.assert_allclose(params["w"], wanted, rtol=0, atol=1e-12)
    # For a conditional is one of the batch, with which a step of the outer optimizer every time would go.
    assert "cond[" in str(jax.make_jaxpr(update)({"w": params["w"]}, state, params))


@pytest.mark.parametrize("axes", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("shared", [False, True], ids=["stacked", "outer state shared"])
def test_on_a_mesh(axes: Any, shared: bool, x64) -> None:
    """The outer state may be one for all replicas, as it is, or a copy for each."""
    mesh = jax.make_mesh((REPLICAS,), ("replica",), axis_types=(axes,), devices=jax.devices()[:REPLICAS])
    tx, params = diloco(), jnp.tile(start(), (REPLICAS, 1))
    for step, (found, wanted) in enumerate(
        zip(step_on_shards(tx, mesh, params, shared), expected(), strict=True)
    ):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12, err_msg=str(step))


@pytest.mark.extra
def test_in_processes() -> None:
    """Four processes with a device each, over gloo: the numbers of the paper."""
    script = Path(__file__).parent / "replicas.py"
    environment = {
        **os.environ,
        "PYTHONPATH": str(script.parents[1]),
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
        "NPROC": "16",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1 --xla_cpu_multi_thread_eigen=false",
    }
    port = str(20_000 + os.getpid() % 20_000)
    processes = [
        subprocess.Popen(
            [sys.executable, script, port, str(i)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for i in range(REPLICAS)
    ]
    found = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * REPLICAS
    ways = np.stack([json.loads(text.splitlines()[-1]) for text in found], axis=1)
    np.testing.assert_allclose(ways, expected(), rtol=0, atol=1e-12)


INNER = {
    "adamw": gradtx.adamw(0.1, weight_decay=0.1),
    "momentum": gradtx.sgd(0.3, momentum=0.9),
    "lion": gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.lion(0.01)),
    "accumulated": gradtx.MultiSteps(gradtx.adam(0.1), 2),
}


@pytest.mark.parametrize("name", INNER)
def test_one_step_and_descent_by_one_are_the_optimizer(name: str, x64) -> None:
    inner, grads = INNER[name], [pair(i) for i in range(1, 8)]
    plain, _ = looped(inner, pair(0), grads)
    wrapped, state = looped(gradtx.outer_optimizer(inner, gradtx.sgd(1.0), 1), pair(0), grads)
    assert_close(wrapped, plain, rtol=0, atol=1e-12)
    assert_close(state.outer_params, plain, rtol=0, atol=1e-12)


def test_descent_is_lookahead(x64) -> None:
    grads = [pair(i) for i in range(1, 8)]
    found, state = looped(gradtx.outer_optimizer(gradtx.adam(0.1), gradtx.sgd(0.3), 3), pair(0), grads)
    wanted, slow = looped(gradtx.lookahead(gradtx.adam(0.1), 3, 0.3), pair(0), grads)
    known = gradtx.evaluation_params(state, found)
    assert_close((found, known), (wanted, slow.slow_params), rtol=0, atol=1e-12)


def test_between_its_steps_an_outer_optimizer_does_nothing() -> None:
    """What it keeps is read in the branch of a conditional alone, and overwritten where it is donated."""
    tx = gradtx.outer_optimizer(gradtx.sgd(0.1), gradtx.sgd(0.7, momentum=0.9), 3)
    params = jnp.zeros((64, 64))
    state = tx.init(params)
    jaxpr = jax.make_jaxpr(tx.update)(params, state, params)
    leaves = jax.tree.leaves(state)
    kept = [var for var, x in zip(jaxpr.jaxpr.invars[1:], leaves, strict=False) if x.ndim == 2]
    assert kept
    for var in kept:
        assert {eqn.primitive.name for eqn in jaxpr.eqns if var in eqn.invars} == {"cond"}
    step = jax.jit(tx.update, donate_argnums=(1,))
    memory = step.lower(params, state, params).compile().memory_analysis()
    assert memory.alias_size_in_bytes == sum(x.nbytes for x in leaves)


def test_names_are_those_of_both() -> None:
    tx = gradtx.outer_optimizer(gradtx.adam(0.1), gradtx.sgd(0.7, momentum=0.9), 3)
    names = gradtx.state_dict(tx, tx.init({"w": jnp.zeros(2)}))
    assert set(names) == {
        "outer_optimizer/steps_since_outer", "outer_optimizer/outer_params/w",
        "scale_by_adam/count", "scale_by_adam/mu/w", "scale_by_adam/nu/w", "trace/trace/w",
    }  # fmt: skip
    told = gradtx.hyperparams(tx, tx.init({"w": jnp.zeros(2)})).next
    assert told["every"] == 3 and told["decay"] == 0.9


def test_half_precision_arrives_at_the_outer_params() -> None:
    tx = gradtx.outer_optimizer(gradtx.sgd(1e-3), gradtx.sgd(1.0), 2)
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    state = tx.init(params)
    for _ in range(20):
        updates, state = tx.update({"w": jnp.ones(3, jnp.bfloat16)}, state, params)
        params = gradtx.apply_updates(params, updates)
        if state.steps_since_outer == 0:
            np.testing.assert_array_equal(params["w"], state.outer_params["w"].astype(jnp.bfloat16))


def test_bad_input() -> None:
    make = gradtx.outer_optimizer
    sgd = gradtx.sgd(0.1)
    for every, message in (
        (0, r"outer_optimizer: every must lie in \[1, inf\], got 0"),
        (2.5, "outer_optimizer: every must be a whole number, got 2.5"),
    ):
        with pytest.raises(ValueError, match=message):
            make(sgd, sgd, every)
    for arguments, message in (
        ((gradtx.sgd, sgd, 2), "outer_optimizer: inner is the function sgd"),
        ((sgd, 0.7, 2), "outer_optimizer: outer must be a gradient transformation"),
        ((sgd, sgd, 2, 0), "outer_optimizer: axis must be the name of an axis or None, got 0"),
    ):
        with pytest.raises(TypeError, match=message):
            make(*arguments)
    tx = make(sgd, sgd, 2, axis="replica")
    x, state = jnp.zeros(2), tx.init(jnp.zeros(2))
    with pytest.raises(
        ValueError, match=r"no axis 'replica' to average over here; those of .* are: none\. Update"
    ):
        tx.update(x, state, x)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    with pytest.raises(
        ValueError, match=r"no axis 'replica' to average over here; those of .* are: 'data'\. Up"
    ):
        jax.shard_map(tx.update, mesh=mesh, in_specs=P(), out_specs=P())(x, state, x)

"""Compiled training steps on the devices of a mesh, and what their text says of collectives."""

import math
import re
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8}

COLLECTIVE = re.compile(
    r" = (?P<result>\(.*?\)|\S+) (?P<kind>all-reduce|reduce-scatter|all-gather|all-to-all)(?:-start)?\("
)
SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")


def collectives(text: str, devices: int) -> tuple[Counter[str], Counter[str]]:
    """How many collectives of each kind a compiled program has, and their bytes on each device: of what is
    summed, scattered, or has been gathered."""
    counts, sizes = Counter[str](), Counter[str]()
    for line in text.splitlines():
        if found := COLLECTIVE.search(line):
            counts[found["kind"]] += 1
            size = sum(
                BYTES[kind] * math.prod(map(int, dims.split(",") if dims else []))
                for kind, dims in SHAPE.findall(found["result"])
            )
            sizes[found["kind"]] += size * (devices if found["kind"] == "reduce-scatter" else 1)
    return counts, sizes


def mesh_of(devices: int) -> Any:
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


def loss(params: Any, batch: Any) -> Any:
    """Of matrices and vectors: a gradient of every row of the batch, to be summed over all."""
    return sum(
        jnp.mean((batch[:, : x.shape[0]] @ x if x.ndim == 2 else batch[:, : x.shape[0]] * x) ** 2)
        for x in jax.tree.leaves(params)
    )


def in_jit(tx: Any, params: Any, mesh: Any, donate: Any = (0, 1), **given: Any) -> tuple[Any, Any, Any]:
    """A step of params that are whole everywhere, with the state in shards; the state, and a batch."""
    shardings = gradtx.sharding.of_state(tx, params, mesh, "data", **given)
    everywhere, rows = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec("data")))

    def step(params: Any, state: Any, batch: Any) -> Any:
        updates, state = tx.update(jax.grad(loss)(params, batch), state, params)
        return gradtx.apply_updates(params, updates), state

    jitted = jax.jit(
        step,
        in_shardings=(everywhere, shardings, rows),
        out_shardings=(everywhere, shardings),
        donate_argnums=donate,
    )
    return jitted, tx.init(params), batch_of(params, mesh)


def in_shard_map(tx: Any, params: Any, mesh: Any) -> tuple[Any, Any, Any]:
    """The same of `zero` with local gradients, which are scattered."""
    zero = gradtx.sharding.zero(tx, "data", gradients="local")
    specs = jax.tree.map(lambda x: x.spec, gradtx.sharding.of_state(zero, params, mesh, "data"))

    def step(params: Any, state: Any, batch: Any) -> Any:
        own = jax.lax.pcast(params, "data", to="varying")
        updates, state = zero.update(jax.grad(loss)(own, batch), state, params)
        return gradtx.apply_updates(params, updates), state

    whole = PartitionSpec()
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(whole, specs, PartitionSpec("data")), out_specs=(whole, specs)
    )
    return jax.jit(mapped, donate_argnums=(0, 1)), zero.init(params), batch_of(params, mesh)


def batch_of(params: Any, mesh: Any) -> Any:
    """The shape of a batch: two rows for each device."""
    width = max(x.shape[0] for x in jax.tree.leaves(params))
    return jax.ShapeDtypeStruct((2 * mesh.size, width), jnp.float32)

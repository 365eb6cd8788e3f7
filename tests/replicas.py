"""Replicas that train apart, with an outer optimizer over them; run, it is one process of several.

``python tests/replicas.py PORT INDEX`` prints where the params of this process are after each step.
"""

import json
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import gradtx

REPLICAS, STEPS, SIZE = 4, 8, 5
P = PartitionSpec


def start() -> np.ndarray:
    """Where all begin."""
    return np.linspace(-1.0, 1.0, SIZE)


def gradients(params: Any, step: int) -> Any:
    """Of a bowl for each replica, about another point, and noise; params and gradients are rows."""
    rng = np.random.default_rng(step)
    targets = np.random.default_rng(100).normal(size=(REPLICAS, SIZE))
    return params - targets + 0.3 * rng.normal(size=(REPLICAS, SIZE))


def diloco() -> gradtx.GradientTransformation:
    """Adam within, Nesterov's momentum outside, every three steps."""
    outer = gradtx.sgd(0.7, momentum=0.9, nesterov=True)
    return gradtx.outer_optimizer(gradtx.adam(0.1), outer, 3, axis="replica")


def step_on_shards(
    tx: gradtx.GradientTransformation, mesh: Any, params: Any, shared: bool = False
) -> Iterator[np.ndarray]:
    """After each step the params of all replicas, one to a device of the mesh.

    Args:
        tx: the optimizer.
        mesh: with an axis ``replica``.
        params: a row for each.
        shared: whether the state of the outer optimizer and all counts are on all devices once; otherwise
            each replica has its copy.
    """
    state = jax.vmap(tx.init)(params)
    specs: Any = jax.tree.map(lambda _: P("replica"), state)
    if shared:
        state = state._replace(
            outer_state=jax.tree.map(lambda x: x[0], state.outer_state),
            outer_params=state.outer_params[0],
            steps_since_outer=state.steps_since_outer[0],
        )
        whole = {"outer_state", "outer_params", "steps_since_outer"}
        specs = type(state)(
            **{
                name: jax.tree.map(lambda _, name=name: P() if name in whole else P("replica"), part)
                for name, part in state._asdict().items()
            }
        )

    def own(tree: Any) -> Any:
        return jax.tree.map(lambda x, spec: x[0] if spec else x, tree, specs)

    @jax.jit
    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(P("replica"), specs, P("replica")),
        out_specs=(P("replica"), specs),
    )
    def step(grads: Any, state: Any, params: Any) -> Any:
        updates, state = tx.update(grads[0], own(state), params[0])
        state = jax.tree.map(lambda x, spec: x[None] if spec else x, state, specs)
        return (params[0] + updates)[None], state

    put = lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec))  # noqa: E731
    state, params = jax.tree.map(put, state, specs), put(np.asarray(params), P("replica"))
    for i in range(STEPS):
        grads = jax.jit(gradients, static_argnums=1)(params, i)
        params, state = jax.block_until_ready(step(grads, state, params))
        yield params


def main(port: str, index: str) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", REPLICAS, int(index))
    mesh = jax.make_mesh((REPLICAS,), ("replica",), axis_types=(jax.sharding.AxisType.Auto,))
    params = jnp.tile(start(), (REPLICAS, 1))
    way = [x.addressable_shards[0].data[0].tolist() for x in step_on_shards(diloco(), mesh, params)]
    print(json.dumps(way), flush=True)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The processor time of two processes that share Muon's matrices, beside two that each do all.

python benchmarks/sharding_processes.py COORDINATOR PROCESS
"""

import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

import gradtx

COUNT, SIZE, STEPS = 8, 384, 10


def ratio() -> dict[str, float]:
    """Of the processor time of a step, in the first process."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, coordinator, str(i)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in started]
    return json.loads(outputs[0].splitlines()[-1])


def main(coordinator: str, process: str) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, 2, int(process))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    muon = gradtx.contrib.muon(0.02)
    seconds = {}
    for name, tx in {"alone": muon, "shared": gradtx.sharding.shared_out(muon, "data")}.items():
        seconds[name] = time_of(tx, mesh)
    print(json.dumps({**seconds, "ratio": seconds["shared"] / seconds["alone"]}))


def time_of(tx: Any, mesh: Any) -> float:
    """The processor time of a step, the least of some."""
    whole = PartitionSpec()
    mapped = jax.shard_map(tx.update, mesh=mesh, in_specs=whole, out_specs=whole)
    step = jax.jit(lambda params, state: mapped(params, state, params))

    def make() -> Any:
        keys = jax.random.split(jax.random.key(0), COUNT)
        params = {f"w{i}": jax.random.normal(key, (SIZE, SIZE)) for i, key in enumerate(keys)}
        return params, tx.init(params)

    params, state = jax.jit(make, out_shardings=jax.sharding.NamedSharding(mesh, whole))()
    taken = []
    for _ in range(STEPS + 1):
        begin = time.process_time()
        _, state = jax.block_until_ready(step(params, state))
        taken.append(time.process_time() - begin)
    return min(taken[1:])


if __name__ == "__main__":
    main(*sys.argv[1:])

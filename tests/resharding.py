"""A training in several processes that saves its state, or resumes from a checkpoint; see test_processes.py.

python -m tests.resharding COORDINATOR COUNT PROCESS FOLDER [ROAD]
"""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx
from tests.laws import normal
from tests.processes import join

TX = gradtx.chain(
    gradtx.clip_by_global_norm(1.0),
    gradtx.partition(
        {"matrix": gradtx.contrib.muon(0.02), "factored": gradtx.adafactor(0.1), "rest": gradtx.adamw(0.01)},
        {"w": "matrix", "f": "factored", "v": "rest", "odd": "rest", "s": "rest"},
    ),
)
SHAPES = {"w": (16, 24), "f": (160, 144), "v": (1024,), "odd": (5, 7), "s": ()}
"""4 and 2 divide some dimension of the first three, 3 not that of v, and nothing those of the others."""
STEPS = 5


class Training:
    """Params, whole in every process, and the state in shards."""

    def __init__(self) -> None:
        mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
        self.everywhere, self.rows = (
            NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec("data"))
        )
        self.params = jax.tree.map(lambda x: self.placed(np.asarray(x), self.everywhere), normal(SHAPES, 0))
        self.shardings = gradtx.sharding.of_state(TX, self.params, mesh, "data", min_size=0)
        self.state = gradtx.sharding.init(TX, self.params, self.shardings)

        def step(params: Any, state: Any, batch: jax.Array) -> Any:
            def loss(params: Any) -> jax.Array:
                errors = [
                    jnp.mean((x - jnp.mean(batch)) ** 2 * (2 + batch[:, *[None] * x.ndim]))
                    for x in jax.tree.leaves(params)
                ]
                return sum(errors[1:], errors[0])

            updates, state = TX.update(jax.grad(loss)(params), state, params)
            return gradtx.apply_updates(params, updates), state

        self.step = jax.jit(step, out_shardings=(self.everywhere, self.shardings))

    @staticmethod
    def placed(x: np.ndarray, sharding: NamedSharding) -> jax.Array:
        return jax.make_array_from_callback(x.shape, sharding, x.__getitem__)

    def run(self, first: int) -> None:
        for i in range(first, first + STEPS):
            batch = self.placed(np.random.default_rng(i).normal(size=12), self.rows)
            self.params, self.state = jax.block_until_ready(self.step(self.params, self.state, batch))

    def whole(self, tree: Any) -> Any:
        """The arrays in NumPy, all shards of each."""
        everywhere = jax.jit(lambda x: x, out_shardings=self.everywhere)(tree)
        return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), everywhere)

    def save(self, folder: Path) -> None:
        flat = gradtx.state_dict(TX, self.state)
        for name, state in {"plain": self.state, "named": flat}.items():
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(folder / name, {"params": self.params, "state": state})

    def load(self, folder: Path, road: str) -> None:
        flat = gradtx.state_dict(TX, self.state)
        target = {"params": self.params, "state": self.state if road == "plain" else flat}
        with ocp.StandardCheckpointer() as checkpointer:
            saved = checkpointer.restore(folder / road, jax.tree.map(ocp.utils.to_shape_dtype_struct, target))
        self.params, state = saved["params"], saved["state"]
        self.state = state if road == "plain" else gradtx.load_state_dict(TX, self.state, state)


def main(coordinator: str, count: str, process: str, folder: str, *roads: str) -> None:
    join(coordinator, count, process)
    base = Path(folder)
    if not roads:
        training = Training()
        training.run(0)
        training.save(base)
        finish(training, base / "expected.npz")
    for road in roads:
        training = Training()
        training.load(base, road)
        for x, sharding in zip(
            jax.tree.leaves(training.state), jax.tree.leaves(training.shardings), strict=True
        ):
            assert x.sharding.is_equivalent_to(sharding, x.ndim), (x.sharding, sharding)
        finish(training, base / f"{road} on {count}.npz")


def finish(training: Training, path: Path) -> None:
    """Train on, and write down what came out."""
    training.run(STEPS)
    flat = training.whole({**training.params, **gradtx.state_dict(TX, training.state)})
    if jax.process_index() == 0:
        np.savez(path, **flat)


if __name__ == "__main__":
    main(*sys.argv[1:])

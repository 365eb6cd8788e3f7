"""Train the network of digits.py on several devices: the batch and the optimizer's state in shards.

    python examples/sharded.py                    # on 8 devices that XLA makes of a CPU
    python examples/sharded.py --platform cuda    # on all GPUs of this machine

Every device has the network whole and a share of each batch; of the optimizer's state it has a share, and
updates that. You should see how many bytes that saves, and the accuracy of digits.py. On TPUs, and on GPUs
of several machines, the same code runs under another launcher: see several_processes.py.
"""

from collections.abc import Callable
from typing import Any

import jax
from absl import app, flags
from digits_data import QUICK, Digits, accuracy, batch_at, cross_entropy, load
from digits_network import Network
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import gradtx

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", 30 if QUICK else 300, "updates in all", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "images per update, a multiple of the devices", lower_bound=1)
flags.DEFINE_enum("platform", "cpu", ["cpu", "cuda", "tpu"], "what to train on")


def make_mesh() -> Mesh:
    """All devices, of all processes, along one axis."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def make_optimizer(steps: int) -> gradtx.GradientTransformation:
    """Clipped AdamW that decays neither biases nor norms."""
    schedule = gradtx.warmup_cosine_decay_schedule(0.0, 3e-3, steps // 10, decay_steps=steps)
    adamw = gradtx.adamw(schedule, weight_decay=0.1)
    undecayed = {r".*(bias|scale)": {"weight_decay": 0.0}}
    return gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.groups(adamw, undecayed))


class Training:
    """A network, whole on every device of a mesh, and its optimizer, whose state is spread over them."""

    def __init__(self, tx: gradtx.GradientTransformation, mesh: Mesh):
        self.mesh = mesh
        everywhere = NamedSharding(mesh, PartitionSpec())
        network = nnx.eval_shape(lambda: Network(nnx.Rngs(0)))
        self.params = nnx.as_pure(nnx.state(network, nnx.Param))
        self.shardings = gradtx.sharding.of_state(tx, self.params, mesh, axis="data")

        def place(network: Network, optimizer: nnx.Optimizer) -> None:
            """Say where everything is to lie: XLA computes each part there, and nowhere else."""
            state = jax.lax.with_sharding_constraint(nnx.as_pure(optimizer.opt_state), self.shardings)
            nnx.update(optimizer.opt_state, nnx.state(state))
            nnx.update(network, jax.lax.with_sharding_constraint(nnx.state(network), everywhere))

        @nnx.jit
        def create() -> tuple[Network, nnx.Optimizer]:
            network = Network(nnx.Rngs(0))
            optimizer = nnx.Optimizer(network, tx, wrt=nnx.Param)
            place(network, optimizer)
            return network, optimizer

        @nnx.jit
        def step(network: Network, optimizer: nnx.Optimizer, batch: Digits) -> jax.Array:
            def loss_of(network: Network) -> jax.Array:
                return cross_entropy(network(batch.images, training=True), batch.labels)

            loss, grads = nnx.value_and_grad(loss_of)(network)
            optimizer.update(network, grads)
            place(network, optimizer)
            return loss

        self.network, self.optimizer = create()
        self._step: Callable[..., jax.Array] = step

    def step(self, batch: Digits) -> float:
        """Train for one step; the loss before it."""
        return float(self._step(self.network, self.optimizer, self.spread(batch)))

    def spread(self, batch: Digits) -> Digits:
        """The batch over all devices; each process hands out the rows of its own devices."""
        rows = NamedSharding(self.mesh, PartitionSpec("data"))
        return Digits(*(jax.make_array_from_callback(x.shape, rows, x.__getitem__) for x in batch))

    @property
    def report(self) -> gradtx.sharding.Report:
        """What the state takes on each device."""
        return gradtx.sharding.report(self.optimizer.tx, self.params, self.shardings)

    @property
    def state(self) -> Any:
        """All arrays, each on its devices: what a checkpoint is made of, and restored to."""
        return nnx.as_pure(nnx.state((self.network, self.optimizer)))

    @state.setter
    def state(self, arrays: Any) -> None:
        nnx.update((self.network, self.optimizer), arrays)

    def accuracy(self, test: Digits) -> float:
        """The share of right answers, computed by each process for itself."""
        here = jax.tree.map(lambda x: x.addressable_data(0), nnx.state(self.network))
        graph = nnx.graphdef(self.network)
        return float(jax.jit(lambda state: accuracy(nnx.merge(graph, state)(test.images), test.labels))(here))


def main(_: list[str]) -> None:
    jax.config.update("jax_platforms", FLAGS.platform)
    jax.config.update("jax_num_cpu_devices", 8)
    train, test = load()
    training = Training(make_optimizer(FLAGS.steps), make_mesh())
    print(training.report)
    for i in range(FLAGS.steps):
        loss = training.step(batch_at(train, i, FLAGS.batch_size, shift=1))
        if i % (FLAGS.steps // 10 or 1) == 0:
            print(f"step {i + 1:4}  loss {loss:.4f}")
    print(f"test accuracy {training.accuracy(test):.2%}")


if __name__ == "__main__":
    app.run(main)

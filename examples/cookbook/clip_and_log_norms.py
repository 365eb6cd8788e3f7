"""Gradient clipping by the global norm, with the norm before it in the log, and norms by tensor.

    python examples/cookbook/clip_and_log_norms.py --out build/examples

You should see norms of gradients, some of them above 1, which are cut to 1, and find the picture norms.png in
the folder --out.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.style
from absl import app, flags
from digits_data import Digits, batch_at, cross_entropy, load
from flax import linen as nn
from flax.training.train_state import TrainState

import gradtx

FLAGS = flags.FLAGS
flags.DEFINE_string("out", "build/examples", "folder for the picture")

STEPS = 50

# --8<-- [start:step]
norms = gradtx.tree.norms  # of each tensor
tx = gradtx.chain(
    gradtx.monitor({"grad_norm": gradtx.global_norm, "gradients": norms}),
    gradtx.clip_by_global_norm(1.0),
    gradtx.snapshot("clipped_norm", gradtx.global_norm),
    gradtx.adamw(1e-3),
    gradtx.snapshot("updates", norms),
)
MEASURED = ("grad_norm", "gradients", "clipped_norm", "updates")


@jax.jit
def train_step(state: TrainState, batch):
    def loss_of(params):
        logits = state.apply_fn({"params": params}, batch.images)
        return cross_entropy(logits, batch.labels)

    loss, grads = jax.value_and_grad(loss_of)(state.params)
    state = state.apply_gradients(grads=grads)
    row = {name: gradtx.tree.get(state.opt_state, name) for name in MEASURED}
    return state, {"loss": loss, **row}


# --8<-- [end:step]


def main(_: list[str]) -> None:
    train, _ = load()
    network = nn.Sequential([jnp.ravel, nn.Dense(64), nn.relu, nn.Dense(10)])
    params = network.init(jax.random.key(0), train.images[0])["params"]
    forward = jax.vmap(network.apply, in_axes=(None, 0))
    state, log = TrainState.create(apply_fn=forward, params=params, tx=tx), []
    for step in range(STEPS):
        batch = batch_at(train, step, 128)
        batch = Digits(4 * batch.images, batch.labels)  # too bright: steep at first
        state, row = train_step(state, batch)
        log.append(row)
        if step % 10 == 0:
            print(
                f"step {step + 1:3}  loss {row['loss']:.3f}  norm {row['grad_norm']:.2f}"
            )
    path = Path(FLAGS.out) / "norms.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    matplotlib.style.use(Path(__file__).parents[1] / "gradtx.mplstyle")
    # --8<-- [start:draw]
    history = [{name: row[name] for name in ("gradients", "updates")} for row in log]
    gradtx.plot.updates(history).savefig(path)
    # --8<-- [end:draw]
    print(f"picture: {path}")

    assert max(row["grad_norm"] for row in log) > 1
    assert all(row["clipped_norm"] < 1 + 1e-5 for row in log)
    for row in log:
        parts = jnp.stack(jax.tree.leaves(row["gradients"]))
        assert jnp.allclose(jnp.linalg.norm(parts), row["grad_norm"], rtol=1e-5)


if __name__ == "__main__":
    app.run(main)

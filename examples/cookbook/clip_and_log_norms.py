"""Gradient clipping by the global norm, with the norm before it in the log, and norms by layer.

    python examples/cookbook/clip_and_log_norms.py

You should see norms of gradients, some of them above 1, which are cut to 1.
"""

import jax
import jax.numpy as jnp
from digits_data import Digits, batch_at, cross_entropy, load
from flax import linen as nn
from flax.training.train_state import TrainState

import gradtx

STEPS = 50
train, test = load()
network = nn.Sequential([jnp.ravel, nn.Dense(64), nn.relu, nn.Dense(10)])
forward = jax.vmap(network.apply, in_axes=(None, 0))


# --8<-- [start:step]
def norms(updates):
    """The norm of each layer."""
    return {
        name: gradtx.global_norm(layer) for name, layer in updates["params"].items()
    }


tx = gradtx.chain(
    gradtx.monitor(
        {"grad_norm": gradtx.global_norm, "layer_norms": norms}
    ),  # before clipping
    gradtx.clip_by_global_norm(1.0),
    gradtx.snapshot("clipped_norm", gradtx.global_norm),  # and after it
    gradtx.adamw(1e-3),
)


@jax.jit
def train_step(state: TrainState, batch):
    def loss_of(params):
        return cross_entropy(state.apply_fn(params, batch.images), batch.labels)

    loss, grads = jax.value_and_grad(loss_of)(state.params)
    state = state.apply_gradients(grads=grads)
    names = ("grad_norm", "clipped_norm", "layer_norms")
    return state, {"loss": loss} | {
        name: gradtx.tree.get(state.opt_state, name) for name in names
    }


# --8<-- [end:step]

params = network.init(jax.random.key(0), train.images[0])
state = TrainState.create(apply_fn=forward, params=params, tx=tx)
log = []
for step in range(STEPS):
    batch = batch_at(train, step, 128)
    state, row = train_step(
        state, Digits(4 * batch.images, batch.labels)
    )  # too bright: steep at first
    log.append(row)
    if step % 10 == 0:
        layers = ", ".join(
            f"{name} {norm:.2f}" for name, norm in row["layer_norms"].items()
        )
        print(
            f"step {step + 1:3}  loss {row['loss']:.3f}  norm {row['grad_norm']:.2f} ({layers})"
        )

assert max(row["grad_norm"] for row in log) > 1
assert all(row["clipped_norm"] < 1 + 1e-5 for row in log)
for row in log:
    parts = jnp.stack(list(row["layer_norms"].values()))
    assert jnp.allclose(jnp.linalg.norm(parts), row["grad_norm"], rtol=1e-5)

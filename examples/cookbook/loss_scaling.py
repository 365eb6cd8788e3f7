"""Mixed precision: compute in float16 with a dynamic loss scale, keep the params in float32.

    python examples/cookbook/loss_scaling.py

You should see the loss fall, the scale halve where a gradient overflows, and that step left out.
"""

import jax
import jax.numpy as jnp
from digits_data import Digits, accuracy, batch_at, cross_entropy, load
from flax import nnx

import gradtx

STEPS = 60
train, test = load()


class Network(nnx.Module):
    def __init__(self, dtype, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(
            64, 64, dtype=dtype, rngs=rngs
        )  # computes in dtype; params in float32
        self.out = nnx.Linear(64, 10, dtype=dtype, rngs=rngs)

    def __call__(self, images):
        return self.out(nnx.relu(self.hidden(images.reshape(len(images), -1))))


# --8<-- [start:step]
model = Network(jnp.float16, nnx.Rngs(0))
tx = gradtx.dynamic_loss_scale(
    gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(3e-3)),
    init_scale=2.0**20,
    growth_interval=20,
)
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, batch):
    def loss_of(model):
        loss = cross_entropy(model(batch.images).astype(jnp.float32), batch.labels)
        return gradtx.scale_loss(loss, optimizer.opt_state), loss

    (_, loss), grads = nnx.value_and_grad(loss_of, has_aux=True)(model)
    optimizer.update(model, grads)
    state = optimizer.opt_state
    return {
        name: gradtx.tree.get(state, name) for name in ("loss_scale", "total_notfinite")
    } | {"loss": loss}


# --8<-- [end:step]

log = []
for step in range(STEPS):
    batch = batch_at(train, step, 128)
    if step == 30:
        batch = Digits(batch.images * 1e5, batch.labels)  # overflows in float16
    log.append(
        {name: float(x) for name, x in train_step(model, optimizer, batch).items()}
    )
    if step % 10 == 0:
        row = log[-1]
        print(
            f"step {step + 1:2}  loss {row['loss']:.3f}  scale {row['loss_scale']:.0f}  "
            f"left out {row['total_notfinite']:.0f}"
        )

right = accuracy(model(test.images), test.labels)
print(f"test accuracy {right:.1%}")
assert right > 0.85
assert log[30]["loss_scale"] == log[29]["loss_scale"] / 2
assert log[30]["total_notfinite"] == log[29]["total_notfinite"] + 1
assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
assert model.hidden.kernel.dtype == jnp.float32

"""Layer-wise learning-rate decay: the further a layer is from the head, the smaller its rate.

    python examples/cookbook/layerwise_decay.py

You should see the learning rate of each layer, all of one schedule, and that a first step of Adam is as long.
"""

import jax
import jax.numpy as jnp
from digits_data import batch_at, cross_entropy, load
from flax import nnx

import gradtx

LAYERS, DECAY = 4, 0.8
train, _ = load()


class Network(nnx.Module):
    """An embedding, blocks one after the other, and a head."""

    def __init__(self, rngs: nnx.Rngs):
        self.embed = nnx.Linear(64, 32, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(32, 32, rngs=rngs) for _ in range(LAYERS)])
        self.head = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, images):
        x = self.embed(images.reshape(len(images), -1))
        for block in self.blocks:
            x = x + nnx.relu(block(x))
        return self.head(x)


# --8<-- [start:optimizer]
tx = gradtx.groups(
    gradtx.adamw(gradtx.cosine_decay_schedule(1e-2, 100)),
    {
        r"embed/.*": {"learning_rate": gradtx.relative(DECAY ** (LAYERS + 1))},
        r"blocks/(\d+)/.*": {
            "learning_rate": gradtx.relative(lambda depth: DECAY ** (LAYERS - depth))
        },
    },
)
# --8<-- [end:optimizer]

model = Network(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
before = nnx.to_pure_dict(nnx.clone(nnx.state(model, nnx.Param)))


@nnx.jit
def train_step(model, optimizer, batch):
    def loss_of(model):
        return cross_entropy(model(batch.images), batch.labels)

    optimizer.update(model, nnx.grad(loss_of)(model))


# --8<-- [start:log]
numbers = gradtx.hyperparams(tx, optimizer.opt_state, nnx.state(model, nnx.Param))
for name, rate in numbers.next.items():
    if name.endswith("learning_rate"):
        print(f"{rate:.5f}  {name}")
# --8<-- [end:log]

train_step(model, optimizer, batch_at(train, 0, 128))
after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
# The first step of Adam is as long as the learning rate, wherever there is a gradient.
longest = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), before, after)
assert jnp.allclose(longest["head"]["kernel"], 1e-2, rtol=2e-2)
assert jnp.allclose(longest["embed"]["kernel"], 1e-2 * DECAY ** (LAYERS + 1), rtol=2e-2)
for depth, block in longest["blocks"].items():
    assert jnp.allclose(block["kernel"], 1e-2 * DECAY ** (LAYERS - depth), rtol=2e-2)

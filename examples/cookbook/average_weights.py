"""EMA of the weights, and evaluating with them.

    python examples/cookbook/average_weights.py

You should see that the averaged weights have a lower test loss than those that are trained, which jump about
at a high learning rate.
"""

import jax
from digits_data import accuracy, batch_at, cross_entropy, load
from flax import nnx

import gradtx

STEPS = 200
train, test = load()

# --8<-- [start:step]
rngs = nnx.Rngs(0)
model = nnx.Sequential(
    nnx.Linear(64, 64, rngs=rngs), nnx.relu, nnx.Linear(64, 10, rngs=rngs)
)
tx = gradtx.chain(
    gradtx.adamw(0.03),
    # Last, where it sees the steps that the weights take.
    gradtx.average_params(gradtx.ema_warmup(0.99)),
)
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, batch):
    def loss_of(model):
        return cross_entropy(model(batch.images.reshape(-1, 64)), batch.labels)

    loss, grads = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, grads)
    return loss


def averaged(model, optimizer):
    """A copy of the model with the averaged weights."""
    params = nnx.state(model, nnx.Param)
    copy = nnx.clone(model)
    nnx.update(copy, gradtx.evaluation_params(optimizer.opt_state, params))
    return copy


# --8<-- [end:step]


@nnx.jit
def evaluate(model) -> tuple[jax.Array, jax.Array]:
    logits = model(test.images.reshape(-1, 64))
    return cross_entropy(logits, test.labels), accuracy(logits, test.labels)


losses = {"trained": [], "averaged": []}
for step in range(STEPS):
    train_step(model, optimizer, batch_at(train, step, 32))
    if step % 20 == 19:
        for name, net in (("trained", model), ("averaged", averaged(model, optimizer))):
            loss, right = evaluate(net)
            losses[name].append(float(loss))
            print(
                f"step {step + 1:3}  {name:8}  test loss {loss:.3f}  accuracy {right:.1%}"
            )

latest = {name: sum(x[-5:]) / 5 for name, x in losses.items()}
assert latest["averaged"] < 0.9 * latest["trained"], latest

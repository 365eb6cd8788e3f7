"""Gradient accumulation: four small batches make one step, over four calls or within one.

    python examples/cookbook/accumulation.py

You should see the loss fall, and three ways to the same params: one batch of 128, four batches of 32 given
to `MultiSteps`, and a batch of 128 whose gradient is computed in four parts.
"""

import jax
import jax.numpy as jnp
from digits_data import Digits, batch_at, cross_entropy, init_mlp, load, mlp

import gradtx
from gradtx.microbatching import AccumulationType

STEPS, SIZE, PARTS = 30, 128, 4
train, test = load()


def loss_of(params, batch: Digits) -> jax.Array:
    return cross_entropy(mlp(params, batch.images), batch.labels)


# --8<-- [start:calls]
tx = gradtx.MultiSteps(gradtx.adamw(1e-2), every_k_schedule=PARTS)


@jax.jit
def train_step(params, state, batch):
    loss, grads = jax.value_and_grad(loss_of)(params, batch)
    updates, state = tx.update(grads, state, params)  # 0, but for every fourth call
    return gradtx.apply_updates(params, updates), state, loss


# --8<-- [end:calls]
# --8<-- [start:within]
adamw = gradtx.adamw(1e-2)
in_parts = gradtx.microbatch(
    jax.value_and_grad(loss_of),
    argnums=1,
    microbatch_size=SIZE // PARTS,
    accumulator=AccumulationType.MEAN,
)


@jax.jit
def step_in_parts(params, state, batch):
    loss, grads = in_parts(params, batch)
    updates, state = adamw.update(grads, state, params)
    return gradtx.apply_updates(params, updates), state, loss


# --8<-- [end:within]


@jax.jit
def step_at_once(params, state, batch):
    loss, grads = jax.value_and_grad(loss_of)(params, batch)
    updates, state = adamw.update(grads, state, params)
    return gradtx.apply_updates(params, updates), state, loss


ways = {}
for name, optimizer, step in (
    ("four calls", tx, train_step),
    ("in parts", adamw, step_in_parts),
    ("at once", adamw, step_at_once),
):
    params = init_mlp(jax.random.key(0))
    state = optimizer.init(params)
    for i in range(STEPS):
        batch = batch_at(train, i, SIZE)
        small = [Digits(*(x[part::PARTS] for x in batch)) for part in range(PARTS)]
        for given in small if step is train_step else [batch]:
            params, state, loss = step(params, state, given)
    ways[name] = params
    print(f"{name:10}  test loss {loss_of(params, test):.5f}")

for params in ways.values():
    assert all(
        jnp.allclose(a, b, atol=2e-4)
        for a, b in zip(
            jax.tree.leaves(params), jax.tree.leaves(ways["at once"]), strict=True
        )
    )
assert loss_of(ways["four calls"], test) < 0.6

"""Early stopping and reduce-on-plateau, both by the validation loss.

    python examples/cookbook/early_stopping.py

You should see the validation loss of each epoch, the learning rate being cut when it stops falling, and the
end of the training after some epochs without a new best.
"""

import jax
import jax.numpy as jnp
from digits_data import Digits, batches, cross_entropy, init_mlp, load, mlp

import gradtx
from gradtx.contrib import reduce_on_plateau

EPOCH, EPOCHS = 5, 60  # steps of an epoch, epochs at most
train, validation = load()
few = Digits(train.images[:200], train.labels[:200])  # so few that it overfits


def loss_of(params, batch: Digits) -> jax.Array:
    return cross_entropy(mlp(params, batch.images), batch.labels)


# --8<-- [start:optimizer]
tx = gradtx.chain(
    gradtx.adam(0.02),
    reduce_on_plateau(factor=0.3, patience=2, rtol=0.01, accumulation_size=EPOCH),
)


@jax.jit
def train_epoch(params, state, data, validation_loss):
    """One epoch, in which every update is told the validation loss before it."""

    def step(carry, batch):
        params, state = carry
        loss, grads = jax.value_and_grad(loss_of)(params, batch)
        updates, state = tx.update(grads, state, params, value=validation_loss)
        return (gradtx.apply_updates(params, updates), state), loss

    (params, state), losses = jax.lax.scan(step, (params, state), data)
    return params, state, jnp.mean(losses), loss_of(params, validation)


# --8<-- [end:optimizer]
# --8<-- [start:loop]
patience = 6
params = init_mlp(jax.random.key(0))
state, validation_loss = tx.init(params), loss_of(params, validation)
best, best_loss, best_epoch, scales = params, validation_loss, 0, []
for epoch in range(1, EPOCHS + 1):
    data = batches(few, EPOCH, size=128, seed=epoch)
    params, state, loss, validation_loss = train_epoch(
        params, state, data, validation_loss
    )
    scales.append(float(gradtx.tree.get(state, "scale")))
    print(
        f"epoch {epoch:2}  loss {loss:.4f}  validation {validation_loss:.4f}  "
        f"rate × {scales[-1]:.2g}"
    )
    if validation_loss < best_loss:
        best, best_loss, best_epoch = params, validation_loss, epoch
    elif epoch - best_epoch >= patience:
        break
# --8<-- [end:loop]

print(f"stopped at epoch {epoch}; best: {best_loss:.4f} at epoch {best_epoch}")
assert epoch < EPOCHS and epoch - best_epoch == patience
assert loss_of(best, validation) == best_loss < 0.6
assert scales[0] == 1.0 and scales[-1] < 0.5 and scales == sorted(scales, reverse=True)

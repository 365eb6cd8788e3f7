"""Log the learning rate in force: of a schedule, of groups, and after `partition`.

    python examples/cookbook/log_learning_rates.py

You should see the learning rates of body and head, and those of SGD and AdamW, step by step.
"""

import jax
from digits_data import batch_at, cross_entropy, init_mlp, load, mlp

import gradtx

STEPS = 20
train, _ = load()

# --8<-- [start:optimizers]
schedule = gradtx.warmup_cosine_decay_schedule(
    0.0, 1e-2, warmup_steps=5, decay_steps=STEPS
)

grouped = gradtx.groups(gradtx.adamw(schedule), {r"layer1/.*": {"learning_rate": 1e-3}})
partitioned = gradtx.partition(
    {"matrices": gradtx.sgd(schedule, momentum=0.9), "rest": gradtx.adamw(1e-3)},
    {r".*kernel": "matrices", r".*": "rest"},
)
# --8<-- [end:optimizers]


# --8<-- [start:step]
@jax.jit
def train_step(tx, params, state, batch):
    def loss_of(params):
        return cross_entropy(mlp(params, batch.images), batch.labels)

    loss, grads = jax.value_and_grad(loss_of)(params)
    updates, state = tx.update(grads, state, params)
    numbers = gradtx.hyperparams(tx, state).last  # those of this update
    rates = {
        name: number for name, number in numbers.items() if "learning_rate" in name
    }
    return gradtx.apply_updates(params, updates), state, {"loss": loss, **rates}


# --8<-- [end:step]

for tx in (grouped, partitioned):
    params = init_mlp(jax.random.key(0))
    state, log = tx.init(params), []
    for step in range(STEPS):
        params, state, row = train_step(tx, params, state, batch_at(train, step, 128))
        log.append(row)
        if step % 5 == 0:
            print(
                f"step {step + 1:2}  "
                + "  ".join(f"{name} {x:.4g}" for name, x in row.items())
            )
    print()
    rates = [name for name in log[0] if name != "loss"]
    assert len(rates) == 2, rates
    of_schedule, fixed = sorted(rates, key=lambda name: float(log[0][name]))
    assert all(
        abs(row[of_schedule] - schedule(step)) < 1e-7 for step, row in enumerate(log)
    )
    assert all(abs(row[fixed] - 1e-3) < 1e-9 for row in log)

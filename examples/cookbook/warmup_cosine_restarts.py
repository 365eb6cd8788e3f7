"""Learning-rate schedules: warm-up and cosine, warm restarts, and a stable middle with a decay at the end.

    python examples/cookbook/warmup_cosine_restarts.py --out build/examples

You should see the learning rates of a training, and find the picture schedules.png in the folder --out.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.style
from absl import app, flags
from digits_data import batches, cross_entropy, init_mlp, load, mlp

import gradtx

FLAGS = flags.FLAGS
flags.DEFINE_string("out", "build/examples", "folder for the picture")

STEPS, WARMUP, PEAK = 100, 10, 3e-3

# --8<-- [start:schedules]
cosine = gradtx.warmup_cosine_decay_schedule(
    0.0, PEAK, warmup_steps=WARMUP, decay_steps=STEPS
)

# Warm restarts: three cycles, each twice as long as the last, its peak 0.7 of it.
lengths = [STEPS // 7, 2 * (STEPS // 7), STEPS - 3 * (STEPS // 7)]
restarts = gradtx.sgdr_schedule(
    [
        {
            "init_value": 0.0,
            "peak_value": PEAK * 0.7**i,
            "warmup_steps": length // 10,
            "decay_steps": length,
        }
        for i, length in enumerate(lengths)
    ]
)

# Warm-up, a stable middle, and a straight decay over the last fifth.
stable = gradtx.join_schedules(
    [
        gradtx.linear_schedule(0.0, PEAK, WARMUP),
        gradtx.constant_schedule(PEAK),
        gradtx.linear_schedule(PEAK, 0.0, STEPS // 5),
    ],
    boundaries=[WARMUP, STEPS - STEPS // 5],
)
# --8<-- [end:schedules]


# --8<-- [start:train]
@jax.jit
def train(tx, params, data):
    """The params after a step for each batch, and the learning rates that were in force."""

    def step(carry, batch):
        params, state = carry
        grads = jax.grad(lambda p: cross_entropy(mlp(p, batch.images), batch.labels))(
            params
        )
        updates, state = tx.update(grads, state, params)
        rate = gradtx.hyperparams(tx, state).last["learning_rate"]
        return (gradtx.apply_updates(params, updates), state), rate

    (params, _), rates = jax.lax.scan(step, (params, tx.init(params)), data)
    return params, rates


# --8<-- [end:train]


def main(_: list[str]) -> None:
    train_set, test = load()
    data = batches(train_set, STEPS, size=128)
    schedules = {
        "Warm-up, cosine": cosine,
        "Restarts": restarts,
        "Warm-up, stable, decay": stable,
    }
    for name, schedule in schedules.items():
        tx = gradtx.adamw(schedule, weight_decay=0.1)
        params, rates = train(tx, init_mlp(jax.random.key(0)), data)
        loss = cross_entropy(mlp(params, test.images), test.labels)
        print(
            f"{name:22}  learning rate {', '.join(f'{x:.1e}' for x in rates[::20])}  loss {loss:.3f}"
        )
        assert jnp.allclose(
            rates, jax.vmap(schedule)(jnp.arange(STEPS)), rtol=1e-5, atol=1e-9
        )
        assert loss < 1.0
    path = Path(FLAGS.out) / "schedules.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    matplotlib.style.use(Path(__file__).parents[1] / "gradtx.mplstyle")
    # --8<-- [start:draw]
    gradtx.plot.schedule(schedules, STEPS).savefig(path)
    # --8<-- [end:draw]
    print(f"picture: {path}")


if __name__ == "__main__":
    app.run(main)

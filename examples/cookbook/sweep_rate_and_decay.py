"""A hyperparameter sweep in one program: learning rate × weight decay, with a heat map.

    python examples/cookbook/sweep_rate_and_decay.py --out build/examples

An optimizer is a value, so a grid of optimizers is a `vmap` over its numbers. You should see the best pair,
and find the picture sweep_rate_and_decay.png in the folder --out.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.style
import numpy as np
from absl import app, flags
from digits_data import QUICK, Digits, batches, cross_entropy, init_mlp, load, mlp
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import gradtx

FLAGS = flags.FLAGS
flags.DEFINE_integer(
    "steps", 40 if QUICK else 300, "updates of each training", lower_bound=1
)
flags.DEFINE_string("out", "build/examples", "folder for the picture")


def loss_of(params, data: Digits) -> jax.Array:
    return cross_entropy(mlp(params, data.images), data.labels)


# --8<-- [start:sweep]
def train(tx: gradtx.GradientTransformation, data: Digits, test: Digits) -> jax.Array:
    """The test loss after a training with this optimizer."""

    def step(carry, batch):
        params, state = carry
        updates, state = tx.update(jax.grad(loss_of)(params, batch), state, params)
        return (gradtx.apply_updates(params, updates), state), None

    params = init_mlp(jax.random.key(0))
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), data)
    return loss_of(params, test)


rates, decays = jnp.logspace(-3.5, -0.5, 7), jnp.logspace(-3, 1, 5)


def of_pair(rate, decay, data: Digits, test: Digits) -> jax.Array:
    return train(gradtx.adamw(rate, weight_decay=decay), data, test)


over_decays = jax.vmap(of_pair, in_axes=(None, 0, None, None))
sweep = jax.jit(
    jax.vmap(over_decays, in_axes=(0, None, None, None))
)  # losses[rate, decay]
# --8<-- [end:sweep]


def draw(losses: np.ndarray, path: Path) -> None:
    """The losses as a heat map, each with its number, the best in bold."""
    matplotlib.style.use(Path(__file__).parents[1] / "gradtx.mplstyle")
    figure = Figure(figsize=(8, 4.5))
    axes = figure.subplots()
    best, chance = np.nanmin(losses), np.log(10)
    shown = np.nan_to_num(losses.T, nan=chance, posinf=chance)
    axes.imshow(
        shown, "viridis_r", norm=LogNorm(best, chance), origin="lower", aspect="auto"
    )
    for (i, j), loss in np.ndenumerate(losses):
        text = f"{loss:.2f}" if loss < 10 else "diverged"
        colour = "black" if loss < np.sqrt(best * chance) else "white"
        weight = "bold" if loss == best else "normal"
        axes.text(i, j, text, ha="center", va="center", color=colour, weight=weight)
    axes.set_xticks(range(len(rates)), [f"{x:.1e}" for x in rates])
    axes.set_yticks(range(len(decays)), [f"{x:g}" for x in decays])
    axes.set(
        title="Test loss (nats), 35 trainings in one program", xlabel="Learning rate"
    )
    axes.set_ylabel("Weight decay")
    axes.grid(visible=False)
    figure.savefig(path)


def main(_: list[str]) -> None:
    train_set, test = load()
    losses = np.array(
        sweep(rates, decays, batches(train_set, FLAGS.steps, size=128), test)
    )
    i, j = np.unravel_index(np.nanargmin(losses), losses.shape)
    print(
        f"best: learning rate {rates[i]:.1e}, weight decay {decays[j]:g}, test loss {losses[i, j]:.3f}"
    )
    path = Path(FLAGS.out) / "sweep_rate_and_decay.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(losses, path)
    print(f"picture: {path}")
    alone = of_pair(
        float(rates[2]),
        float(decays[1]),
        batches(train_set, FLAGS.steps, size=128),
        test,
    )
    assert jnp.allclose(alone, losses[2, 1], rtol=1e-2), (alone, losses[2, 1])
    assert losses[i, j] < 0.5 < losses[0, j]


if __name__ == "__main__":
    app.run(main)

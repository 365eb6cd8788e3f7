"""Learn the numbers of an optimizer by gradient descent, through the training that they steer.

    python examples/hypergradients.py --out build/examples

An optimizer is a value, so `jax.grad` of the validation loss after a training, with respect to the
optimizer, is another optimizer value, which holds the slopes. You should see the learning rate rise from
1e-4, far too small, to about 1.5e-2, the weight decay fall from 1, far too large, the validation loss fall
with them, and find the picture hypergradients.png in the folder --out.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.style
from absl import app, flags
from digits_data import QUICK, Digits, batches, cross_entropy, init_mlp, load, mlp
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

import gradtx

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", 20 if QUICK else 100, "updates of each training", lower_bound=1)
flags.DEFINE_integer("outer_steps", 5 if QUICK else 40, "updates of the optimizer's numbers", lower_bound=1)
flags.DEFINE_string("out", "build/examples", "folder for the picture")


def loss_of(params, data: Digits) -> jax.Array:
    return cross_entropy(mlp(params, data.images), data.labels)


# --8<-- [start:validate]
@jax.jit
@jax.value_and_grad
def validate(tx: gradtx.GradientTransformation, data: Digits, validation: Digits) -> jax.Array:
    """The validation loss after a training with this optimizer; gives its slopes as well."""

    def step(carry, batch: Digits):
        params, state = carry
        updates, state = tx.update(jax.grad(loss_of)(params, batch), state, params)
        return (gradtx.apply_updates(params, updates), state), None

    params = init_mlp(jax.random.key(0))
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), data)
    return loss_of(params, validation)


# --8<-- [end:validate]


# --8<-- [start:learn]
def learn(tx: gradtx.GradientTransformation, names: tuple[str, ...], *data: Digits):
    """Descend on these numbers of an optimizer; gives one row of numbers and loss for each outer step.

    They are positive and of unknown size, so it is their logarithms that move: d/d(log x) = x d/dx.
    """
    outer = gradtx.adam(0.25, b1=0.8)
    logs = {name: jnp.log(tx.arguments[name]) for name in names}
    state = outer.init(logs)
    for _ in range(FLAGS.outer_steps):
        tx = tx.replace(**jax.tree.map(jnp.exp, logs))
        loss, slopes = validate(tx, *data)
        yield tx, loss, slopes
        grads = {name: tx.arguments[name] * slopes.arguments[name] for name in names}
        updates, state = outer.update(grads, state, logs)
        logs = gradtx.apply_updates(logs, updates)


# --8<-- [end:learn]


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """The numbers and the loss over outer steps, one above the other."""
    matplotlib.style.use(Path(__file__).with_name("gradtx.mplstyle"))
    figure = Figure(figsize=(8, 7))
    titles = {
        "learning_rate": "Learning rate",
        "weight_decay": "Weight decay",
        "loss": "Validation loss (nats)",
    }
    panels = figure.subplots(len(titles), sharex=True)
    for i, (axes, (name, title)) in enumerate(zip(panels, titles.items(), strict=True)):
        axes.semilogy([row[name] for row in rows], "o-", color=f"C{i}", markersize=4)
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))
        axes.set_title(title)
    panels[-1].set_xlabel("Outer step (trainings)")
    figure.savefig(path)


def main(_: list[str]) -> None:
    train, validation = load()
    data = batches(train, FLAGS.steps, size=128), validation
    names, rows = ("learning_rate", "weight_decay"), []
    for tx, loss, slopes in learn(gradtx.adamw(1e-4, weight_decay=1.0), names, *data):
        if not rows:
            print(f"slopes at the start: {slopes}\n")
        rows.append({name: tx.arguments[name] for name in names} | {"loss": float(loss)})
        print("  ".join(f"{name} {number:.2e}" for name, number in rows[-1].items()))
    path = Path(FLAGS.out) / "hypergradients.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(rows, path)
    print(f"\nlearned: {tx}\npicture: {path}")


if __name__ == "__main__":
    app.run(main)

"""Train with 16 learning rates at once: a batch of optimizers is an optimizer, mapped.

    python examples/sweep_learning_rates.py --out build/examples

`jax.vmap(gradtx.adamw)(rates)` is one optimizer value whose numbers are arrays, and the training is mapped
over it. You should see that two sweeps of 16 trainings, the second closer around the best rate of the first,
took one compilation, and find the picture sweep_learning_rates.png in the folder --out.
"""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.style
import numpy as np
from absl import app, flags
from digits_data import QUICK, Digits, accuracy, batches, cross_entropy, init_mlp, load, mlp
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import gradtx

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", 30 if QUICK else 400, "updates of each training", lower_bound=2)
flags.DEFINE_string("out", "build/examples", "folder for the picture")


TRACES = Counter()


class Sweep(NamedTuple):
    """Of 16 trainings: learning rates [16], losses [16, steps], and accuracies at the end [16]."""

    rates: jax.Array
    losses: jax.Array
    scores: jax.Array

    @property
    def best(self) -> float:
        """The learning rate with the highest accuracy."""
        return float(self.rates[jnp.argmax(self.scores)])


def train(tx: gradtx.GradientTransformation, data: Digits, test: Digits) -> tuple[jax.Array, jax.Array]:
    """The losses of a whole training with this optimizer, and the test accuracy at the end."""
    TRACES["train"] += 1  # Python gets here only while JAX traces the function: once per compilation

    def step(carry, batch: Digits):
        params, state = carry
        loss, grads = jax.value_and_grad(lambda p: cross_entropy(mlp(p, batch.images), batch.labels))(params)
        updates, state = tx.update(grads, state, params)
        return (gradtx.apply_updates(params, updates), state), loss

    params = init_mlp(jax.random.key(0))
    (params, _), losses = jax.lax.scan(step, (params, tx.init(params)), data)
    return losses, accuracy(mlp(params, test.images), test.labels)


def draw(wide: Sweep, close: Sweep, path: Path) -> None:
    """Loss curves by learning rate, and the accuracy at the end against the learning rate."""
    matplotlib.style.use(Path(__file__).with_name("gradtx.mplstyle"))
    figure = Figure(figsize=(10, 4.5))
    left, right = figure.subplots(1, 2)
    colour = ScalarMappable(LogNorm(wide.rates.min(), wide.rates.max()), "viridis_r")
    window = min(20, FLAGS.steps)
    for rate, losses in zip(wide.rates, wide.losses, strict=True):
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        left.semilogy(np.arange(len(smooth)) + window, smooth, color=colour.to_rgba(rate))
    left.set(
        title=f"Training loss (nats), mean over {window} steps", xlabel="Step (updates)", ylim=(None, 10)
    )
    figure.colorbar(colour, ax=left, label="Learning rate")
    right.semilogx(wide.rates, 100 * wide.scores, color="#94a3b8", linewidth=1)
    right.scatter(wide.rates, 100 * wide.scores, c=colour.to_rgba(wide.rates), zorder=3, label="first sweep")
    right.plot(close.rates, 100 * close.scores, "d", color="C3", markersize=4, label="second sweep, closer")
    right.set(title="Test accuracy at the end (%)", xlabel="Learning rate", ylim=(0, 103))
    right.legend(loc="lower center")
    figure.savefig(path)


def sweep(run: Callable[..., Any], low: float, high: float, *data: Digits) -> Sweep:
    """16 trainings, with learning rates from `low` to `high`."""
    rates = jnp.logspace(jnp.log10(low), jnp.log10(high), 16)
    start = time.perf_counter()
    result = Sweep(rates, *jax.block_until_ready(run(jax.vmap(gradtx.adamw)(rates), *data)))
    took = time.perf_counter() - start
    print(
        f"16 learning rates from {low:.1e} to {high:.1e} in {took:.1f} s: "
        f"{result.best:.1e} reads {result.scores.max():.1%} of the test digits right"
    )
    return result


def main(_: list[str]) -> None:
    train_set, test = load()
    data = batches(train_set, FLAGS.steps, size=128), test
    run = jax.jit(jax.vmap(train, in_axes=(0, None, None)))
    wide = sweep(run, 1e-5, 1.0, *data)
    close = sweep(run, wide.best / 3, wide.best * 3, *data)
    print(f"compilations of the training: {TRACES['train']}")
    path = Path(FLAGS.out) / "sweep_learning_rates.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(wide, close, path)
    print(f"picture: {path}")


if __name__ == "__main__":
    app.run(main)

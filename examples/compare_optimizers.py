"""Compare six optimizers on the digits, each with its own best learning rate.

    python examples/compare_optimizers.py --out build/examples

For each optimizer 25 learning rates from 1e-4 to 10, with 5 seeds each, train at once: `jax.vmap` over the
optimizer and over the seed, which draws the parameters and the batches. The rate is chosen by the loss on 287
validation digits, and the table shows the accuracy on 360 test digits that had no part in the choice. You
should see that all six reach about the same accuracy, that they differ in the rates that lead there, and
find compare_optimizers.png in the folder --out.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.style
import numpy as np
from absl import app, flags
from digits_data import QUICK, Digits, accuracy, batches, cross_entropy, init_mlp, load, mlp
from matplotlib.figure import Figure

import gradtx
from gradtx.torch import optim

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", 20 if QUICK else 400, "updates of each training", lower_bound=1)
flags.DEFINE_integer("seeds", 2 if QUICK else 5, "trainings with each learning rate", lower_bound=1)
flags.DEFINE_string("out", "build/examples", "folder for the picture")

# Torch's defaults but for the learning rate.
OPTIMIZERS = {
    "SGD": optim.sgd,
    "SGD, momentum 0.9": lambda lr: optim.sgd(lr, momentum=0.9),
    "Adagrad": optim.adagrad,
    "RMSprop": optim.rmsprop,
    "Adam": optim.adam,
    "AdamW": optim.adamw,
}
RATES = np.geomspace(1e-4, 10, 6 if QUICK else 25)
COLOURS = ("#2563eb", "#059669", "#d97706", "#dc2626", "#7c3aed", "#0891b2")


class Trainings(NamedTuple):
    """Of each learning rate and seed: the validation loss at the end [rates, seeds], the accuracy on the
    test set at the end, and the step at which 95 % of the validation digits were first read right."""

    losses: np.ndarray
    scores: np.ndarray
    steps: np.ndarray

    @property
    def best(self) -> int:
        """The learning rate with the lowest validation loss, the mean over seeds."""
        return int(np.argmin(self.losses.mean(axis=1)))

    @property
    def span(self) -> tuple[float, float]:
        """The learning rates around the best with which the test accuracy is within a point of its own."""
        means = self.scores.mean(axis=1)
        worse = np.flatnonzero(means < means[self.best] - 0.01)
        low = max(worse[worse < self.best], default=-1) + 1
        high = min(worse[worse > self.best], default=len(RATES)) - 1
        return RATES[low], RATES[high]


def train(
    tx: gradtx.GradientTransformation, seed: jax.Array, data: Digits, validation: Digits, test: Digits
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One training: the three numbers of `Trainings`."""

    def step(carry, batch: Digits):
        params, state = carry
        grads = jax.grad(lambda p: cross_entropy(mlp(p, batch.images), batch.labels))(params)
        updates, state = tx.update(grads, state, params)
        params = gradtx.apply_updates(params, updates)
        return (params, state), accuracy(mlp(params, validation.images), validation.labels) >= 0.95

    params = init_mlp(jax.random.key(seed))
    (params, _), read = jax.lax.scan(step, (params, tx.init(params)), data)
    loss = cross_entropy(mlp(params, validation.images), validation.labels)
    first = jnp.where(read.any(), jnp.argmax(read) + 1, jnp.inf)
    return loss, accuracy(mlp(params, test.images), test.labels), first


def draw(results: dict[str, Trainings], path: Path) -> None:
    """For each optimizer the accuracy by learning rate, over those of the others."""
    matplotlib.style.use(Path(__file__).with_name("gradtx.mplstyle"))
    figure = Figure(figsize=(10, 6))
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    for axes, colour, (name, own) in zip(panels.flat, COLOURS, results.items(), strict=True):
        for other in results.values():
            axes.semilogx(RATES, 100 * other.scores.mean(axis=1), color="#cbd5e1", linewidth=1)
        scores = 100 * own.scores
        axes.fill_between(
            RATES, scores.min(axis=1), scores.max(axis=1), color=colour, alpha=0.25, linewidth=0
        )
        axes.plot(RATES, scores.mean(axis=1), color=colour)
        best = (RATES[own.best], scores[own.best].mean())
        axes.plot(*best, "o", color=colour, markeredgecolor="white", markersize=8)
        text, place = f"{best[1]:.1f} % at {best[0]:.2g}", {"textcoords": "offset points", "ha": "center"}
        axes.annotate(text, best, (0, 9), color=colour, weight="bold", **place)
        axes.set(title=name, ylim=(50, 104), xlim=(RATES[0], RATES[-1]))
    for axes in panels[-1]:
        axes.set_xlabel("Learning rate")
    for axes in panels[:, 0]:
        axes.set_ylabel("Test accuracy (%)")
    figure.savefig(path)


def report(results: dict[str, Trainings]) -> None:
    """The table, as Markdown."""
    print("| optimizer | learning rate | test accuracy (%) | steps to 95 % | rates within a point of it |")
    print("|---|---|---|---|---|")
    for name, own in results.items():
        scores, steps = 100 * own.scores[own.best], np.median(own.steps[own.best])
        reached = f"{steps:.0f}" if np.isfinite(steps) else "–"
        print(
            f"| {name} | {RATES[own.best]:.2g} | {scores.mean():.1f} ± {scores.std():.1f} | {reached} "
            f"| {own.span[0]:.2g} to {own.span[1]:.2g} |"
        )


def main(_: list[str]) -> None:
    train_set, test = load()
    validation = Digits(train_set.images[:287], train_set.labels[:287])
    rest = Digits(train_set.images[287:], train_set.labels[287:])
    data = [batches(rest, FLAGS.steps, size=128, seed=seed) for seed in range(FLAGS.seeds)]
    data = Digits(*map(np.stack, zip(*data, strict=True)))
    one = partial(train, validation=validation, test=test)
    every = jax.jit(jax.vmap(jax.vmap(one, in_axes=(None, 0, 0)), in_axes=(0, None, None)))
    results = {}
    for name, make in OPTIMIZERS.items():
        print(f"{name}: {len(RATES)} learning rates, {FLAGS.seeds} seeds, {FLAGS.steps} steps", flush=True)
        rows = every(jax.vmap(make)(jnp.asarray(RATES)), jnp.arange(FLAGS.seeds), data)
        losses, scores, steps = map(np.asarray, rows)
        results[name] = Trainings(np.where(np.isfinite(losses), losses, np.inf), scores, steps)
    print()
    report(results)
    path = Path(FLAGS.out) / "compare_optimizers.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(results, path)
    print(f"\npicture: {path}")


if __name__ == "__main__":
    app.run(main)

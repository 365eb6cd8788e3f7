"""Training the small transformer on Python's source by matrix optimizers, with rates from a sweep."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from recipes_training import as_list, draw, finite
from storage_tasks import TASKS

import gradtx
from gradtx import GradientTransformation

TASK = TASKS["text"]
STEPS, SEEDS = 120, 4
EACH = 5
"""Over how many steps a point of the curves is the mean."""

LAST = 50
"""Over how many steps at the end the training loss is averaged, which chooses the rate."""

AXES = {
    r"head/.*": None,
    r"blocks/.*/in/kernel": gradtx.MatrixAxes(0, 1, output_split=3),
    r"blocks/.*/kernel": True,
}
"""Matrices: those of the blocks, queries, keys and values apart; embeddings and the head are AdamW's."""


def partner() -> GradientTransformation:
    """The optimizer of what is no matrix, whose rate does not change in the sweep."""
    return gradtx.adamw(falling(TASK.rate))


def falling(rate: Any) -> Any:
    """A schedule that warms up and falls to 0."""
    return gradtx.warmup_cosine_decay_schedule(0.0, rate, STEPS // 10, STEPS)


@dataclass(frozen=True)
class Trained:
    """An optimizer to train with.

    Attributes:
        make: of a learning rate.
        rate: the middle of the first sweep.
    """

    make: Callable[[Any], GradientTransformation]
    rate: float


def beside_adamw(recipe: str, rate: float, **options: Any) -> Trained:
    """A recipe that takes axes and the optimizer of the others."""
    make = lambda rate: getattr(gradtx, recipe)(  # noqa: E731
        falling(rate), weight_dimension_numbers=AXES, others=partner(), **options
    )
    return Trained(make, rate)


def muon(rate: Any) -> GradientTransformation:
    return gradtx.muon(
        falling(rate), adam_learning_rate=falling(TASK.rate), muon_weight_dimension_numbers=AXES
    )


TRAINED = {
    "adamw": Trained(lambda rate: gradtx.adamw(falling(rate)), 6e-3),
    "muon": Trained(muon, 2e-2),
    "normuon": beside_adamw("normuon", 6e-3),
    "soap": beside_adamw("soap", 6e-3),
    "shampoo": beside_adamw("shampoo", 6e-3),
    "kron": beside_adamw("kron", 3e-3),
}
TRAINED = {name: own for name, own in TRAINED.items() if hasattr(gradtx, name)}

FACTORS = 2.0 ** np.arange(-2, 3)
"""The sweep: the middle, and rates that are 2 and 4 times as small and as large."""


def train(trained: Trained, steps: int, rate: jax.Array, seed: jax.Array, data: Any) -> tuple[Any, Any]:
    """One training: the loss at every step, and that on what was held out at the end."""
    train, held_out = data
    tx = trained.make(rate)
    start, order = jax.random.split(jax.random.key(seed))

    def step(carry: Any, key: jax.Array) -> Any:
        params, state = carry
        loss, grads = jax.value_and_grad(TASK.loss)(params, draw(key, train, TASK.batch_size))
        updates, state = tx.update(grads, state, params)
        return (gradtx.apply_updates(params, updates), state), loss

    params = TASK.init(start)
    (params, _), losses = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(order, steps))
    return losses, TASK.loss(params, held_out)


def best_rate(trained: Trained, steps: int, data: Any) -> tuple[float, dict[str, float | None]]:
    """The rate of the least training loss at the end, of a seed of its own, and the loss of each rate.

    All rates of a sweep run in one program; where the best is at its edge, the next one has it in the middle.
    """
    run = jax.jit(jax.vmap(partial(train, trained, steps), in_axes=(0, None, None)))
    middle = best = trained.rate
    seen: dict[float, float] = {}
    for _ in range(2):
        rates = middle * FACTORS
        losses, _ = run(jnp.asarray(rates), jnp.asarray(100), data)
        ends = finite(jnp.mean(losses[:, -LAST:], axis=1))
        seen |= dict(zip(map(float, rates), map(float, ends), strict=True))
        best = min(seen, key=seen.__getitem__)
        if best not in (min(seen), max(seen)):
            break
        middle = best
    shown = as_list(list(seen.values()))
    return best, {f"{rate:.3g}": loss for rate, loss in sorted(zip(seen, shown, strict=True))}


def result(trained: Trained, steps: int, seeds: int, data: Any) -> dict[str, Any]:
    """Of the best rate: curves, losses at the end, and the seconds of a step, all of the training."""
    rate, sweep = best_rate(trained, steps, data)
    given = [(jnp.asarray(rate), jnp.asarray(seed), data) for seed in range(seeds)]
    one = jax.jit(partial(train, trained, steps)).lower(*given[0]).compile()
    curves, ends, seconds = [], [], []
    for arguments in given:
        begin = time.perf_counter()
        losses, end = jax.block_until_ready(one(*arguments))
        seconds.append((time.perf_counter() - begin) / steps)
        curves.append(np.asarray(losses, float).reshape(-1, EACH).mean(axis=1))
        ends.append(end)
    curve = np.mean(curves, axis=0).round(4)
    return dict(
        rate=rate,
        sweep=sweep,
        curve=as_list(curve),
        held_out=as_list(ends),
        seconds=median(seconds),
    )

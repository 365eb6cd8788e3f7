"""Training in every variant, from the same starts with the same batches."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from recipes_training import as_list, draw
from storage_cases import Variant
from storage_tasks import Task

import gradtx

LAST = 50
"""Over how many steps at the end the training loss is averaged."""


def train(
    task: Task, variant: Variant, steps: int, seed: jax.Array, data: Any
) -> tuple[jax.Array, jax.Array]:
    """One training: the mean loss of its last steps, and that on what was held out."""
    train, held_out = data
    rate = gradtx.warmup_cosine_decay_schedule(0.0, task.rate, steps // 10, steps)
    tx = variant.make(gradtx.adamw(rate), seed)
    start, order = jax.random.split(jax.random.key(seed))

    def step(carry: Any, key: jax.Array) -> Any:
        params, state = carry
        loss, grads = jax.value_and_grad(task.loss)(params, draw(key, train, task.batch_size))
        updates, state = tx.update(grads, state, params)
        return (gradtx.apply_updates(params, updates), state), loss

    params = jax.tree.map(lambda x: x.astype(variant.params), task.init(start))
    (params, _), losses = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(order, steps))
    return jnp.mean(losses[-LAST:]), task.loss(params, held_out)


def losses(task: Task, variant: Variant, steps: int, seeds: int, data: Any) -> dict[str, list[float | None]]:
    """Of each seed, at the end; None where a training diverged."""
    one = jax.jit(partial(train, task, variant, steps))
    ends = np.array([one(jnp.asarray(seed), data) for seed in range(seeds)], float)
    return {name: as_list(own) for name, own in zip(("train", "held_out"), ends.T, strict=True)}

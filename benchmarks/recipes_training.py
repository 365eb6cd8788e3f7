"""Training with every learning rate at once, and again around the best."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from recipes_cases import Recipe, is_per_example, is_told_the_hessian
from recipes_tasks import Data, Samples, Task

import gradtx

RATES = np.geomspace(1e-4, 10**1.5, 12)
"""The first sweep: two rates per decade."""

CLOSER = 10 ** np.array([-0.25, 0.0, 0.25])
"""The second: the best and, half as far from it as its neighbours were, two more."""

CHEAPLY = {"xla_backend_optimization_level": 1}
"""How to compile a program that runs twice: in half the time, and it is no slower."""

SEEDS = 4
FULL_BATCH_STEPS = 30


class Ends(NamedTuple):
    """Of each training at its end: losses in nats, and the accuracy from 0 to 1."""

    validation: jax.Array
    test: jax.Array
    accuracy: jax.Array


class Found(NamedTuple):
    """Of a recipe on a task.

    rate: the best learning rate; None where there is none to choose;
    rates, sweep: learning rates of the first sweep and their validation losses; empty without a choice;
    test, accuracy: with the best rate, of each seed.

    A loss is None where a training diverged.
    """

    rate: float | None
    rates: list[float]
    sweep: list[float | None]
    test: list[float | None]
    accuracy: list[float | None]


def train(task: Task, recipe: Recipe, steps: int, rate: jax.Array, seed: jax.Array, data: Data) -> Ends:
    """One training."""
    tx = recipe.of(rate, steps)
    start, order = jax.random.split(jax.random.key(seed))

    def step(carry: Any, key: jax.Array) -> Any:
        params, state = carry
        batch = data.whole if recipe.full_batch else draw(key, data.train, task.batch_size)
        loss = lambda params: task.loss(params, batch)  # noqa: E731
        value, grads = jax.value_and_grad(loss)(params)
        extra = dict(value=value, grad=grads, value_fn=loss, obj_fn=loss)
        extra["grad_fn"] = lambda params, _: jax.grad(loss)(params)
        if is_told_the_hessian(tx):
            extra["hessian"] = gradtx.hutchinson_diagonal(loss, params, jax.random.fold_in(key, 1))
        updates = per_example(task, params, batch) if is_per_example(tx) else grads
        updates, state = tx.update(updates, state, params, **extra)
        return (gradtx.apply_updates(params, updates), state), None

    params = task.init(start)
    (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(order, steps))
    params = gradtx.evaluation_params(state, params)
    losses = [task.loss(params, part) for part in (data.validation, data.test)]
    return Ends(losses[0], losses[1], task.accuracy(params, data.test))


def draw(key: jax.Array, samples: Samples, size: int) -> Samples:
    """A batch."""
    chosen = jax.random.randint(key, (size,), 0, len(samples.targets))
    return Samples(*(x[chosen] for x in samples))


def per_example(task: Task, params: Any, batch: Samples) -> Any:
    """The gradient of each sample of a batch, on a first axis."""
    one = lambda params, *sample: task.loss(params, Samples(*(x[None] for x in sample)))  # noqa: E731
    return jax.vmap(jax.grad(one), in_axes=(None, 0, 0))(params, *batch)


def search(task: Task, recipe: Recipe, steps: int, data: Data) -> Found:
    """The best learning rate by the validation loss, and what comes of it with several seeds.

    Every training of a sweep runs in one program: `jax.vmap` over the optimizer's learning rate and the seed.
    """
    steps = min(steps, FULL_BATCH_STEPS) if recipe.full_batch else steps
    one = partial(train, task, recipe, steps)
    run = jax.jit(jax.vmap(one, in_axes=(0, 0, None)), compiler_options=CHEAPLY)
    if not recipe.swept:
        ends = run(jnp.ones(SEEDS), jnp.arange(SEEDS), data)
        return Found(None, [], [], *map(as_list, (ends.test, ends.accuracy)))
    wide = recipe.unit * RATES
    first = finite(run(jnp.asarray(wide), jnp.zeros(len(wide), int), data).validation)
    rates = wide[np.argmin(first)] * CLOSER
    ends = run(jnp.repeat(jnp.asarray(rates), SEEDS), jnp.tile(jnp.arange(SEEDS), len(rates)), data)
    best = np.argmin(finite(ends.validation).reshape(len(rates), SEEDS).mean(axis=1))
    own = [as_list(x.reshape(len(rates), SEEDS)[best]) for x in (ends.test, ends.accuracy)]
    return Found(float(rates[best]), wide.tolist(), as_list(first), *own)


def finite(losses: jax.Array) -> np.ndarray:
    """Losses that can be compared."""
    found = np.asarray(losses)
    return np.where(np.isfinite(found), found, np.inf)


def as_list(x: Any) -> list[float | None]:
    """For JSON, which has no infinity."""
    return [loss if np.isfinite(loss) else None for loss in np.asarray(x, float).tolist()]

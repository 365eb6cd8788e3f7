"""A sweep over learning rates: one program for all of them, or one step after another."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
import report
import speed
from report import Row
from setting import Setting
from trees import gpt2, normal

import gradtx

RATES = [1e-4 * 1.2**i for i in range(32)]


def sweep(setting: Setting) -> Iterator[Row]:
    """One step of `adamw` at 32 rates, compiled before. A loop calls one program, once per rate."""
    params, grads = (normal(gpt2(width=32, vocabulary=256), seed) for seed in (0, 1))
    work = {
        "gradtx": at_once(gradtx, params, grads),
        "Optax": at_once(optax, params, grads),
        "gradtx, loop": looped(gradtx, gradtx.adamw, params, grads),
        "Optax, loop": looped(optax, optax.inject_hyperparams(optax.adamw), params, grads),
    }
    sides = {side: speed.until_ready(step) for side, step in work.items()}
    times = speed.compare(sides, setting.effort)
    yield report.timed("sweep of 32", "adamw", "gpt2 at width 32", times, against=["gradtx, loop"])


def at_once(library: Any, params: Any, grads: Any) -> Callable[[], Any]:
    """All rates in one program; params and state have one copy per rate."""

    @partial(jax.jit, donate_argnums=(1, 2))
    @partial(jax.vmap, in_axes=(0, 0, 0, None))
    def step(rate: Any, params: Any, state: Any, grads: Any) -> Any:
        return speed.step_of(library, library.adamw(rate))(params, state, grads)

    rates = jnp.asarray(RATES)
    params = jax.tree.map(lambda x: jnp.repeat(x[None], len(RATES), axis=0), params)
    given = params, jax.vmap(library.adamw(1e-3).init)(params)

    def work() -> Any:
        nonlocal given
        given = step(rates, *given, grads)
        return given

    return work


def looped(library: Any, make: Callable[..., Any], params: Any, grads: Any) -> Callable[[], Any]:
    """One rate after another. gradtx's is an argument of the step; Optax's stands in the state."""

    @partial(jax.jit, donate_argnums=(1, 2))
    def step(rate: Any, params: Any, state: Any, grads: Any) -> Any:
        if library is optax:
            state.hyperparams["learning_rate"] = rate
            return speed.step_of(library, make(1e-3))(params, state, grads)
        return speed.step_of(library, make(rate))(params, state, grads)

    rates = [jnp.asarray(rate, jnp.float32) for rate in RATES]
    copies = [jax.tree.map(jnp.copy, params) for _ in RATES]
    given = [(copy, make(1e-3).init(copy)) for copy in copies]

    def work() -> Any:
        nonlocal given
        given = [step(rate, *own, grads) for rate, own in zip(rates, given, strict=True)]
        return given

    return work

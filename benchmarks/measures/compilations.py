"""What is compiled again when numbers of the optimizer change."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import optax
import report
import speed
from report import Row
from setting import Setting
from speed import Compilations
from trees import normal

import gradtx


def compilations(_: Setting) -> Iterator[Row]:
    """Three numbers of `adamw` change one after another.

    gradtx's optimizer is an argument of the compiled step; Optax's cannot be one, it is closed over.
    """
    counter = Compilations()
    ours = {
        "tx a jit argument": jax.jit(lambda tx, *rest: speed.step_of(gradtx, tx)(*rest)),
        "gradtx.jit_step": lambda tx, params, state, grads: gradtx.jit_step(tx, grads, state, params),
    }
    closed_over = lambda tx, *rest: jax.jit(speed.step_of(optax, tx))(*rest)  # noqa: E731
    for case, step in ours.items():
        counts = {
            "gradtx": compiled_by(counter, gradtx, step),
            "Optax": compiled_by(counter, optax, closed_over),
        }
        yield report.counted("compilations", case, "", counts, counts["gradtx"])


def compiled_by(counter: Compilations, library: Any, step: Callable[..., Any]) -> int:
    """Compilations after the first step."""
    numbers = dict(learning_rate=1e-3, b1=0.9, weight_decay=1e-2)

    def run() -> None:
        params, grads = normal({"w": (8,)}, seed=0), normal({"w": (8,)}, seed=1)
        tx = library.adamw(**numbers)
        jax.block_until_ready(step(tx, params, tx.init(params), grads))

    run()
    total = 0
    for name, value in dict(learning_rate=3e-4, b1=0.8, weight_decay=0.1).items():
        numbers[name] = value
        total += counter.during(run)
    return total

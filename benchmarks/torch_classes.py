"""The classes of `gradtx.torch.optim` beside PyTorch's and a loop with Optax: time of a step, compilations.

    python benchmarks/torch_classes.py [--quick] [--out FILE.json] [--cases AdamW] [--trees gpt2]

What each number means and what to expect is in the README beside this file.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import report
import speed
import torch
from absl import app, flags
from report import Row
from speed import Compilations, Effort, Sample
from trees import GPT2, MANY, ONE, TREES, normal

import gradtx.torch.optim as optim

QUICK = flags.DEFINE_bool("quick", False, "fewer repetitions: about a minute, and noisier")
OUT = flags.DEFINE_string("out", None, "file for all numbers, as JSON")
WHICH_CASES = flags.DEFINE_string("cases", "", "regular expression: which optimizers")
WHICH_TREES = flags.DEFINE_string("trees", "", "the same for the trees")

LR = 1e-3
CASES: dict[str, tuple[dict[str, Any], Callable[..., Any], dict[str, Any]]] = {
    "SGD": ({"momentum": 0.9}, optax.sgd, {"momentum": 0.9}),
    "Adam": ({}, optax.adam, {}),
    "AdamW": ({}, optax.adamw, {"weight_decay": 1e-2}),
}
"""By class: its options, and the same for Optax."""

EDITS = {
    "SGD": {"momentum": [0.8, 0.7, 0.6]},
    "Adam": {"betas": [(0.8, 0.99), (0.7, 0.98), (0.9, 0.9)], "eps": [1e-7, 1e-6, 1e-5]},
    "AdamW": {"betas": [(0.8, 0.99), (0.7, 0.98), (0.9, 0.9)], "weight_decay": [0.1, 0.2, 0.3]},
}
"""Numbers to set in `param_groups` besides the learning rate."""

TORCH = {"torch": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}


# --- a step -----------------------------------------------------------------------------------------


def rates() -> Iterator[float]:
    """A new learning rate for every step."""
    return (LR * (1 + 1 / k) for k in itertools.count(1))


def of_gradtx(name: str, params: Any, grads: Any) -> Sample:
    """The class; the learning rate is set in `param_groups` before each step."""
    optimizer, lr = getattr(optim, name)(params, LR, **CASES[name][0]), rates()

    def work() -> Any:
        optimizer.param_groups[0]["lr"] = next(lr)
        return optimizer.step(grads)

    return speed.until_ready(work)


def of_torch(name: str, params: Any, grads: Any, flags: dict[str, Any]) -> Sample:
    """PyTorch's class, the same."""
    tensors = [torch.nn.Parameter(as_tensor(param)) for param in jax.tree.leaves(params)]
    for tensor, grad in zip(tensors, jax.tree.leaves(grads), strict=True):
        tensor.grad = as_tensor(grad)
    optimizer, lr = getattr(torch.optim, name)(tensors, LR, **CASES[name][0], **flags), rates()

    def work() -> None:
        optimizer.param_groups[0]["lr"] = next(lr)
        optimizer.step()

    return speed.until_ready(work)


def as_tensor(x: jax.Array) -> torch.Tensor:
    return torch.from_numpy(np.array(x))


def of_optax(name: str, params: Any, grads: Any, edited: bool) -> Sample:
    """A loop over a jitted step with donated params and state. Edited: with `inject_hyperparams`, which
    keeps the numbers in the state, and the learning rate set there before each step."""
    _, make, options = CASES[name]
    make = optax.inject_hyperparams(make) if edited else make
    tx: Any = make(learning_rate=LR, **options)
    step, lr = jax.jit(speed.step_of(optax, tx), donate_argnums=(0, 1)), rates()
    params = jax.tree.map(jnp.copy, params)
    state = tx.init(params)

    def work() -> Any:
        nonlocal params, state
        if edited:
            state.hyperparams["learning_rate"] = np.float32(next(lr))
        params, state = step(params, state, grads)
        return params

    return speed.until_ready(work)


def sides(name: str, params: Any, grads: Any) -> dict[str, Sample]:
    """All of them, by column."""
    return {
        "gradtx": speed.rested(of_gradtx(name, params, grads)),
        **{column: of_torch(name, params, grads, flags) for column, flags in TORCH.items()},
        "Optax": speed.rested(of_optax(name, params, grads, edited=False)),
        "Optax, lr edited": speed.rested(of_optax(name, params, grads, edited=True)),
    }


def steps() -> Iterator[Row]:
    """The time of a step, judged by its ratio to PyTorch's default."""
    effort = Effort(5, 50, 3) if QUICK.value else Effort(41, 1000, 20)
    for tree in filter(re.compile(WHICH_TREES.value).search, (GPT2, MANY, ONE)):
        for name in wanted():
            params, grads = normal(TREES[tree](), seed=0), normal(TREES[tree](), seed=1)
            times = speed.compare(sides(name, params, grads), effort)
            yield report.timed("step, lr edited", name, tree, times, against=["torch"])


# --- compilations -----------------------------------------------------------------------------------


def compilations() -> Iterator[Row]:
    """What is compiled while numbers in `param_groups` are set before each step."""
    counter = Compilations()
    for name in wanted():
        step = stepper(counter, name)
        begun, *later = (step("lr", lr) for lr in itertools.islice(rates(), 20))
        yield compiled(f"{name}, lr", begun + later.pop(0), later)
        for option, values in EDITS[name].items():
            first, *later = (step(option, value) for value in values)
            yield compiled(f"{name}, {option}", first, later)


def stepper(counter: Compilations, name: str) -> Callable[[str, Any], int]:
    """A function that sets an option and takes a step: how many programs were compiled meanwhile."""
    params, grads = normal({"w": (8,)}, seed=0), normal({"w": (8,)}, seed=1)
    optimizer = getattr(optim, name)(params, LR, **CASES[name][0])

    def step(option: str, value: Any) -> int:
        optimizer.param_groups[0][option] = value
        return counter.during(lambda: jax.block_until_ready(optimizer.step(grads)))

    return step


def compiled(case: str, first: int, later: list[int]) -> Row:
    """A line: the compilations of the first steps, and of the later ones, which are judged."""
    cells = {"gradtx": f"{sum(later)} (first: {first})"}
    raw = {"first": first, "later": sum(later)}
    return report.row("compilations", case, "", cells, sum(later), "", raw)


def wanted() -> Iterator[str]:
    """The classes that the flag selects."""
    return filter(re.compile(WHICH_CASES.value).search, CASES)


def main(_: list[str]) -> None:
    torch.set_num_threads(os.cpu_count() or 1)  # as many as XLA takes
    surroundings, rows = {**report.surroundings(), "torch threads": torch.get_num_threads()}, []
    print("\n".join(f"{name}: {value}" for name, value in surroundings.items()), flush=True)
    for row in itertools.chain(compilations(), steps()):
        rows.append(row)
        print(".", end="", flush=True)
    print("\n" + report.tables(rows))
    if OUT.value:
        report.write(Path(OUT.value), {**surroundings, "quick": QUICK.value}, rows)


if __name__ == "__main__":
    app.run(main)

"""gradtx beside Optax and PyTorch: speed, compilations, accuracy.

    python benchmarks/compare.py [--quick] [--out FILE.json] [--measures step] [--cases adamw] [--trees gpt2]

What each number means and what to expect is in the README beside this file.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import accuracy
import jax
import optax
import report
import speed
from absl import app, flags
from report import Row
from speed import Compilations, Effort, Sample
from trees import CASES, TREES, normal

import gradtx

QUICK = flags.DEFINE_bool(
    "quick", False, "fewer repetitions: under 2 minutes on an idle machine, and noisier"
)
OUT = flags.DEFINE_string("out", None, "file for all numbers, as JSON")
MEASURES = flags.DEFINE_string("measures", "", "regular expression: which measures")
WHICH_CASES = flags.DEFINE_string("cases", "", "the same for the optimizers")
WHICH_TREES = flags.DEFINE_string("trees", "", "the same for the trees")

STEP_TARGET = 1.03
TRACE_TARGETS = {"gpt2 (148 leaves)": 0.5, "1000 leaves of 64": 0.4}
EAGER_TARGET = 1 / 3
COMPILATIONS_TARGET = 0
FIRST_UPDATE_TARGET = 3e-7
LATER_TARGET = 1.1  # the largest of thousands of rounding errors is partly luck


def wanted(measure: str, case: str, tree: str = "") -> bool:
    """Whether the flags select this row."""
    given = ((MEASURES, measure), (WHICH_CASES, case), (WHICH_TREES, tree))
    return all(re.search(flag.value, name) for flag, name in given)


def timed(
    measure: str, case: str, tree: str, sampler: Callable[..., Sample], effort: Effort, target: float
) -> Iterator[Row]:
    """The row of a sampler run for both libraries, if it is wanted."""
    if not wanted(measure, case, tree):
        return
    if QUICK.value:
        effort = Effort(3, effort.most // 10, effort.seconds / 10)
    params, grads = normal(TREES[tree](), seed=0), normal(TREES[tree](), seed=1)
    sides = [sampler(library, CASES[case], params, grads) for library in (gradtx, optax)]
    yield report.timed(measure, case, tree, speed.compare(*sides, effort), target)


def steps() -> Iterator[Row]:
    """The compiled step."""
    for tree in TREES:
        for case in CASES:
            yield from timed("step", case, tree, speed.jitted_step, Effort(41, 1000, 20), STEP_TARGET)


def traces() -> Iterator[Row]:
    """Tracing the step, without and with what earlier traces left in the caches."""
    samplers = {"trace, cold": speed.cold_trace, "trace, warm": speed.warm_trace}
    for tree, target in TRACE_TARGETS.items():
        for case in CASES:
            for measure, sampler in samplers.items():
                yield from timed(measure, case, tree, sampler, Effort(21, 61, 15), target)


def eager_updates() -> Iterator[Row]:
    """`update` outside `jit`."""
    tree, effort = "gpt2 (148 leaves)", Effort(21, 61, 15)
    yield from timed("eager update", "adamw", tree, speed.eager_update, effort, EAGER_TARGET)


def recompilations() -> Iterator[Row]:
    """What is compiled again when numbers of the optimizer change."""
    counter = Compilations()
    ours = {
        "tx a jit argument": jax.jit(lambda tx, *rest: speed.step_of(gradtx, tx)(*rest)),
        "gradtx.jit_step": lambda tx, params, state, grads: gradtx.jit_step(tx, grads, state, params),
    }
    closed_over = lambda tx, *rest: jax.jit(speed.step_of(optax, tx))(*rest)  # noqa: E731
    for case, step in ours.items():
        if wanted("compilations", case):
            counts = {
                "gradtx": compiled_by(counter, gradtx, step),
                "Optax": compiled_by(counter, optax, closed_over),
            }
            yield report.counted("compilations", case, counts, COMPILATIONS_TARGET)


def compiled_by(counter: Compilations, library: Any, step: Callable[..., Any]) -> int:
    """Compilations after the first step, while three numbers of adamw change one after another."""
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


def errors() -> Iterator[Row]:
    """Distance from the formula in float64."""
    for name, quantity in accuracy.QUANTITIES.items():
        first = quantity.steps == 1
        for case in accuracy.ORACLES:
            if wanted(f"error, {name}", case):
                found = {
                    "gradtx": accuracy.error(case, quantity, accuracy.in_jax(gradtx, case)),
                    "Optax": accuracy.error(case, quantity, accuracy.in_jax(optax, case)),
                    "torch": accuracy.error(case, quantity, accuracy.in_torch(case)),
                }
                target, beside = (FIRST_UPDATE_TARGET, None) if first else (LATER_TARGET, "torch")
                yield report.erring(f"error, {name}", case, found, target, beside)


def main(_: list[str]) -> None:
    surroundings, rows = report.surroundings(), []
    print("\n".join(f"{name}: {value}" for name, value in surroundings.items()), flush=True)
    for measure in (steps, traces, eager_updates, recompilations, errors):
        for row in measure():
            rows.append(row)
            print(".", end="", flush=True)
    print("\n" + report.table(rows))
    if OUT.value:
        report.write(Path(OUT.value), {**surroundings, "quick": QUICK.value}, rows)


if __name__ == "__main__":
    app.run(main)

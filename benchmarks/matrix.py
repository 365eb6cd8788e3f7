"""Matrix optimizers: steps beside PyTorch's and others', over the width, to compile; and losses.

    python benchmarks/matrix.py [--quick] [--page docs/matrix_optimizers.md]     # make bench ARGS=--matrix
    python benchmarks/matrix.py --parts losses --page docs/matrix_optimizers.md
    python benchmarks/matrix.py --parts steps --tree 124M --tree 1B               # on a GPU

The parts but `losses` take 4 minutes on two idle cores, `losses` 6. Numbers go to results/matrix.json beside
this file, with --quick nowhere; each that is measured replaces the old one, and the page shows them all.
`--parts none` measures nothing, and writes the page of what is there.
"""

import os
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as docs/matrix_optimizers.md advises

import jax
import matrix_costs as costs
import matrix_page as page
import matrix_training as training
import parts
import report
from absl import app, flags
from matrix_cases import CASES, is_there
from speed import Effort

COSTS = ("compiling", "widths", "steps")

WANTED = flags.DEFINE_multi_enum(
    "parts", COSTS, [*page.PARTS, "none"], "what to measure; may be given several times"
)
TREE = flags.DEFINE_multi_enum("tree", ["128", "256"], [*costs.TREES], "GPT-2 of which width or size")
PAGE = flags.DEFINE_string("page", None, "the page whose tables and pictures to write")
QUICK = flags.DEFINE_bool("quick", False, "hardly any repetition and training, to see that it runs")

Found = Iterator[tuple[str, dict[str, Any]]]
"""Of what is measured its name and numbers."""


def effort(least: int, most: int, seconds: float) -> Effort:
    """How often to repeat."""
    return Effort(2, 2, 0) if QUICK.value else Effort(least, most, seconds)


def measure_compiling() -> Found:
    """SOAP beside AdamW."""
    yield "gpt2 (148 leaves)", costs.compiling(effort(3, 5, 15))


def measure_widths() -> Found:
    """Every optimizer, by turns."""
    yield from costs.widths(effort(2, 7, 4), largest=64 if QUICK.value else max(costs.WIDTHS)).items()


def measure_steps() -> Found:
    """Every case, on each tree; those that stand beside the same by turns with it."""
    for tree in TREE.value:
        for theirs, group in groupby(CASES, lambda case: case.theirs[0]):
            cases = list(group)
            if not all(map(is_there, cases)):
                print(f"{theirs} is not installed", file=sys.stderr)
                continue
            for name, found in costs.beside(cases, tree, effort(2, 15, 20)).items():
                yield f"{tree}: {name}", {"device": jax.devices()[0].device_kind, **found}


def measure_losses() -> Found:
    """Every optimizer, with the best rate of its sweep."""
    data = jax.device_put(training.TASK.load())
    steps, seeds = (50, 2) if QUICK.value else (training.STEPS, training.SEEDS)
    for name, trained in training.TRAINED.items():
        yield name, training.result(trained, steps, seeds, data)


MEASURES: dict[str, Callable[[], Found]] = {
    "compiling": measure_compiling,
    "widths": measure_widths,
    "steps": measure_steps,
    "losses": measure_losses,
    "none": lambda: iter(()),
}


def main(_: list[str]) -> None:
    numbers = parts.nothing(page.PARTS) if QUICK.value else parts.read(page.RESULTS, page.PARTS)
    for part in WANTED.value:
        if part != "none":
            numbers["where"][part] = report.surroundings()
        parts.measure([part], MEASURES, numbers, None if QUICK.value else page.RESULTS)
    print(page.printed(numbers))
    if PAGE.value:
        page.write(Path(PAGE.value), numbers)


if __name__ == "__main__":
    app.run(main)

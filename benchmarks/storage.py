"""What fewer bytes cost: losses, bytes, times and peak memory; and the tables of docs/fewer_bytes.md.

    python benchmarks/storage.py [--parts losses] [--page docs/fewer_bytes.md] [--quick]

It needs what the tests need, and takes 40 minutes on two idle cores, the parts `times` and `memory` five of
them; with --quick two, and proves nothing. Numbers go to results/storage.json beside this file, with --quick
nowhere; each that is measured replaces the old one, and the page shows them all. `--parts none` measures
nothing, and writes the page of what is there.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import parts
import report
import storage_costs as costs
import storage_page as page
from absl import app, flags
from speed import Effort
from storage_cases import OTHERS, VARIANTS
from storage_tasks import TASKS
from storage_training import losses

import gradtx

PARTS = ("losses", "bytes", "memory", "times")

WANTED = flags.DEFINE_multi_enum(
    "parts", PARTS, [*PARTS, "none"], "what to measure; may be given several times"
)
PAGE = flags.DEFINE_string("page", None, "the page whose tables and picture to write")
QUICK = flags.DEFINE_bool("quick", False, "hardly any training, to see that it runs")

RESULTS = Path(__file__).parent / "results" / "storage.json"

Found = Iterator[tuple[str, dict[str, Any]]]
"""Of what is measured its name and numbers."""


def measure_losses() -> Found:
    """Of every variant on every task."""
    for name, task in TASKS.items():
        data = jax.device_put(task.load())
        steps, seeds = (10, 2) if QUICK.value else (task.steps, task.seeds)
        for variant in VARIANTS:
            yield f"{name}: {variant.name}", losses(task, variant, steps, seeds, data)


def measure_bytes() -> Found:
    """Of every variant, and of other optimizers."""
    for variant in VARIANTS:
        yield variant.name, costs.bytes_per_parameter(variant.tx(), variant.params)
    for name, (tx, formats) in OTHERS.items():
        yield name, costs.bytes_per_parameter(gradtx.stored(tx, formats), "float32")


def measure_memory() -> Found:
    """Of every variant, on tensors that are all as large and on others."""
    for tree in costs.TREES:
        for variant in VARIANTS:
            yield f"{tree}: {variant.name}", costs.memory(variant, tree)


def measure_times() -> Found:
    """Of every variant, by turns."""
    effort = Effort(3, 3, 0) if QUICK.value else Effort(21, 81, 60)
    for name, found in costs.times(effort).items():
        yield name, {key: dataclasses.asdict(own) for key, own in found.items()}


MEASURES: dict[str, Callable[[], Found]] = {
    "losses": measure_losses,
    "bytes": measure_bytes,
    "memory": measure_memory,
    "times": measure_times,
    "none": lambda: iter(()),
}


def main(_: list[str]) -> None:
    numbers = parts.nothing(PARTS) if QUICK.value else parts.read(RESULTS, PARTS)
    if WANTED.value != ["none"]:
        numbers["where"] = report.surroundings()
    parts.measure(WANTED.value, MEASURES, numbers, None if QUICK.value else RESULTS)
    if PAGE.value:
        page.write(Path(PAGE.value), numbers)


if __name__ == "__main__":
    app.run(main)

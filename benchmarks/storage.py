"""What fewer bytes cost: losses, bytes, times and peak memory; and the page docs/fewer_bytes.md.

    python benchmarks/storage.py [--parts losses] [--page docs/fewer_bytes.md] [--quick]

It needs what the tests need, and takes 40 minutes on two idle cores; with --quick one, and proves nothing.
Numbers go to benchmarks/results/storage.json, and with --quick nowhere; each part that is measured replaces
its old ones, and the page shows them all. `--parts none` measures nothing.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import report
from absl import app, flags
from storage_cases import VARIANTS
from storage_tasks import TASKS
from storage_training import losses

PARTS = ("losses",)

WANTED = flags.DEFINE_multi_enum("parts", PARTS, [*PARTS, "none"], "what to measure; may be given several times")
PAGE = flags.DEFINE_string("page", None, "the page whose tables and pictures to write")
QUICK = flags.DEFINE_bool("quick", False, "hardly any training, to see that it runs")

RESULTS = Path(__file__).parent / "results" / "storage.json"

Numbers = dict[str, dict[str, Any]]
"""By name of what was measured, its numbers; an entry's name begins with that of its part."""


def measure_losses() -> Iterator[tuple[str, Any]]:
    """Of every variant on every task."""
    for name, task in TASKS.items():
        data = jax.device_put(task.load())
        steps, seeds = (10, 2) if QUICK.value else (task.steps, task.seeds)
        for variant in VARIANTS:
            yield f"{name}: {variant.name}", losses(task, variant, steps, seeds, data)


MEASURES: dict[str, Callable[[], Iterator[tuple[str, Any]]]] = {"losses": measure_losses}


def write(header: dict[str, Any], numbers: Numbers) -> None:
    """JSON with a line for each entry."""
    parts = {"where": {key: value for key, value in header.items()}} | numbers
    blocks = []
    for part, entries in parts.items():
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(own)}" for name, own in entries.items())
        blocks.append(f"{json.dumps(part)}: {{\n{lines}\n}}")
    RESULTS.write_text("{\n" + ",\n".join(blocks) + "\n}\n")


def main(_: list[str]) -> None:
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() and not QUICK.value else {}
    old.pop("where", None)
    numbers: Numbers = {part: old.get(part, {}) for part in PARTS}
    header = report.surroundings()
    for part in WANTED.value:
        for name, found in MEASURES[part]() if part != "none" else ():
            numbers[part][name] = report.rounded(json.dumps(found))
            print(name, found if QUICK.value else "", file=sys.stderr, flush=True)
            if not QUICK.value:
                write(header, numbers)


if __name__ == "__main__":
    app.run(main)

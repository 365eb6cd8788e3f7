"""Modern optimizers beside their formulas written by hand, and a hundred groups beside none.

    python benchmarks/modern.py [--quick] [--page docs/choosing.md]     # make bench ARGS=--modern
    python benchmarks/modern.py --cases adamp

takes 3 minutes on two idle cores. Numbers go to results/modern.json beside this file, with --quick nowhere;
each that is measured replaces the old one, and the page shows them all. `--parts none` measures nothing, and
writes the page of what is there.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import modern_costs as costs
import modern_page as page
import parts
import report
from absl import app, flags
from modern_cases import CASES
from speed import Effort

WANTED = flags.DEFINE_multi_enum(
    "parts", page.PARTS, [*page.PARTS, "none"], "what to measure; may be given several times"
)
WHICH = flags.DEFINE_string("cases", "", "regular expression: of which optimizers")
PAGE = flags.DEFINE_string("page", None, "the page whose tables to write")
QUICK = flags.DEFINE_bool("quick", False, "hardly any repetition, and small tensors, to see that it runs")

Found = Iterator[tuple[str, dict[str, Any]]]
"""Of what is measured its name and numbers."""


def effort(least: int, most: int, seconds: float) -> Effort:
    """How often to repeat."""
    return Effort(2, 2, 0) if QUICK.value else Effort(least, most, seconds)


def measure_steps() -> Found:
    """Every optimizer, by turns with its formula."""
    shapes = {"kernel": (64, 64), "bias": (64,)} if QUICK.value else costs.TREE
    for case in CASES:
        if re.search(WHICH.value, case.name):
            yield case.name, costs.beside(case, effort(15, 61, 4), shapes)


def measure_groups() -> Found:
    """Numbers, and functions of what patterns capture."""
    for kind in costs.KINDS:
        yield kind, costs.of_groups(kind, effort(21, 1000, 8))


MEASURES: dict[str, Callable[[], Found]] = {
    "steps": measure_steps,
    "groups": measure_groups,
    "none": lambda: iter(()),
}


def main(_: list[str]) -> None:
    numbers = parts.nothing(page.PARTS) if QUICK.value else parts.read(page.RESULTS, page.PARTS)
    if WANTED.value != ["none"]:
        numbers["where"] = report.surroundings()
    parts.measure(WANTED.value, MEASURES, numbers, None if QUICK.value else page.RESULTS)
    print(page.printed(numbers))
    if PAGE.value:
        page.write(Path(PAGE.value), numbers)


if __name__ == "__main__":
    app.run(main)

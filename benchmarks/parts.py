"""Numbers that are measured part by part: read, replaced one by one, and written as JSON."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import report

Numbers = dict[str, Any]
"""By part of the benchmark, and by name of what was measured; ``"where"`` is the machine."""
Measures = Mapping[str, Callable[[], Iterator[tuple[str, Any]]]]
"""By part what measures it: of each thing its name and numbers."""


def nothing(parts: Sequence[str]) -> Numbers:
    """What is there before anything is measured."""
    return {part: {} for part in ("where", *parts)}


def read(path: Path, parts: Sequence[str]) -> Numbers:
    """What was measured before."""
    return nothing(parts) | (json.loads(path.read_text()) if path.exists() else {})


def write(path: Path, numbers: Numbers) -> None:
    """JSON with a line for each entry."""
    blocks = []
    for part, entries in numbers.items():
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(own)}" for name, own in entries.items())
        blocks.append(f"{json.dumps(part)}: {{\n{lines}\n}}")
    path.write_text("{\n" + ",\n".join(blocks) + "\n}\n", encoding="utf-8")


def measure(wanted: Sequence[str], measures: Measures, numbers: Numbers, path: Path | None) -> None:
    """Put what is wanted among the numbers, and write them to a file, if to any, after each."""
    for part in wanted:
        for name, found in measures[part]():
            numbers[part][name] = report.rounded(json.dumps(found))
            print(f"{part}: {name}", file=sys.stderr, flush=True)
            if path is not None:
                write(path, numbers)

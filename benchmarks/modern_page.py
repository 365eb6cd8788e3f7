"""The tables of modern optimizers in docs/choosing.md, from what was measured."""

from collections.abc import Callable
from pathlib import Path

from parts import Numbers
from tables import filled, table, where

PARTS = ("steps", "groups")
RESULTS = Path(__file__).parent / "results" / "modern.json"

STEP, TRACE, GROUPS_STEP = 1.1, 1.3, 1.03
"""What is asked of the times: of steps beside formulas, and of groups beside none."""


def verdict(found: float, limit: float) -> str:
    """Whether what is asked is met."""
    return "HIT" if found <= limit else "MISS"


def steps(numbers: Numbers) -> str:
    """A line for each optimizer."""
    rows = [("", "ms", "time, × by hand", "quartiles", "bytes, × by hand", "bytes a param", f"≤ {STEP:g}")]
    for name, own in numbers["steps"].items():
        median, lower, upper = own["ratio"]
        cells = (f"{1e3 * own['seconds']:.1f}", f"{median:.2f}", f"{lower:.2f} to {upper:.2f}")
        moved = (f"{own['bytes']:.3f}", f"{own['per parameter']:.1f}")
        rows.append((name, *cells, *moved, verdict(median, STEP)))
    return table(*rows)


def groups(numbers: Numbers) -> str:
    """The trace and the step of a hundred groups."""
    rows = [("a hundred groups of", "", "× no groups", "quartiles", "")]
    for kind, own in numbers["groups"].items():
        for what, limit in (("trace", TRACE), ("step", GROUPS_STEP)):
            median, lower, upper = own[what]
            judged = f"{verdict(median, limit)}, ≤ {limit:g}"
            rows.append((kind, what, f"{median:.3f}", f"{lower:.2f} to {upper:.2f}", judged))
    return table(*rows)


TABLES: dict[str, Callable[[Numbers], str]] = {"steps": steps, "groups": groups, "where": where}
"""By the name that stands in the page's marks."""


def printed(numbers: Numbers) -> str:
    """The tables that there is something for."""
    return "\n\n".join(TABLES[part](numbers) for part in PARTS if numbers[part])


def write(path: Path, numbers: Numbers) -> None:
    """Put each table between its marks."""
    tables = {name: make(numbers) for name, make in TABLES.items()}
    path.write_text(filled(path, "modern", tables), encoding="utf-8")

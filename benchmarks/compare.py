"""What changed between two runs, beyond the quartiles.

    python benchmarks/compare.py BEFORE.json AFTER.json

Compared is what the tables judge, mostly ratios to another side of the same run, so that the runs need
not have had the same machine to themselves. A row changed if its quartiles no longer overlap; a count or
an error, which has none, if it is another number.
"""

from pathlib import Path
from typing import Any

import report
from absl import app
from report import Row

LEAST = 0.01
"""Relative changes below are none: a run of few samples may have quartiles closer than that."""


def changed(before: Row, after: Row) -> bool:
    """Whether the rows differ by more than their spread."""
    (low, high), (lower, upper) = interval(before), interval(after)
    apart = high < lower or upper < low
    return apart and abs(after.judged - before.judged) > LEAST * abs(before.judged)


def interval(row: Row) -> tuple[float, float]:
    """The quartiles of what is judged, or the number itself."""
    return row.spread or (row.judged, row.judged)


def change(before: Row, after: Row) -> Row:
    """One line: before, after, and the factor between them."""
    cells = {"before": shown(before), "after": shown(after)}
    if before.judged:
        cells["factor"] = f"{after.judged / before.judged:.3f}"
    cells["verdict"] = "less" if after.judged < before.judged else "more"
    if before.met != after.met:
        cells["verdict"] += ", now ok" if after.met else ", now a MISS"
    return Row(*after.key, cells, after.judged, None, after.unit, {})


def shown(row: Row) -> str:
    """What is judged, with quartiles where there are any."""
    spread = f" [{row.spread[0]:.3g}, {row.spread[1]:.3g}]" if row.spread else ""
    return f"{row.judged:.3g}{spread} {row.unit}".strip()


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What else is not the same: the machine, the versions, the effort."""
    names = [name for name in before if name not in ("load", "seconds", "failed")]
    return [
        f"{name}: {before[name]} → {after.get(name)}" for name in names if before[name] != after.get(name)
    ]


def compared(before: list[Row], after: list[Row]) -> tuple[list[Row], int]:
    """The rows that changed, and how many are in both runs."""
    old = {row.key: row for row in before}
    pairs = [(old[row.key], row) for row in after if row.key in old]
    return [change(*pair) for pair in pairs if changed(*pair)], len(pairs)


def main(arguments: list[str]) -> None:
    if len(arguments) != 3:
        raise app.UsageError("two files are needed: before and after")
    (old_header, before), (new_header, after) = (report.read(Path(name)) for name in arguments[1:])
    print("\n".join(differences(old_header, new_header)))
    rows, count = compared(before, after)
    if rows:
        print(report.tables(rows))
    alone = f"{len(before) - count} only before, {len(after) - count} only after"
    print(f"\n{len(rows)} of {count} rows changed; {alone}")


if __name__ == "__main__":
    app.run(main)

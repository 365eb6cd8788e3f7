"""The rows of the comparison, as a table and as JSON."""

import dataclasses
import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from speed import Comparison

COLUMNS = ("measure", "case", "tree", "gradtx", "Optax", "torch", "ratio", "of medians")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        measure, case, tree: what was measured, of which optimizer, on which parameters.
        cells: by column, the results as text.
        judged: the number that must not exceed `target`, in the same `unit`.
        raw: every number behind the row, for the JSON file.
    """

    measure: str
    case: str
    tree: str
    cells: dict[str, str]
    judged: float
    target: float
    unit: str
    raw: dict[str, Any]

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.judged <= self.target


def timed(measure: str, case: str, tree: str, times: Comparison, target: float) -> Row:
    """Two sides timed by turns, judged by the median of the ratios."""
    ours, theirs, ratio = times.gradtx.median, times.optax.median, times.ratio
    cells = {
        "gradtx": duration(ours),
        "Optax": duration(theirs),
        "ratio": f"{ratio.median:.3f} [{ratio.lower:.2f}, {ratio.upper:.2f}]",
        "of medians": f"{ours / theirs:.3f}",
    }
    raw = {**dataclasses.asdict(times), "ratio_of_medians": ours / theirs}
    return Row(measure, case, tree, cells, ratio.median, target, "× Optax", raw)


def counted(measure: str, case: str, counts: dict[str, int], target: int) -> Row:
    """Counts by library, judged by gradtx's."""
    cells = {library: str(count) for library, count in counts.items()}
    return Row(measure, case, "", cells, counts["gradtx"], target, "", counts)


def erring(measure: str, case: str, errors: dict[str, float], target: float, beside: str | None) -> Row:
    """Errors by library, judged by gradtx's, or by its ratio to that of the library `beside` it."""
    cells = {library: f"{error:.1e}" for library, error in errors.items()}
    if beside is None:
        return Row(measure, case, "", cells, errors["gradtx"], target, "", errors)
    ratio = errors["gradtx"] / errors[beside]
    return Row(measure, case, "", {**cells, "ratio": f"{ratio:.3f}"}, ratio, target, f"× {beside}", errors)


def duration(seconds: float) -> str:
    """Three digits, in µs, ms or s."""
    for unit, name in ((1, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e6:.3g} µs"


def table(rows: list[Row], columns: Sequence[str] = COLUMNS) -> str:
    """The rows as text, in columns."""
    lines = [[*columns, "target", ""], *(_line(row, columns) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, cells, widths)).rstrip() for cells in lines)


def _line(row: Row, columns: Sequence[str]) -> list[str]:
    cells = {"measure": row.measure, "case": row.case, "tree": row.tree, **row.cells}
    target = f"≤ {row.target:.3g} {row.unit}".strip()
    return [cells.get(column, "") for column in columns] + [target, "ok" if row.met else "MISS"]


def surroundings() -> dict[str, Any]:
    """The machine, how busy it is, and the versions of what is compared and of what runs it."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    device = jax.devices()[0]
    packages = ("gradtx", "jax", "jaxlib", "optax", "torch", "numpy")
    return {
        "platform": platform.platform(),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "device": f"{device.platform}: {device.device_kind}",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
    }


def write(path: Path, header: dict[str, Any], rows: list[Row]) -> None:
    """All numbers as JSON."""
    written = [{**dataclasses.asdict(row), "met": row.met} for row in rows]
    path.write_text(json.dumps({**header, "rows": written}, indent=1) + "\n")

"""Rows of results: made from times, counts or errors; shown as tables; kept as JSON."""

import dataclasses
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

import jax
import targets
from speed import Times


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        measure, case, tree: what was measured, of which optimizer, on which parameters.
        cells: by column, the results as text.
        judged: the number that must not exceed `target`, in the same `unit`.
        target: None where nothing is judged.
        raw: every number behind the row, for the JSON file. That of times has ``seconds`` and ``ratios``,
            the quartiles by side.
        spread: the quartiles of `judged`, where it is a median.
    """

    measure: str
    case: str
    tree: str
    cells: dict[str, str]
    judged: float
    target: float | None
    unit: str
    raw: dict[str, Any]
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool:
        """Whether the target is met, or there is none."""
        return self.target is None or self.judged <= self.target

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same row in another run."""
        return self.measure, self.case, self.tree


def row(
    measure: str,
    case: str,
    tree: str,
    cells: dict[str, str],
    judged: float,
    unit: str = "",
    raw: dict[str, Any] | None = None,
    spread: tuple[float, float] | None = None,
) -> Row:
    """A row with the target that `targets` has for it."""
    target = targets.limit(measure, case, tree, jax.default_backend())
    return Row(measure, case, tree, cells, judged, target, unit, raw or {}, spread)


def timed(measure: str, case: str, tree: str, times: Times, against: Sequence[str] = ("Optax",)) -> Row:
    """Sides timed by turns; judged is the median of the ratios to the quickest of those it stands against.

    In brackets beside the time of another side is the ratio to it.
    """
    beside = max(against, key=lambda side: times.ratios[side].median)
    ratio = times.ratios[beside]
    cells = {side: duration(seconds.median) for side, seconds in times.seconds.items()}
    if len(times.ratios) > 1:
        cells |= {side: f"{cells[side]} ({ratio.median:.2f})" for side, ratio in times.ratios.items()}
    cells["ratio"] = f"{ratio.median:.3f} [{ratio.lower:.2f}, {ratio.upper:.2f}]"
    spread = (ratio.lower, ratio.upper)
    return row(measure, case, tree, cells, ratio.median, f"× {beside}", dataclasses.asdict(times), spread)


def counted(measure: str, case: str, tree: str, counts: dict[str, int], judged: float, unit: str = "") -> Row:
    """Whole numbers by side."""
    cells = {side: f"{count:,}" for side, count in counts.items()}
    return row(measure, case, tree, cells, judged, unit, counts)


def erring(measure: str, case: str, errors: dict[str, float], beside: str | None) -> Row:
    """Errors by side, judged by gradtx's, or by its ratio to that of the side `beside` it."""
    cells = {side: f"{error:.1e}" for side, error in errors.items()}
    if beside is None:
        return row(measure, case, "", cells, errors["gradtx"], "", errors)
    ratio = errors["gradtx"] / errors[beside]
    return row(measure, case, "", {**cells, "ratio": f"{ratio:.3f}"}, ratio, f"× {beside}", errors)


def duration(seconds: float) -> str:
    """Three digits, in µs, ms or s."""
    for unit, name in ((1, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e6:.3g} µs"


def amount(count: float) -> str:
    """Three digits of bytes, in B, kB, MB or GB."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f} B"


# --- tables -----------------------------------------------------------------------------------------


def table(rows: list[Row], columns: Sequence[str]) -> str:
    """The rows as text, in columns."""
    lines = lines_of(rows, columns)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, cells, widths)).rstrip() for cells in lines)


def tables(rows: list[Row]) -> str:
    """A table for each measure, with the columns that it has."""
    parts = [f"{measure}\n{table(own, ('case', 'tree', *columns(own)))}" for measure, own in by_measure(rows)]
    return "\n\n".join(parts)


def markdown(rows: list[Row]) -> str:
    """The rows of one measure as a table in Markdown."""
    head, *body = lines_of(rows, ("case", "tree", *columns(rows)))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["--"] * len(head), *body))


def by_measure(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """The measures in the order in which they first come, with their rows."""
    first = {measure: i for i, measure in enumerate(dict.fromkeys(row.measure for row in rows))}
    ordered = sorted(rows, key=lambda row: first[row.measure])
    return [(measure, list(own)) for measure, own in groupby(ordered, key=lambda row: row.measure)]


def columns(rows: list[Row]) -> list[str]:
    """The cells that any of them has; the ratio last."""
    found = dict.fromkeys(column for row in rows for column in row.cells)
    return sorted(found, key=lambda column: column == "ratio")


def lines_of(rows: list[Row], columns: Sequence[str]) -> list[list[str]]:
    """The cells of a head and of each row, with the target at the end if any has one."""
    judged = any(row.target is not None for row in rows)
    lines = [[*columns, "target", ""], *(line(row, columns) for row in rows)]
    return lines if judged else [cells[:-2] for cells in lines]


def line(row: Row, columns: Sequence[str]) -> list[str]:
    """The cells of a row."""
    cells = {"measure": row.measure, "case": row.case, "tree": row.tree, **row.cells}
    shown = [cells.get(column, "") for column in columns]
    if row.target is None:
        return [*shown, "", ""]
    return [*shown, f"≤ {row.target:.3g} {row.unit}".strip(), "ok" if row.met else "MISS"]


# --- where, and the file ----------------------------------------------------------------------------


def surroundings() -> dict[str, Any]:
    """The machine, how busy it is, and the versions of what is compared and of what runs it."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    device = jax.devices()[0]
    packages = ("gradtx", "jax", "jaxlib", "optax", "torch", "pytorch_optimizer", "numpy")
    return {
        "platform": platform.platform(),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "device": device.device_kind,
        **({"driver": driver()} if device.platform == "gpu" else {}),
        "python": platform.python_version(),
        "versions": {package: found for package in packages if (found := installed(package))},
    }


def installed(package: str) -> str | None:
    """Its version; None where it is missing, as PyTorch may be."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def driver() -> str:
    """What an NVIDIA GPU says of itself."""
    if not shutil.which("nvidia-smi"):
        return "unknown"
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True).stdout.strip()


def write(path: Path, header: dict[str, Any], rows: list[Row]) -> None:
    """All numbers as JSON, a line for each row: the next run changes the lines of what it measured."""
    written = [{**dataclasses.asdict(row), "met": row.met} for row in rows]
    fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in header.items()]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in written)
    path.write_text("{\n" + ",\n".join([*fields, f'"rows": [\n{lines}\n]']) + "\n}\n", encoding="utf-8")


def read(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """What `write` wrote."""
    header = rounded(path.read_text(encoding="utf-8"))
    return header, [from_json(row) for row in header.pop("rows")]


def rounded(text: str) -> Any:
    """JSON with six digits of every number; what is measured is not known to more than three."""
    return json.loads(text, parse_float=lambda digits: float(f"{float(digits):.6g}"))


def from_json(row: dict[str, Any]) -> Row:
    """A row, from the dict of its fields."""
    fields = {field.name: row[field.name] for field in dataclasses.fields(Row)}
    return Row(**{**fields, "spread": tuple(row["spread"]) if row["spread"] else None})

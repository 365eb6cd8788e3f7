"""Rows about many rows: the mean over all optimizers, and how times grow."""

from collections.abc import Iterator
from statistics import geometric_mean, linear_regression

import numpy as np
import report
from report import Row
from trees import GROWTH

GROWING = {"leaves": ("trace, cold", "first call", "step"), "size": ("step",)}
"""What is expected to grow along each series."""

SERIES = {tree for trees in GROWTH.values() for tree in trees.values()}


def summary(rows: list[Row]) -> Iterator[Row]:
    """What can be said of these rows together."""
    ratios = [row.judged for row in rows if row.measure == "step" and row.tree not in SERIES]
    if len(ratios) > 1:
        mean = geometric_mean(ratios)
        cells = {"ratio": f"{mean:.3f}", "worst": f"{max(ratios):.3f}"}
        pairs = f"{len(ratios)} optimizers on trees"
        yield report.row("step, geometric mean", pairs, "", cells, mean, "× Optax", {"worst": max(ratios)})
    for series, measures in GROWING.items():
        for measure in measures:
            yield from growth(rows, series, measure)


def growth(rows: list[Row], series: str, measure: str) -> Iterator[Row]:
    """The exponent n of time ~ size^n over the last factor of ten: 1 is linear, fixed costs make it less."""
    points = along(rows, series, measure)
    late = [size for size in points if size >= max(points) / 10]
    if len(late) < 2:
        return
    exponents = {
        side: linear_regression(
            np.log(late), np.log([points[size].raw["seconds"][side]["median"] for size in late])
        ).slope
        for side in ("gradtx", "Optax")
    }
    cells = {side: f"{exponent:.2f}" for side, exponent in exponents.items()}
    case, tree = points[late[0]].case, f"{series}, {min(late):,} to {max(late):,}"
    yield report.row(f"growth: {measure}", case, tree, cells, exponents["gradtx"], "", exponents)


def along(rows: list[Row], series: str, measure: str) -> dict[int, Row]:
    """The rows of a series, by size."""
    found = {row.tree: row for row in rows if row.measure == measure}
    return {size: found[tree] for size, tree in GROWTH[series].items() if tree in found}

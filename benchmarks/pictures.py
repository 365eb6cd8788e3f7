"""Pictures of the rows: bars per optimizer, lines over size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
from report import Row
from summary import GROWING, SERIES, along

STYLE = Path(__file__).parents[1] / "examples" / "gradtx.mplstyle"
TORCH_SIDES = ("torch", "foreach", "fused", "compiled")


def draw(rows: list[Row], folder: Path) -> list[Path]:
    """Every picture that there are rows for, as bench_NAME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    plt.style.use(STYLE)
    written = []
    for name, picture in PICTURES.items():
        figure = picture(rows)
        if figure is not None:
            written.append(folder / f"bench_{name}.png")
            figure.savefig(written[-1])
            plt.close(figure)
    return written


def step(rows: list[Row]) -> Any:
    """The step's ratio to Optax: a row of bars per optimizer, a colour per tree."""
    found = [row for row in rows if row.measure == "step" and row.tree not in SERIES]
    bars = {tree: {row.case: row for row in found if row.tree == tree} for tree in trees(found)}
    return grouped("Time of the compiled step", "× Optax, lower is better", bars)


def start(rows: list[Row]) -> Any:
    """What there is to wait for at the start: tracing, and all of the first call."""
    found = [row for row in rows if row.measure in ("trace, cold", "first call") and row.tree not in SERIES]
    bars = {
        f"{measure}, {tree}": {row.case: row for row in found if (row.measure, row.tree) == (measure, tree)}
        for measure in dict.fromkeys(row.measure for row in found)
        for tree in trees(found)[:2]  # more series than these four would share colours
    }
    return grouped("Before the first step", "× Optax, lower is better", bars)


def torch(rows: list[Row]) -> Any:
    """gradtx's time of a step over those of PyTorch: a line per optimizer and tree, a dot per side."""
    found = [row for row in rows if row.measure == "step, torch"]
    if not found:
        return None
    figure, ax = plt.subplots(figsize=(8, 1.6 + 0.24 * len(found)))
    for side in TORCH_SIDES:
        ratios = {y: row.raw["ratios"][side] for y, row in enumerate(found) if side in row.raw["ratios"]}
        if ratios:
            spread = whiskers(list(ratios.values()))
            medians = [ratio["median"] for ratio in ratios.values()]
            ax.errorbar(medians, list(ratios), xerr=spread, fmt="o", markersize=5, elinewidth=0.8, label=side)
    ax.set_yticks(range(len(found)), [f"{row.case}, {row.tree}" for row in found])
    ax.set(xscale="log", title="Time of a step", xlabel="× PyTorch's, lower is better")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("{x:.1g}")
    return finished(figure, ax, len(found) - 1)


def growth(rows: list[Row]) -> Any:
    """Times over the number of leaves and over the size."""
    panels = [
        (series, measure, points)
        for series, measures in GROWING.items()
        for measure in measures
        if len(points := along(rows, series, measure)) > 1
    ]
    if not panels:
        return None
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.6), squeeze=False)
    figure.suptitle("Growth of adamw")
    for ax, (series, measure, points) in zip(axes[0], panels, strict=True):
        for side in ("gradtx", "Optax"):
            seconds = [row.raw["seconds"][side] for row in points.values()]
            ax.plot(list(points), [x["median"] for x in seconds], marker="o", markersize=4, label=side)
            ax.fill_between(
                list(points), [x["lower"] for x in seconds], [x["upper"] for x in seconds], alpha=0.2
            )
        linear(ax, points)
        ax.set(xscale="log", yscale="log", title=measure, ylabel="seconds")
        ax.set_xlabel("leaves, 3M numbers in all" if series == "leaves" else "numbers, in 10 leaves")
        ax.legend()
    return figure


def linear(ax: Any, points: dict[int, Row]) -> None:
    """A thin line of slope 1 through the last point."""
    sizes = list(points)
    last = points[sizes[-1]].raw["seconds"]["gradtx"]["median"]
    line = [last * size / sizes[-1] for size in sizes]
    ax.plot(sizes, line, color="#94a3b8", linewidth=0.8, linestyle="--", label="linear")


def trees(rows: list[Row]) -> list[str]:
    """Of these rows, in their order."""
    return list(dict.fromkeys(row.tree for row in rows))


def grouped(title: str, label: str, bars: dict[str, dict[str, Row]]) -> Any:
    """Bars of the ratios to Optax: a group per name, a colour per series, the numbers at the right."""
    bars = {series: own for series, own in bars.items() if own}
    if not bars:
        return None
    names = list(dict.fromkeys(name for own in bars.values() for name in own))
    places = layout(names, bars)
    last = max(y for own in places.values() for y in own.values())
    figure, ax = plt.subplots(figsize=(8, 1.6 + 0.16 * last))
    for series, own in bars.items():
        ratios = [row.raw["ratios"]["Optax"] for row in own.values()]
        medians = [ratio["median"] for ratio in ratios]
        y = [places[name][series] for name in own]
        error = {"ecolor": "#334155", "elinewidth": 0.8}
        ax.barh(y, medians, xerr=whiskers(ratios), height=0.85, error_kw=error, label=series)
        for at, median in zip(y, medians, strict=True):
            ax.text(1.01, at, f"{median:.2f}", transform=ax.get_yaxis_transform(), va="center", fontsize=7)
    ax.set_yticks([sum(own.values()) / len(own) for own in places.values()], names)
    most = max(row.judged for own in bars.values() for row in own.values())
    ax.set(title=title, xlabel=label, xlim=(0, 1.15 * max(most, 1)))
    return finished(figure, ax, last)


def layout(names: list[str], bars: dict[str, dict[str, Row]]) -> dict[str, dict[str, float]]:
    """Where each bar stands: one below the other, with a gap after each group."""
    places: dict[str, dict[str, float]] = {}
    y = 0.0
    for name in names:
        places[name] = {series: y + i for i, series in enumerate(s for s in bars if name in bars[s])}
        y += len(places[name]) + 0.8
    return places


def whiskers(ratios: list[dict[str, float]]) -> list[list[float]]:
    """The distances of the quartiles from the medians."""
    below = [ratio["median"] - ratio["lower"] for ratio in ratios]
    above = [ratio["upper"] - ratio["median"] for ratio in ratios]
    return [below, above]


def finished(figure: Any, ax: Any, last: float) -> Any:
    """With a line where both are equal, names from top to bottom, and a legend."""
    ax.axvline(1, color="#0f172a", linewidth=1, zorder=0.5)
    ax.grid(axis="y", visible=False)
    ax.set_ylim(last + 0.8, -0.8)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


PICTURES: dict[str, Callable[[list[Row]], Any]] = {
    "step": step,
    "start": start,
    "torch": torch,
    "growth": growth,
}

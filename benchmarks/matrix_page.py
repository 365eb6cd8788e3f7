"""The tables and the pictures of docs/matrix_optimizers.md, from the measured numbers."""

from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matrix_cases import CASES
from matrix_training import EACH
from parts import Numbers
from tables import filled, table

from gradtx.matrix.polynomials import triples_of

PARTS = ("compiling", "widths", "steps", "losses")

RESULTS = Path(__file__).parent / "results" / "matrix.json"

STYLE = Path(__file__).parents[1] / "examples" / "gradtx.mplstyle"

COLORS = ("#64748b", "#2563eb", "#059669", "#d97706", "#dc2626", "#7c3aed", "#0891b2", "#be185d")

WORST, COMPILE = 1.25, 3.0
"""The most that the worst step may be, × the mean; and that compiling SOAP may take, × AdamW."""


# --- tables -----------------------------------------------------------------------------------------


def steps(numbers: Numbers) -> str:
    """Every case on every tree: times, their ratio, and the worst steps."""
    head = "tree", "gradtx", "mean step", "beside", "mean step", "ratio", "worst step", "theirs", "of peak"
    rows: list[tuple[str, ...]] = [head]
    for name, own in numbers["steps"].items():
        tree, case = name.split(": ", 1)
        compared = "{:.2f} [{:.2f}, {:.2f}]".format(*own["ratio"])
        beside = next((one.theirs[0] for one in CASES if one.name == case), "")
        worst = [f"{own[side]:.2f} × mean" if is_periodic(case) else "" for side in ("worst", "their_worst")]
        peak = f"{own['peak']:.0%}" if own["peak"] else ""
        shown = f"`{case.split(',')[0]}`{case[len(case.split(',')[0]) :]}"
        times = [milliseconds(own[side]) for side in ("seconds", "theirs")]
        rows.append((tree, shown, times[0], beside, times[1], compared, *worst, peak))
    return table(*rows)


def is_periodic(case: str) -> bool:
    """Whether the work of its steps differs."""
    return any(one.name == case and one.period > 1 for one in CASES)


def milliseconds(seconds: float) -> str:
    """With three digits."""
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def widths(numbers: Numbers) -> str:
    """Every optimizer: the mean step by width."""
    all_widths = sorted({int(width) for own in numbers["widths"].values() for width in own})
    rows = [("", *map(str, all_widths))]
    for name, own in numbers["widths"].items():
        cells = (milliseconds(own[str(width)]) if str(width) in own else "" for width in all_widths)
        rows.append((name, *cells))
    return table(*rows)


def losses(numbers: Numbers) -> str:
    """Every optimizer: the rate, the losses and the time."""
    rows = [("", "rate", "held-out loss", "loss of the last 50 steps", "time of a step, model and all")]
    for name, own in numbers["losses"].items():
        ends = own["held_out"]
        spread = "" if None in ends else f"{mean(ends):.3f} ± {stdev(ends) / len(ends) ** 0.5:.3f}"
        last = own["curve"][-50 // EACH :]
        shown = "" if None in last else f"{mean(last):.3f}"
        rows.append(
            (f"`{name}`", f"{own['rate']:.2g}", spread or "diverged", shown, milliseconds(own["seconds"]))
        )
    return table(*rows)


class Demand(NamedTuple):
    """What a number is to be at most."""

    name: str
    found: float
    limit: float

    @property
    def verdict(self) -> str:
        return "HIT" if self.found <= self.limit else "MISS"


def demands(numbers: Numbers) -> list[Demand]:
    """All of what was measured."""
    found = []
    for name, own in numbers["steps"].items():
        tree, case = name.split(": ", 1)
        for one in (one for one in CASES if one.name == case):
            if one.limit is not None:
                found.append(Demand(f"{tree}, {case}: step, × {one.theirs[0]}", own["ratio"][0], one.limit))
            if one.even:
                found.append(Demand(f"{tree}, {case}: worst step, × the mean", own["worst"], WORST))
    for name, own in numbers["compiling"].items():
        found.append(Demand(f"{name}, soap: to compile, × adamw", own["ratio"], COMPILE))
    return found


def asked(numbers: Numbers) -> str:
    """Each demand beside what was found."""
    rows = [("", "found", "asked", "")]
    rows += [(own.name, f"{own.found:.2f}", f"≤ {own.limit:g}", own.verdict) for own in demands(numbers)]
    return table(*rows)


def where(numbers: Numbers) -> str:
    """The machine and the versions, of each part."""
    lines = []
    for part, header in numbers["where"].items():
        versions = " and ".join(
            f"{name} {header['versions'].get(name, 'not there')}"
            for name in ("jax", "torch", "pytorch_optimizer")
        )
        machine = f"{header['cores']} cores of {header['cpu']}, loaded {header['load'][0]:.1f} before"
        lines.append(f"{part}: {versions}, on {machine}")
    return "; ".join(lines) + "." if lines else "Nothing has been measured yet."


TABLES: dict[str, Callable[[Numbers], str]] = {
    "steps": steps,
    "widths": widths,
    "losses": losses,
    "asked": asked,
    "where": where,
}
"""By the name that stands in the page's marks."""


def printed(numbers: Numbers) -> str:
    """What the command prints."""
    return "\n\n".join(make(numbers) for name, make in TABLES.items() if name != "where")


def write(path: Path, numbers: Numbers) -> None:
    """Put each table between its marks, and draw the pictures."""
    tables = {name: make(numbers) for name, make in TABLES.items()}
    path.write_text(filled(path, "matrix", tables), encoding="utf-8")
    draw(path.parent / "assets", numbers)


# --- pictures ---------------------------------------------------------------------------------------

STEPS_OF = {
    "standard": 5,
    "quintic": 5,
    "polar_express": 5,
    "cans": 5,
    "aol": 4,
    "8+2": 10,
    "cubic": 5,
}
"""Coefficient sets, and how many steps of each are drawn."""


def draw(folder: Path, numbers: Numbers) -> None:
    """All of them; those that nothing was measured for stay as they are."""
    matplotlib.style.use(STYLE)
    folder.mkdir(parents=True, exist_ok=True)
    coefficients(folder / "matrix_coefficients.png")
    if numbers["widths"]:
        over_widths(folder / "matrix_widths.png", numbers)
    if numbers["losses"]:
        curves(folder / "matrix_losses.png", numbers)


def coefficients(path: Path) -> None:
    """What becomes of a singular value, a panel for each set."""
    figure = Figure(figsize=(11, 4.6))
    panels = figure.subplots(2, 4, sharex=True, sharey=True)
    s = np.geomspace(1e-3, 1, 4000)
    for axes, (name, count) in zip(panels.flat, [*STEPS_OF.items(), ("svd", 0)], strict=True):
        y = s if count else np.ones_like(s)
        for a, b, c in triples_of("page", name, count, "last") if count else ():
            y = a * y + b * y**3 + c * y**5
        axes.axhline(1, color="#0f172a", linewidth=0.8, linestyle=":")
        axes.plot(s, y, linewidth=1.2)
        axes.set(title=f"{name}, {count} steps" if count else "svd, qdwh: exact")
        axes.set(xscale="log", xlim=(1e-3, 1), ylim=(0, 1.4))
        axes.minorticks_off()
    figure.supxlabel("singular value of the mean, × the norm", fontsize=10)
    figure.supylabel("singular value of the update", fontsize=10)
    figure.savefig(path)


def over_widths(path: Path, numbers: Numbers) -> None:
    """Lines of the mean step, over that of the first optimizer."""
    figure = Figure(figsize=(9, 4.5))
    axes = figure.subplots()
    for (name, own), color in zip(numbers["widths"].items(), COLORS, strict=False):
        axes.plot(
            [*map(int, own)], [1e3 * x for x in own.values()], "o-", color=color, label=name, markersize=4
        )
    ticks = [*map(int, next(iter(numbers["widths"].values())))]
    axes.set(xscale="log", yscale="log", xlabel="width", ylabel="ms for a step of ten square matrices")
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    figure.legend(loc="outside right upper")
    figure.savefig(path)


def curves(path: Path, numbers: Numbers) -> None:
    """The loss over steps and over time."""
    figure = Figure(figsize=(11, 4.2))
    over_steps, over_time = figure.subplots(1, 2, sharey=True)
    highest, lowest = 4.0, 4.0
    for (name, own), color in zip(numbers["losses"].items(), COLORS, strict=False):
        curve = np.array(own["curve"], float)
        at = EACH * (np.arange(len(curve)) + 0.5)
        over_steps.plot(at, curve, color=color, label=name)
        over_time.plot(at * own["seconds"], curve, color=color)
        lowest = min(lowest, np.nanmin(curve))
    over_steps.set(xlabel="steps", ylabel="training loss, nats", ylim=(lowest - 0.1, highest))
    over_time.set(xlabel="seconds, model and all")
    figure.legend(loc="outside right upper")
    figure.savefig(path)

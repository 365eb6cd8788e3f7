"""The tables and the picture of docs/fewer_bytes.md, from the measured numbers."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from storage_cases import BASELINE, OTHERS, VARIANTS, Variant
from storage_tasks import TASKS
from tables import filled, table, where

Numbers = dict[str, dict[str, Any]]
"""By part of the benchmark, and by name of what was measured."""

STYLE = Path(__file__).parents[1] / "examples" / "gradtx.mplstyle"

CLOSE = 0.02
"""The nats by which a mean loss may differ."""

EQUAL, STACKED = "8 of 1024 × 1024", "gpt2, stacked"
"""The trees of the costs."""


class Difference(NamedTuple):
    """Of the mean loss to that of float32: over pairs of trainings with the same seed.

    Attributes:
        mean: NaN where a training diverged.
        error: its standard error.
        of_mean: the standard error of the mean loss of float32 itself, over its seeds.
    """

    mean: float
    error: float
    of_mean: float


def difference(numbers: Numbers, task: str, variant: Variant, kind: str = "held_out") -> Difference:
    """Of a variant on a task."""
    own, base = (
        np.array(numbers["losses"][f"{task}: {name}"][kind], float) for name in (variant.name, BASELINE.name)
    )
    apart, n = own - base, math.sqrt(len(base))
    return Difference(apart.mean(), apart.std(ddof=1) / n, base.std(ddof=1) / n)


# --- tables -----------------------------------------------------------------------------------------


def losses(numbers: Numbers) -> str:
    """Every variant: bytes, and how far its losses are from those of float32."""
    rows = [("", "state", "params", *(f"{task}: held-out loss" for task in TASKS))]
    for variant in VARIANTS:
        kept = numbers["bytes"][variant.name]
        cells = [loss(numbers, task, variant) for task in TASKS]
        rows.append((shown(variant), f"{kept['state']:.3g}", f"{kept['params']:.3g}", *cells))
    return table(*rows)


def loss(numbers: Numbers, task: str, variant: Variant) -> str:
    """The difference; of float32 the loss."""
    found = difference(numbers, task, variant)
    if variant is BASELINE:
        own = np.array(numbers["losses"][f"{task}: {variant.name}"]["held_out"], float)
        return f"{own.mean():.4f} ± {found.of_mean:.4f}"
    if not abs(found.mean) < 1:
        return "diverged"
    return f"{signed(found.mean)} ± {found.error:.4f}"


def signed(x: float) -> str:
    """With four places and a sign."""
    return f"{x:+.4f}".replace("-", "−")


def shown(variant: Variant) -> str:
    """The name, bold where a loss as of float32 is asked."""
    return f"**{variant.name}**" if variant.judged else variant.name


def costs(numbers: Numbers) -> str:
    """Every variant: the time of a step, and memory beside its inputs."""
    rows = [
        (
            "",
            "step, × float32",
            "memory kept",
            "extra memory, B per param",
            "in order",
            "in order, B × the largest tensor",
        )
    ]
    for variant in VARIANTS:
        time = numbers["times"][variant.name]
        memory = numbers["memory"][f"{EQUAL}: {variant.name}"]
        count, largest = memory["params"], memory["largest tensor"]
        rows.append(
            (
                variant.name,
                *(between(time[kind]) for kind in ("as it comes", "memory kept")),
                f"{memory['as it comes'] / count:.2f}",
                f"{memory['in order'] / count:.2f}",
                f"{memory['in order'] / largest:.1f}",
            )
        )
    return table(*rows)


def between(time: dict[str, float]) -> str:
    """The median with its quartiles."""
    return f"{time['median']:.2f} [{time['lower']:.2f}, {time['upper']:.2f}]"


def others(numbers: Numbers) -> str:
    """State of optimizers besides AdamW."""
    rows = [("", "state")]
    rows += [(name, f"{numbers['bytes'][name]['state']:.3g}") for name in OTHERS]
    return table(*rows)


class Demand(NamedTuple):
    """What a number is to be at most."""

    name: str
    found: float
    limit: float


def demands(numbers: Numbers) -> list[Demand]:
    """All of them."""
    companded = "8 bits, companded and square root"
    found = []
    for variant in VARIANTS:
        for task in TASKS if variant.judged else ():
            apart = abs(difference(numbers, task, variant).mean)
            found.append(Demand(f"{task}, {variant.name}: distance of the mean losses, nats", apart, CLOSE))
    kept = numbers["bytes"]
    found += [
        Demand("AdamW in 8 bits: bytes of state", kept[companded]["state"], 2.3),
        Demand("AdamW in bfloat16: bytes of state", kept["16 bits, bfloat16"]["state"], 4.01),
        *(Demand(f"{name}: bytes of state", kept[name]["state"], 1.13) for name in list(OTHERS)[:2]),
    ]
    for name, limit in ((companded, 1.6), ("16 bits, bfloat16", 1.1)):
        for kind, time in numbers["times"][name].items():
            found.append(Demand(f"{name}: step, × float32, {kind}", time["median"], limit))
    for tree in (EQUAL, STACKED):
        memory = numbers["memory"][f"{tree}: {companded}"]
        most = memory["in order"] / memory["largest tensor"]
        found.append(Demand(f"{tree}, {companded}, in order: extra bytes × the largest tensor", most, 12))
    return found


def asked(numbers: Numbers) -> str:
    """Each demand beside what was found."""
    rows = [("", "found", "asked", "")]
    for name, found, limit in demands(numbers):
        rows.append(
            (
                name,
                f"{found:.2g}" if found < 1 else f"{found:.3g}",
                f"≤ {limit:g}",
                "ok" if found <= limit else "not met",
            )
        )
    return table(*rows)


def seeds(numbers: Numbers) -> str:
    """In a sentence: how many trainings, and which differences are within their standard errors."""
    judged = [(task, variant) for task in TASKS for variant in VARIANTS if variant.judged]
    found = [difference(numbers, task, variant) for task, variant in judged]
    paired = sum(abs(x.mean) <= x.error for x in found)
    alone = sum(abs(x.mean) <= math.hypot(x.of_mean, x.of_mean) for x in found)
    counts = " and ".join(f"{count(numbers, task)} on the {task}" for task in TASKS)
    return (
        f"Trainings: {counts}. Of the {len(found)} differences of the lines in bold, {alone} are within the "
        f"standard error that two means over so many seeds have, and {paired} within that of the mean over "
        "pairs, which is much smaller; of differences that are chance alone, two thirds would be."
    )


def count(numbers: Numbers, task: str) -> int:
    """How many seeds."""
    return len(numbers["losses"][f"{task}: {BASELINE.name}"]["held_out"])


TABLES: dict[str, Callable[[Numbers], str]] = {
    "losses": losses,
    "seeds": seeds,
    "costs": costs,
    "others": others,
    "asked": asked,
    "where": where,
}
"""By the name that stands in the page's marks."""


def write(path: Path, numbers: Numbers) -> None:
    """Put each table between its marks, and draw the picture."""
    tables = {name: make(numbers) for name, make in TABLES.items()}
    path.write_text(filled(path, "storage", tables), encoding="utf-8")
    draw(path.parent / "assets" / "fewer_bytes.png", numbers)


# --- the picture ------------------------------------------------------------------------------------

LIMIT = 0.03
"""Differences beyond this are off the scale."""


def draw(path: Path, numbers: Numbers) -> None:
    """A line for each variant: its bytes, and how far its losses are from those of float32."""
    matplotlib.style.use(STYLE)
    figure = Figure(figsize=(11, 1.6 + 0.3 * len(VARIANTS)))
    bars, *panels = figure.subplots(1, 1 + len(TASKS), sharey=True, width_ratios=(4, 3, 3))
    lines = range(len(VARIANTS))
    kept = [numbers["bytes"][variant.name] for variant in VARIANTS]
    params, state = (np.array([own[key] for own in kept]) for key in ("params", "state"))
    bars.barh(lines, params, height=0.7, color="#94a3b8", label="params, with what was rounded off")
    bars.barh(lines, state, left=params, height=0.7, label="state of AdamW")
    for line, total in zip(lines, params + state, strict=True):
        bars.text(total + 0.15, line, f"{total:.3g}", va="center", fontsize=8)
    bars.set(title="Bytes per parameter", xlim=(0, 14))
    bars.set_yticks(lines, [variant.name for variant in VARIANTS])
    bars.set_ylim(len(VARIANTS) - 0.4, -0.6)
    for axes, task in zip(panels, TASKS, strict=True):
        differences(axes, numbers, task)
    for axes in (bars, *panels):
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
    figure.legend(*bars.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def differences(axes: Axes, numbers: Numbers, task: str) -> None:
    """Dots with standard errors; an arrow where one is off the scale."""
    found = [difference(numbers, task, variant) for variant in VARIANTS]
    axes.axvspan(-CLOSE, CLOSE, color="#94a3b8", alpha=0.15, linewidth=0)
    axes.axvline(0, color="#0f172a", linewidth=1)
    for line, (variant, own) in enumerate(zip(VARIANTS, found, strict=True)):
        color = "C0" if variant.judged else "C1"
        if not abs(own.mean) < LIMIT:
            axes.plot(LIMIT, line, ">", color=color, markersize=6, clip_on=False)
            axes.text(LIMIT * 0.92, line, "diverged", ha="right", va="center", fontsize=8)
        elif variant is not BASELINE:
            axes.errorbar(own.mean, line, xerr=own.error, fmt="o", color=color, markersize=5, capsize=3)
    axes.set(title=f"{task.capitalize()}: loss less that of float32", xlim=(-LIMIT, LIMIT), xlabel="nats")
    axes.set_xticks([-CLOSE, 0, CLOSE])

"""`gradtx.minimize` beside SciPy's L-BFGS-B: evaluations until both stop. The page docs/minimize.md.

    python benchmarks/minimize.py [--out docs]

It runs the problems of tests/problems.py, in double precision. What the columns mean and what to expect is
in the README beside this file.
"""

import re
import sys
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import matplotlib.style
import numpy as np
import optax
from absl import app, flags
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

sys.path.insert(0, str(Path(__file__).parents[1]))  # the problems of the tests

import gradtx
from tests import problems
from tests.problems import PROBLEMS, Problem

OUT = flags.DEFINE_string("out", None, "folder of the page that gets the table, and its picture")

STYLE = Path(__file__).parents[1] / "examples" / "gradtx.mplstyle"

MARKS = "<!-- python benchmarks/minimize.py --out docs -->\n", "<!-- end -->"
"""What the page has before and after the table."""

FLOOR = 1e-14
"""Differences below this are rounding, and drawn as this."""


class Run(NamedTuple):
    """Where one side stopped, and why; and its way there."""

    value: float
    evaluations: int
    iterations: int
    stop: str
    path: problems.Path


def run_scipy(problem: Problem) -> Run:
    found, path = problems.run_scipy(problem)
    stops = {"RELATIVE REDUCTION": "value", "PROJECTED GRADIENT": "gradient"}
    stop = next((stop for words, stop in stops.items() if words in found.message), found.message)
    return Run(float(found.fun), int(found.nfev), int(found.nit), stop, path)


def run_minimize(problem: Problem, optimizer: Any) -> Run:
    """Any optimizer of `gradtx.minimize`, so the stopping rules are its own."""
    path = problems.Path([], [])
    path.append(1, problem.fun(problem.start))
    found = gradtx.minimize(
        problem.fun,
        problem.start,
        optimizer,
        gradient_tolerance=1e-5,
        callback=lambda now: path.append(now.evaluations, now.fun),
    )
    stop = re.sub(r".*\((\w+)_tolerance\)", r"\1", found.message)
    return Run(float(found.fun), int(found.evaluations), int(found.iterations), stop, path)


Sides: TypeAlias = dict[str, Run]

SIDES = {
    "SciPy": run_scipy,
    "gradtx": lambda problem: run_minimize(problem, gradtx.lbfgs()),
    "Optax": lambda problem: run_minimize(problem, optax.lbfgs()),
}


def table(results: list[Sides]) -> str:
    """In Markdown: for each problem its sides, beside SciPy."""
    lines = [
        "| problem | dimensions | | above the minimum | evaluations | of SciPy's | iterations | stopped by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for problem, runs in zip(PROBLEMS, results, strict=True):
        first = f"{problem.name} | {problem.start.size}"
        for side, run in runs.items():
            lines.append(
                f"| {first} | {side} | {run.value - problem.minimum:.0e} | {run.evaluations} "
                f"| {run.evaluations / runs['SciPy'].evaluations:.2f} | {run.iterations} | {run.stop} |"
            )
            first = " | "
    return "\n".join(lines) + "\n"


def draw(results: list[Sides], path: Path) -> None:
    """How far above its minimum each problem was, by evaluations."""
    matplotlib.style.use(STYLE)
    looks = {
        "SciPy": {"color": "#94a3b8", "linewidth": 4.5},
        "gradtx": {"color": "#2563eb"},
        "Optax": {"color": "#d97706", "linestyle": (0, (3, 3))},
    }
    figure = Figure(figsize=(10, 6))
    *panels, last = figure.subplots(2, 3).flat
    for axes, problem, runs in zip(panels, PROBLEMS, results, strict=True):
        for side, run in runs.items():
            above = np.maximum(np.array(run.path.values) - problem.minimum, FLOOR)
            axes.semilogy(run.path.evaluations, above, label=side, **looks[side])
        axes.set(title=f"{problem.name}, {problem.start.size} dimensions", ylim=(FLOOR / 3, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in panels[2:]:
        axes.set_xlabel("Evaluations of value and gradient")
    for axes in panels[::3]:
        axes.set_ylabel("Value above the minimum")
    last.axis("off")
    last.legend(*panels[0].get_legend_handles_labels(), loc="center", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main(_: list[str]) -> None:
    jax.config.update("jax_enable_x64", True)
    results = [{side: run(problem) for side, run in SIDES.items()} for problem in PROBLEMS]
    print(table(results))
    if OUT.value is None:
        return
    page, (begin, end) = Path(OUT.value) / "minimize.md", MARKS
    before, rest = page.read_text().split(begin)
    after = rest.split(end)[1]
    page.write_text(f"{before}{begin}\n{table(results)}\n{end}{after}")
    draw(results, page.parent / "assets" / "minimize.png")


if __name__ == "__main__":
    app.run(main)

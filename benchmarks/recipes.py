"""Every recipe of the library on two small tasks: losses, state and time, and the page docs/recipes.md.

    python benchmarks/recipes.py [--out docs] [--parts times] [--recipes REGEX] [--quick]

It needs what the tests need, and takes 12 minutes on two idle cores; with --quick 4, and proves nothing. Each
number that is measured replaces the old one in recipes.json, beside the picture, and the page shows them all:
so a new recipe, or the times on a quieter machine, can be added alone. Without --out everything goes to a new
folder for temporary files.
"""

import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import recipes_costs as costs
import recipes_page as page
from absl import app, flags
from recipes_cases import Recipe, recipes
from recipes_tasks import CONTEXT, TASKS
from recipes_training import search
from speed import Effort

PARTS = ("losses", "bytes", "times")

OUT = flags.DEFINE_string("out", None, "folder for the page, its picture and its numbers")
WANTED = flags.DEFINE_multi_enum("parts", PARTS, PARTS, "what to measure; may be given several times")
NAMES = flags.DEFINE_string("recipes", "", "regular expression: which recipes")
QUICK = flags.DEFINE_bool("quick", False, "hardly any training, to see that it runs")


def measure_losses(chosen: list[Recipe], measured: dict[str, page.Measured]) -> Iterator[None]:
    """Both tasks."""
    for name, task in TASKS.items():
        data = jax.device_put(task.load())
        for recipe in chosen:
            found = search(task, recipe, 3 if QUICK.value else task.steps, data)
            measured[recipe.name][name] = rounded(found._asdict())
            yield


def measure_bytes(chosen: list[Recipe], measured: dict[str, page.Measured]) -> Iterator[None]:
    """State for GPT-2 small."""
    for recipe in chosen:
        measured[recipe.name]["bytes"] = rounded(costs.bytes_per_parameter(recipe))
        yield


def measure_times(chosen: list[Recipe], measured: dict[str, page.Measured]) -> Iterator[None]:
    """Steps beside SGD's."""
    effort = Effort(2, 2, 0) if QUICK.value else Effort(9, 41, 60)
    for name, found in costs.times_beside_sgd(chosen, effort).items():
        measured[name]["time"] = rounded(found.median)
        yield


MEASURES = {"losses": measure_losses, "bytes": measure_bytes, "times": measure_times}


def rounded(x: Any) -> Any:
    """Numbers with five digits: no more is meant, and fewer differ from one machine to the next."""
    if isinstance(x, float):
        return float(f"{x:.5g}")
    if isinstance(x, dict):
        return {key: rounded(child) for key, child in x.items()}
    return [rounded(child) for child in x] if isinstance(x, list) else x


def in_lines(measured: dict[str, page.Measured]) -> str:
    """JSON with a line for each recipe."""
    lines = [f"{json.dumps(name)}: {json.dumps(own)}" for name, own in measured.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def surroundings() -> dict[str, Any]:
    """What the numbers depend on."""
    names = {"gradtx": "gradtx", "JAX": "jax", "scikit-learn": "scikit-learn"}
    shown = [f"{name} {version(package)}" for name, package in names.items()]
    params = jax.eval_shape(TASKS["text"].init, jax.random.key(0))
    machine = f"{jax.devices()[0].platform.upper()} ({platform.machine()}, {os.cpu_count()} cores)"
    return dict(
        versions=f"{', '.join(shown)}, on {machine}",
        python=platform.python_version(),
        context=CONTEXT,
        params=sum(x.size for x in jax.tree.leaves(params)),
    )


def main(_: list[str]) -> None:
    every = recipes()
    folder = Path(OUT.value or tempfile.mkdtemp())
    numbers = folder / "assets" / "recipes.json"
    old = json.loads(numbers.read_text()) if numbers.exists() else {}
    measured = {recipe.name: old.get(recipe.name, {}) for recipe in every}
    chosen = [recipe for recipe in every if re.search(NAMES.value, recipe.name)]
    numbers.parent.mkdir(parents=True, exist_ok=True)
    for part in WANTED.value:
        for _done in MEASURES[part](chosen, measured):
            numbers.write_text(in_lines(measured))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    page.write(folder, every, measured, **surroundings())
    print(folder / "recipes.md")


if __name__ == "__main__":
    app.run(main)

"""How long it takes before the first step: to import gradtx, and to build an optimizer, beside Optax.

    python benchmarks/start.py            # make bench ARGS=--start

Processor time, which other programs hardly change. An import is that of a new process that has imported JAX,
from compiled files; building, the least of many rounds. Numbers go to results/start.json beside this file.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path

import optax
from absl import app

import gradtx

RESULTS = Path(__file__).with_name("results") / "start.json"
ROOT = Path(__file__).parents[1]
IMPORT = "import time, jax; start = time.process_time(); import {}; print(time.process_time() - start)"
LONGEST_IMPORT = 1.3
"""Of Optax's."""
LONGEST_BUILD = 60e-6
"""Seconds."""


def importing(libraries: Sequence[str], compiled: str, rounds: int = 9) -> dict[str, float]:
    """The medians of new processes, by turns; the first of each compiles the files, and does not count."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def once(library: str) -> float:
        command = [sys.executable, "-c", IMPORT.format(library)]
        run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return float(run.stdout)

    times = [[once(library) for library in libraries] for _ in range(rounds + 1)][1:]
    return dict(zip(libraries, map(statistics.median, zip(*times, strict=True)), strict=True))


def building(make: Callable[[], object], number: int = 200) -> float:
    """Seconds for each."""
    return min(timeit.repeat(make, number=number, repeat=15, timer=time.process_time)) / number


def main(_: list[str]) -> None:
    with tempfile.TemporaryDirectory() as compiled:
        imports = importing(("gradtx", "optax"), compiled)
    builds = {
        "gradtx": building(lambda: gradtx.adamw(1e-3, weight_decay=0.1)),
        "optax": building(lambda: optax.adamw(1e-3, weight_decay=0.1)),
    }
    ratio = imports["gradtx"] / imports["optax"]
    for what, found, asked in (
        (f"import, × Optax's {imports['optax'] * 1e3:.0f} ms", ratio, LONGEST_IMPORT),
        ("adamw(1e-3, weight_decay=0.1), µs", builds["gradtx"] * 1e6, LONGEST_BUILD * 1e6),
    ):
        print(f"{'HIT ' if found <= asked else 'MISS'}  {what}: {found:.2f} for {asked:g}")
    found = {"import": imports, "build": builds}
    seconds = {what: {name: float(f"{x:.3g}") for name, x in own.items()} for what, own in found.items()}
    RESULTS.write_text(json.dumps(seconds, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)

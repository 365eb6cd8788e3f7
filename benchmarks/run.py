"""gradtx beside Optax and PyTorch: what `make bench` runs.

    python benchmarks/run.py [--quick | --full | --recipes] [--device gpu] [--out FILE.json]
    python benchmarks/run.py --measures step --cases adamw --trees gpt2
    python benchmarks/run.py --read FILE.json --page docs/performance.md
    python benchmarks/run.py --matrix ...           # matrix.py, with the other flags
    python benchmarks/run.py --modern ...           # modern.py, the same; and --start, start.py

Every pair of an optimizer and a tree runs in a process of its own. What each number means and what to
expect is in the README beside this file.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import page
import pictures
import report
from absl import app, flags
from plan import PLANS, Job, jobs
from report import Row
from summary import summary

QUICK = flags.DEFINE_bool("quick", False, "fewer pairs and repetitions: under 2 minutes, and noisier")
FULL = flags.DEFINE_bool("full", False, "all measures of every optimizer: more than half an hour")
RECIPES = flags.DEFINE_bool("recipes", False, "step and trace of all other recipes: 9 minutes")
SHARDING = flags.DEFINE_bool("sharding", False, "state and matrix work over devices, counted: 4 minutes")
DEVICE = flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "where the steps run")
OUT = flags.DEFINE_string("out", None, "file for all numbers, as JSON")
PICTURES = flags.DEFINE_string("pictures", None, "folder for pictures")
PAGE = flags.DEFINE_string("page", None, "file for a page in Markdown; pictures go to assets beside it")
READ = flags.DEFINE_string("read", None, "measure nothing: take the numbers of this file")
MEASURES = flags.DEFINE_string("measures", "", "regular expression: which measures")
WHICH_CASES = flags.DEFINE_string("cases", "", "the same for the optimizers")
WHICH_TREES = flags.DEFINE_string("trees", "", "the same for the trees")

LIMIT = 1800
"""Seconds after which a process is given up."""


def wanted(level: str) -> Iterator[Job]:
    """The jobs of the plan that the flags select."""
    plan = "gpu" if DEVICE.value == "gpu" else "recipes" if RECIPES.value else level
    for job in jobs(PLANS[plan]):
        measures = tuple(filter(re.compile(MEASURES.value).search, job.measures))
        if measures and re.search(WHICH_CASES.value, job.case) and re.search(WHICH_TREES.value, job.tree):
            yield Job(job.case, job.tree, measures)


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `one.py`, on the device, where memory is not taken before it is needed."""
    platform = "cuda" if DEVICE.value == "gpu" else "cpu"
    environment = {**os.environ, "JAX_PLATFORMS": platform, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, str(Path(__file__).with_name("one.py")), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)


def rows_of(job: Job, level: str) -> tuple[list[Row], str]:
    """The rows of a job, and what went wrong."""
    flags = [f"--case={job.case}", f"--tree={job.tree}", f"--level={level}"]
    try:
        run = child(*flags, f"--measures={','.join(job.measures)}")
    except subprocess.TimeoutExpired:
        return [], f"not done after {LIMIT} s"
    lines = run.stdout.splitlines()
    rows = [report.from_json(report.rounded(line)) for line in lines if line.startswith("{")]
    for note in (line for line in lines if not line.startswith("{")):
        print(f"\n{job.case} on {job.tree}: {note}", end="")
    return rows, "\n".join(run.stderr.splitlines()[-5:]) if run.returncode else ""


def measured(level: str) -> tuple[dict[str, Any], list[Row]]:
    """The machine, and the rows of every job; a job that fails leaves the others alone."""
    surroundings = child("--surroundings")
    if surroundings.returncode:
        sys.exit(surroundings.stderr)
    header = {**report.rounded(surroundings.stdout.splitlines()[-1]), "level": level}
    print("\n".join(f"{name}: {value}" for name, value in header.items()), flush=True)
    begin, rows, failed = time.perf_counter(), [], {}
    for job in wanted(level):
        own, error = rows_of(job, level)
        rows += own
        if error:
            failed[f"{job.case} on {job.tree}"] = error
        print(".", end="", flush=True)
    header |= {"seconds": round(time.perf_counter() - begin), "failed": failed}
    return header, rows + list(summary(rows))


def main(_: list[str]) -> None:
    if SHARDING.value:
        script = Path(__file__).with_name("sharding.py")
        os.execv(sys.executable, [sys.executable, str(script), "--page", "docs/sharding.md"])
    jax.config.update("jax_platforms", "cpu")  # the device is left to the processes that measure
    level = "quick" if QUICK.value else "full" if FULL.value else "default"
    header, rows = report.read(Path(READ.value)) if READ.value else measured(level)
    print("\n" + report.tables(rows))
    if OUT.value:
        report.write(Path(OUT.value), header, rows)
    if PICTURES.value:
        pictures.draw(rows, Path(PICTURES.value))
    if PAGE.value:
        path = Path(PAGE.value)
        pictures.draw(rows, path.parent / "assets")
        path.write_text(page.page(header, rows))
    for job, error in header["failed"].items():
        print(f"\n{job} failed:\n{error}", file=sys.stderr)
    missed = sum(not row.met for row in rows)
    print(f"\n{len(rows)} rows, {missed} of them MISS; {header['seconds']} s")
    if header["failed"]:
        sys.exit(1)


OTHERS = {"--matrix": "matrix.py", "--modern": "modern.py", "--start": "start.py"}
"""Benchmarks with flags of their own."""


def other_benchmark(flag: str, arguments: list[str]) -> int:
    """Run one of the others."""
    given = [argument for argument in arguments if argument != flag]
    return subprocess.run([sys.executable, Path(__file__).with_name(OTHERS[flag]), *given]).returncode


if __name__ == "__main__":
    for flag in OTHERS:
        if flag in sys.argv:
            sys.exit(other_benchmark(flag, sys.argv[1:]))
    app.run(main)

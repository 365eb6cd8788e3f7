"""The benchmark as `make bench` runs it, on one small pair, and its comparison of two runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(script: str, *arguments: str | Path) -> str:
    """What the script prints."""
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_ENABLE_COMPILATION_CACHE": "0"}
    command = [sys.executable, BENCHMARKS / script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(file: Path) -> dict[str, dict]:
    return {row["measure"]: row for row in json.loads(file.read_text())["rows"]}


@pytest.mark.extra
@pytest.mark.interop
def test_a_quick_run_measures_draws_and_writes(tmp_path: Path) -> None:
    numbers, page = tmp_path / "numbers.json", tmp_path / "performance.md"
    flags = ("--quick", "--measures=step|memory|kernels|compilations", "--cases=adamw$", "--trees=gpt2")
    printed = run("run.py", *flags, f"--out={numbers}", f"--page={page}")

    found = rows(numbers)
    assert found["step"]["raw"]["seconds"].keys() == {"gradtx", "Optax"}
    assert found["kernels"]["raw"]["gradtx"] >= 148  # a loop for each tensor at least
    assert found["compilations"]["raw"] == {"gradtx": 0, "Optax": 3}
    # Two moments of four bytes, and the count.
    assert found["state per parameter"]["raw"]["gradtx"] == pytest.approx(8, rel=1e-5)
    # Params and both moments in and out, and the gradient.
    assert found["bytes per parameter"]["cells"]["fewest"] == "28.0 B"
    assert all(row["measure"] in printed and row["measure"] in page.read_text() for row in found.values())
    assert (tmp_path / "assets" / "bench_step.png").stat().st_size > 5_000

    again = tmp_path / "again.md"
    run("run.py", f"--read={numbers}", f"--page={again}")
    assert again.read_text() == page.read_text()


def test_a_comparison_shows_what_left_its_quartiles(tmp_path: Path) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(json.dumps(document(row("sgd", 1.0, [0.9, 1.1]), row("adam", 1.0, [0.9, 1.1]))))
    after.write_text(json.dumps(document(row("sgd", 1.2, [1.05, 1.3]), row("adam", 0.5, [0.4, 0.6]))))
    printed = run("compare.py", before, after)
    assert "1 of 2 rows changed" in printed
    assert "adam" in printed and "0.500" in printed and "now ok" in printed
    assert "sgd" not in printed


def document(*rows: dict) -> dict:
    return {"device": "cpu", "rows": list(rows)}


def row(case: str, judged: float, spread: list[float]) -> dict:
    fields = {"measure": "step", "case": case, "tree": "", "cells": {}, "judged": judged, "target": 0.9}
    return {**fields, "unit": "× Optax", "raw": {}, "spread": spread}

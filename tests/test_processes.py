"""Several processes: checkpoints that are read on fewer, and an example in which one is killed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import processes

pytestmark = pytest.mark.extra


def test_a_checkpoint_of_four_processes_goes_on_with_any_number(tmp_path: Path) -> None:
    processes.run(4, "tests.resharding", str(tmp_path))
    expected = np.load(tmp_path / "expected.npz")
    assert expected["w"].dtype == np.float64
    for count in (2, 3, 1):
        processes.run(count, "tests.resharding", str(tmp_path), "plain", "named")
        for road in ("plain", "named"):
            found = np.load(tmp_path / f"{road} on {count}.npz")
            assert sorted(found) == sorted(expected)
            for name in found:
                np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, atol=1e-12, err_msg=name)


def test_the_example_ends_when_a_process_dies_and_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "examples/several_processes.py", "--processes=2", f"--out={tmp_path}"]
    run = subprocess.run(
        command,
        cwd=processes.ROOT,
        env={**os.environ, "XLA_FLAGS": "", "GRADTX_QUICK": "1"},
        capture_output=True,
        text=True,
        timeout=processes.LIMIT,
    )
    assert run.returncode == 0, run.stderr
    first, second = run.stdout.split("starting them again")
    assert "killed process 1" in first and "process 0 ends, another is gone" in run.stderr
    assert re.search(r"resumed after step (5|10|15)\n", second) and "test accuracy" in second
    # The first process alone tells of the progress: a line for each step shown.
    assert len(re.findall("test accuracy", run.stdout)) == 1 and first.count("step    1 ") == 1

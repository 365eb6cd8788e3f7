"""The demo as a user runs it: interrupted, resumed over a broken checkpoint, and never interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from flax import nnx

import gradtx

pytestmark = pytest.mark.skipif(
    not hasattr(nnx, "as_pure"), reason="the demo is for a Flax that has nnx.as_pure; the library is not"
)

ROOT = Path(__file__).parent.parent
STEPS = 250


def start(*flags: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "GRADTX_QUICK": "1", "XLA_FLAGS": ""}
    command = [sys.executable, "examples/digits.py", f"--steps={STEPS}", "--batch_size=32", *flags]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_resumed_training_is_bit_identical_to_an_uninterrupted_one(tmp_path: Path) -> None:
    checkpoints, config = tmp_path / "checkpoints", tmp_path / "optimizer.json"
    flags = [f"--out={tmp_path / 'resumed'}", f"--checkpoint={checkpoints}"]

    first = start(*flags, f"--save_config={config}")
    assert first.stderr is not None
    seen = ""
    while "learning rate" not in seen:  # the progress bar shows the first step
        seen += first.stderr.read(1)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert (tmp_path / "resumed" / "digits.png").stat().st_size > 10_000
    steps = json.loads((tmp_path / "resumed" / "digits.json").read_text())["steps"]
    assert 0 < steps < STEPS and f"after {steps} of {STEPS} steps" in out
    assert isinstance(gradtx.from_config(json.loads(config.read_text())), gradtx.GradientTransformation)

    # What a process that is killed while it writes a checkpoint leaves behind.
    broken = checkpoints / f"{steps + 1}.orbax-checkpoint-tmp"
    (broken / "state").mkdir(parents=True)
    (broken / "state" / "manifest.ocdbt").write_bytes(b"half of a")

    runs = [start(*flags), start(f"--out={tmp_path / 'whole'}")]
    for run in runs:
        out, err = run.communicate(timeout=240)
        assert run.returncode == 0, err
        assert f"after {STEPS} of {STEPS} steps" in out
    resumed, whole = ((tmp_path / name / "digits.json").read_bytes() for name in ("resumed", "whole"))
    assert resumed == whole


def test_another_optimizer_does_not_take_the_checkpoint(tmp_path: Path) -> None:
    flags = [f"--out={tmp_path}", f"--checkpoint={tmp_path / 'checkpoints'}", "--steps=2"]
    out, err = start(*flags).communicate(timeout=120)
    before = sorted((tmp_path / "checkpoints").rglob("*"))
    other = start(*flags, "--optimizer=lion")
    out, err = other.communicate(timeout=120)
    assert other.returncode != 0 and "has another optimizer; choose another folder" in err
    assert sorted((tmp_path / "checkpoints").rglob("*")) == before

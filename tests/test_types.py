"""What an editor and a type checker see of the factories."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

from gradtx.values.domains import Decay, NonNegative, OffAtZero, Static

SNIPPET = """
import gradtx

tx = gradtx.adamw(1e-3, weight_decay=0.1, mask=r".*kernel")
scheduled = gradtx.adamw(gradtx.linear_schedule(0.0, 1e-3, 100), b1=lambda count: 0.9)
state = gradtx.chain(gradtx.clip(1.0), tx).init({})
init, update = tx
reveal_type(gradtx.sgd)
reveal_type(tx.replace(learning_rate=1e-4))
gradtx.adamw()
gradtx.adamw(1e-3, lr=1e-3)
gradtx.adamw(1e-3, nesterov="yes")
gradtx.step_lr(0.1, gamma=0.5)
"""


def test_each_factory_has_its_own_signature(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(snippet)]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    found = report["generalDiagnostics"]
    lines = SNIPPET.splitlines()
    errors = {lines[d["range"]["start"]["line"]] for d in found if d["severity"] == "error"}
    assert errors == set(lines[-4:])
    revealed = [d["message"] for d in found if d["severity"] == "information"]
    assert "learning_rate: " in revealed[0] and "nesterov: bool" in revealed[0]
    assert "GradientTransformation" in revealed[1]


def test_marks_of_different_meaning_differ() -> None:
    """Some versions of Python take equal annotations for one and the same."""
    marks = [kind.__metadata__[0] for kind in (Static, OffAtZero, Decay, NonNegative)]
    assert all(a != b for a, b in itertools.combinations(marks, 2))

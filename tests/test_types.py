"""What an editor and a type checker see of the factories."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

from gradtx.values.domains import Decay, NonNegative, OffAtZero, Static

RIGHT = """
import jax
import jax.numpy as jnp
import optax

import gradtx

tx = gradtx.adamw(1e-3, weight_decay=0.1, mask=r".*kernel")
scheduled = gradtx.adamw(gradtx.linear_schedule(0.0, 1e-3, 100), b1=lambda count: 0.9, b2=jnp.asarray(0.99))
chained = gradtx.chain(gradtx.clip(1.0), tx, optax.scale(1.0), gradtx.GradientTransformation(*tx))
named = gradtx.named_chain(("clip", gradtx.clip(1.0)), ("rest", tx))
init, update = tx


def train(params: dict[str, jax.Array], grads: dict[str, jax.Array]) -> gradtx.OptState:
    state = chained.init(params)
    updates, state = chained.update(grads, state, params, value=1.0)
    chained.update(updates, state)
    print(state[1][0].mu, gradtx.hyperparams(tx, state).next["learning_rate"])
    by_name = named.init(params)
    named.update(grads, by_name, params)
    print(by_name["rest"][0].mu)
    gradtx.scale(1.0).update(grads, gradtx.EmptyState())
    params, state = gradtx.jit_step(tx, grads, state, params)
    return state


reveal_type(gradtx.sgd)
reveal_type(tx.replace(learning_rate=1e-4))
"""
MISTAKES = """
gradtx.adamw()
gradtx.adamw(None)
gradtx.adamw("1e-3")
gradtx.adamw(1e-3, lr=1e-3)
gradtx.adamw(1e-3, b1="0.9")
gradtx.adamw(1e-3, nesterov="yes")
gradtx.scale_by_adam(eps="1e-8")
gradtx.step_lr(0.1, gamma=0.5)
gradtx.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps="a", decay_steps=100)
gradtx.chain(gradtx.scale_by_adam, gradtx.scale(-1.0))
gradtx.named_chain(("adam", gradtx.adam))
gradtx.lookahead(gradtx.sgd, 5, 0.5)
gradtx.torch.optim.sgd("0.1")
def swapped(params: dict[str, jax.Array], grads: dict[str, jax.Array]) -> None:
    state = tx.init(params)
    tx.update(grads, params, state)
    gradtx.jit_step(tx, grads, params, state)
"""
"""Every line with a call at its start is one, and so are the two last lines."""


def test_a_type_checker_finds_each_mistake_and_nothing_else(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(RIGHT + MISTAKES)
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(snippet)]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    found = report["generalDiagnostics"]
    lines = snippet.read_text().splitlines()
    errors = [lines[d["range"]["start"]["line"]] for d in found if d["severity"] == "error"]
    wrong = MISTAKES.splitlines()
    expected = {line for line in wrong if line.startswith("gradtx.")} | set(wrong[-2:])
    assert set(errors) == expected, report
    revealed = [d["message"] for d in found if d["severity"] == "information"]
    assert "learning_rate: " in revealed[0] and "nesterov: bool" in revealed[0]
    assert "GradientTransformation" in revealed[1]


def test_marks_of_different_meaning_differ() -> None:
    """Some versions of Python take equal annotations for one and the same."""
    marks = [kind.__metadata__[0] for kind in (Static, OffAtZero, Decay, NonNegative)]
    assert all(a != b for a, b in itertools.combinations(marks, 2))

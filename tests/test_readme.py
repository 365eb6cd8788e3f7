"""The programs of the README run."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import gradtx

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_the_lines_for_jax_run(capsys) -> None:
    batches = [jnp.linspace(0.0, 1.0, 4)] * 3
    loss = lambda params, batch: jnp.mean((params["w"] * batch + params["bias"] - 1) ** 2)  # noqa: E731
    params = {"w": jnp.zeros(()), "bias": jnp.zeros(())}
    names = {"params": params, "batches": batches, "loss": loss}
    exec(BLOCKS[0], names)
    assert float(capsys.readouterr().out) == pytest.approx(3e-5, rel=1e-5)
    assert names["step"]._cache_size() == 1


def test_the_lines_for_torch_run() -> None:
    names = {"jax": jax, "params": {"w": jnp.asarray(3.0)}, "batches": [1.0, 2.0]}
    names["loss"] = lambda params, batch: batch * params["w"] ** 2
    exec(BLOCKS[1], names)
    # Gradients are clipped to 1 and the decay adds 1e-4·w; then lr 0.1 and momentum 0.9.
    assert float(names["params"]["w"]) == pytest.approx(
        3 - 0.1 * 1.0003 - 0.1 * (0.9 * 1.0003 + 1.00029), rel=1e-6
    )
    assert names["scheduler"].get_last_lr() == [0.1]


def test_the_lines_for_a_formula_run() -> None:
    names = {"gradtx": gradtx, "jnp": jnp}
    exec(BLOCKS[2], names)
    updates, _ = names["tx"].update(jnp.ones(2), names["tx"].init(jnp.ones(2)))
    assert updates[0] == jnp.float32(-1e-3)

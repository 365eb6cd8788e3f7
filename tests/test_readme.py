"""The ten lines of the README run."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import gradtx

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
ROWS = re.findall(
    r"^\| `\w+\((?:params|optimizer),.*?\)` \| `(.*?)` \|$", README.read_text(), flags=re.MULTILINE
)


def test_the_lines_for_jax_run(capsys) -> None:
    batches = [jnp.linspace(0.0, 1.0, 4)] * 3
    loss = lambda params, batch: jnp.mean((params["w"] * batch - 1) ** 2)  # noqa: E731
    exec(BLOCKS[0], {"params": {"w": jnp.asarray(0.0)}, "batches": batches, "loss": loss})
    assert float(capsys.readouterr().out) == pytest.approx(3e-5, rel=1e-5)


def test_the_lines_for_flax_run() -> None:
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    names = {"model": model, "loss": lambda model, batch: jnp.mean(model(batch) ** 2)}
    exec(BLOCKS[1], names)
    before = jax.tree.map(jnp.copy, jax.tree.leaves(nnx.state(model)))
    names["step"](model, names["optimizer"], jnp.ones((3, 2)))
    after = jax.tree.leaves(nnx.state(model))
    assert not any(map(jnp.array_equal, before, after))


def test_the_lines_for_a_formula_run() -> None:
    names = {"gradtx": gradtx, "jnp": jnp}
    exec(BLOCKS[2], names)
    updates, _ = names["tx"].update(jnp.ones(2), names["tx"].init(jnp.ones(2)))
    assert updates[0] == jnp.float32(-1e-3)


def test_what_stands_for_torch_exists() -> None:
    assert len(ROWS) == 6
    for row in ROWS:
        assert isinstance(eval(row.replace(", ...", ""), dict(vars(gradtx))), gradtx.GradientTransformation)

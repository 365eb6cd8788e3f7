"""Both columns of the page "Coming from PyTorch" run, from the same params and data, to the same losses."""

import operator
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import gradtx
from tests.closeness import assert_no_further

pytestmark = pytest.mark.interop

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "from_pytorch.md").read_text()
BLOCK = re.compile(r'^```py title="(PyTorch|gradtx)(?:, )?([^"\n]*)"\n(.*?)^```', re.MULTILINE | re.DOTALL)
SECTIONS = {
    heading: blocks
    for heading, _, text in (part.partition("\n") for part in PAGE.split("\n## ")[1:])
    if (blocks := BLOCK.findall(text))
}
"""By heading: blocks of code, each with the library and what its title says besides."""

BASE = ["A linear model", "A network"]
"""The sections whose set-up those after them begin with."""

FORMS = {
    "class": {"set-up", "both forms", ""},
    "function": {"set-up", "both forms", "as a function, set-up", "as a function"},
}
"""Which blocks of gradtx make a program."""

CASES = [
    (heading, form)
    for heading, blocks in SECTIONS.items()
    for form in FORMS
    if ("gradtx", {"class": "", "function": "as a function"}[form]) in {block[:2] for block in blocks}
]


def run(heading: str, form: str) -> tuple[list[float], list[float]]:
    """The losses in PyTorch and here, of the blocks of a section in the order of the page."""
    names: dict[str, dict[str, Any]] = {"PyTorch": {}, "gradtx": {}}
    for library, kind, code in blocks_of(heading):
        if library == "PyTorch" or kind in FORMS[form]:
            exec(compile(code, f"{heading}, {library}", "exec"), names[library])
        if (library, kind) == ("gradtx", "set-up"):
            take_over(**names)
    return names["PyTorch"]["losses"], names["gradtx"]["losses"]


def blocks_of(heading: str) -> list[Any]:
    """Those of a section, after the set-up that it begins with."""
    before = BASE[: BASE.index(heading)] if heading in BASE else BASE
    return [block for name in before for block in SECTIONS[name] if "set-up" in block[1]] + SECTIONS[heading]


def run_exactly(heading: str, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The losses in PyTorch, computed in float64 from the same numbers in single or half precision."""
    for kind in (torch.nn.Module, torch.Tensor):
        rounded = kind.bfloat16
        monkeypatch.setattr(kind, "bfloat16", lambda self, rounded=rounded: rounded(self).double())
    names: dict[str, Any] = {}
    for library, kind, code in blocks_of(heading):
        if library == "PyTorch":
            exec(compile(code, f"{heading}, {library}", "exec"), names)
            if kind == "set-up":
                names |= {name: names[name].double() for name in ("x", "y", "model")}
    return names["losses"]


def take_over(PyTorch: dict[str, Any], gradtx: dict[str, Any]) -> None:
    """Give the program here the data of the other, and its model the other's parameters."""
    for name in ("x", "y"):
        assert gradtx[name].shape == PyTorch[name].shape
        gradtx[name] = copied(PyTorch[name])
    theirs = [layer for layer in PyTorch["model"].modules() if isinstance(layer, torch.nn.Linear)]
    state = nnx.state(gradtx["model"])
    ours = [state] if "kernel" in state else [state["layers"][i] for i in sorted(state["layers"])]
    for layer, other in zip(ours, theirs, strict=True):
        new = {"kernel": copied(other.weight).T, "bias": copied(other.bias)}
        assert {name: layer[name].shape for name in new} == {name: x.shape for name, x in new.items()}
        nnx.replace_by_pure_dict(layer, new)
    nnx.update(gradtx["model"], state)


def copied(tensor: torch.Tensor) -> jax.Array:
    # By NumPy: JAX may read the memory of a tensor later, when PyTorch has changed it in place.
    return jnp.asarray(tensor.detach().numpy().copy())


def test_every_section_is_run() -> None:
    assert len(SECTIONS) >= 15
    assert {heading for heading, form in CASES if form == "class"} == set(SECTIONS)


@pytest.fixture
def float64(x64):
    """Double precision in both libraries."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


HALF = "Training in bfloat16"


@pytest.mark.parametrize(("heading", "form"), [case for case in CASES if case[0] != HALF])
def test_float64_losses_are_those_of_torch(heading, form, float64, tmp_path, monkeypatch) -> None:
    """Within 1e-12: a hundred steps of some thousand roundings of 1e-16; the largest measured is 3e-15."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    theirs, ours = run(heading, form)
    assert len(theirs) > 2 and theirs[-1] < 0.98 * theirs[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("heading", ["A linear model", "Weight decay", "Closures", HALF])
def test_losses_in_single_and_half_precision(heading, tmp_path, monkeypatch) -> None:
    """As near as PyTorch's are to float64, for a line search amplifies roundings, and in bfloat16 params lose
    2⁻⁹ of themselves at each of a hundred steps; and the roundings of the loss itself, some ten."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    theirs, ours = run(heading, "class")
    assert theirs[-1] < 0.98 * theirs[0]
    torch.manual_seed(0)
    exact = run_exactly(heading, monkeypatch)
    assert_no_further(ours, theirs, exact, scale=exact[0], ulps=5 * 2**16 if heading == HALF else 5)


# --- the tables of names ----------------------------------------------------------------------------

NAMES = PAGE[PAGE.index("\n## All names") :]
TABLES = {
    module: re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.MULTILINE)
    for module, _, text in (part.partition("\n") for part in NAMES.split("\n### ")[1:])
}
ELSEWHERE = {"nn": "nn.functional", "optim.swa_utils": "optim.lr_scheduler"}
"""Where functions are that are not in the module of their class."""


def at(root: Any, *path: str) -> Any:
    return operator.attrgetter(".".join(path))(root)


def test_the_names_of_the_tables_exist() -> None:
    for module, rows in TABLES.items():
        rooms = [at(gradtx.torch, name) for name in (module, ELSEWHERE.get(module, module))]
        for theirs, ours in rows:
            names = set(re.findall(r"`(\w+)`", ours)) - {"lr_scheduler"}
            assert callable(at(torch, module, theirs)) and names, theirs
            assert all(any(callable(getattr(room, name, None)) for room in rooms) for name in names), names


def test_the_tables_have_every_documented_name() -> None:
    pages = "".join(page.read_text() for page in DOCS.glob("api/torch_*.md"))
    documented = {
        name.rpartition(".")[2] for name in re.findall(r"^::: (gradtx\.torch\S+)", pages, re.MULTILINE)
    }
    assert len(documented) > 100
    assert sorted(documented - set(re.findall(r"`(\w+)`", NAMES))) == []

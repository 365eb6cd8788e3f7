"""Both columns of the page "Coming from PyTorch" run, from the same params and data, to the same losses."""

import operator
import re
from contextlib import nullcontext
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
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
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


HALF = ["Training in bfloat16", "Mixed precision"]


@pytest.mark.parametrize(("heading", "form"), [case for case in CASES if case[0] not in HALF])
def test_float64_losses_are_those_of_torch(heading, form, float64, tmp_path, monkeypatch) -> None:
    """Within 1e-12: a hundred steps of some thousand roundings of 1e-16; the largest measured is 3e-15."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    theirs, ours = run(heading, form)
    assert len(theirs) > 2 and theirs[-1] < 0.98 * theirs[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("heading", ["A linear model", "Weight decay", "Closures", *HALF])
def test_losses_in_single_and_half_precision(heading, tmp_path, monkeypatch) -> None:
    """As near as PyTorch's are to float64, for a line search amplifies roundings, and in bfloat16 params lose
    2⁻⁹ of themselves at each of a hundred steps; and the roundings of the loss itself, some ten."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    theirs, ours = run(heading, "class")
    assert theirs[-1] < 0.98 * theirs[0]
    torch.manual_seed(0)
    exact = run_exactly(heading, monkeypatch)
    assert_no_further(ours, theirs, exact, scale=exact[0], ulps=5 * 2**16 if heading in HALF else 5)


# --- layers -----------------------------------------------------------------------------------------

LAYERS = PAGE[PAGE.index("\n## Layers and initial values") : PAGE.index("\n## What differs")]
INITIAL = re.search(r"^```py.*?\n(.*?)^```", LAYERS, re.MULTILINE | re.DOTALL)
ROWS = re.findall(r"^\| `(nn\.[^`]*)` \| `([^`]*)` \| (.*) \|$", LAYERS, re.MULTILINE)
INPUTS = {"Conv2d": (5, 6, 7, 8), "Embedding": (5,)}
"""The shapes of inputs where they are not (5, 6); PyTorch's images are (N, C, H, W)."""


def layers_of(row: tuple[str, str, str]) -> tuple[Any, Any, Any, Any]:
    """Both layers of a row, the one here with PyTorch's weights, and an input for each."""
    name = row[0].removeprefix("nn.").partition("(")[0]
    shape = INPUTS.get(name, (5, 6))
    x = torch.arange(5) if name == "Embedding" else torch.randn(shape)
    images = len(shape) == 4
    mine = jnp.asarray(x.permute(0, 2, 3, 1).numpy() if images else x.numpy())
    names: dict[str, Any] = {"jax": jax, "nnx": nnx, "rngs": nnx.Rngs(0), "x": mine}
    assert INITIAL is not None
    exec(INITIAL[1], names)
    theirs, ours = eval(row[0], {"nn": torch.nn}), eval(row[1], names)
    weights = dict(theirs.named_parameters())
    params = nnx.state(ours, nnx.Param) if weights else {}
    assert len(params) == len(weights)
    for key in params:
        other = weights["bias" if key == "bias" else "weight"].detach()
        turned = torch.movedim(other, (0, 1), (-1, -2)) if key == "kernel" else other
        nnx.update(ours, {key: jnp.asarray(turned.numpy())})
    return theirs, ours, x, mine


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_layers_are_those_of_torch(row: tuple[str, str, str]) -> None:
    """Within 1e-5, in single precision; in training, so that statistics are taken."""
    torch.manual_seed(0)
    theirs, ours, x, mine = layers_of(row)
    expected, found = theirs(x).detach(), ours(mine)
    if "Dropout" in row[0]:
        np.testing.assert_allclose(found, np.where(found == 0, 0, 2 * mine))
        return
    expected = expected.permute(0, 2, 3, 1) if expected.ndim == 4 else expected
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    if "BatchNorm" in row[0]:
        np.testing.assert_allclose(ours.mean[...], theirs.running_mean, rtol=1e-5, atol=1e-6)
        unbiased = 0.9 + (np.asarray(ours.var[...]) - 0.9) * 5 / 4
        np.testing.assert_allclose(unbiased, theirs.running_var, rtol=1e-5)


def test_what_flax_has_by_itself_is_what_the_page_says() -> None:
    """Its defaults, in the numbers that layers show, and where initial values lie, by 2%."""
    rngs = nnx.Rngs(0)
    assert nnx.BatchNorm(6, rngs=rngs).momentum == 0.99
    norms = [nnx.LayerNorm(32, rngs=rngs), nnx.GroupNorm(32, rngs=rngs), nnx.RMSNorm(32, rngs=rngs)]
    assert {norm.epsilon for norm in norms} == {1e-6} and norms[1].num_groups == 32
    assert nnx.Conv(6, 4, (3, 3), rngs=rngs).padding == "SAME"
    x = jnp.linspace(-3, 3, 7)
    np.testing.assert_array_equal(nnx.gelu(x), nnx.gelu(x, approximate=True))
    names: dict[str, Any] = {"jax": jax}
    assert INITIAL is not None
    exec(INITIAL[1], names)
    torch.manual_seed(0)
    theirs = torch.nn.Linear(400, 300)
    ours = nnx.Linear(
        400, 300, kernel_init=names["torch_kernel"], bias_init=names["torch_bias"](400), rngs=rngs
    )
    weight, bias = theirs.weight.detach(), theirs.bias.detach()
    for array, other in ((ours.kernel[...], weight), (ours.bias[...], bias)):
        assert float(jnp.std(array)) == pytest.approx(
            float(other.std()), rel=0.06 if array.ndim == 1 else 0.02
        )
        assert float(jnp.max(jnp.abs(array))) == pytest.approx(0.05, rel=0.02) == float(other.abs().max())
    plain = nnx.Linear(400, 300, rngs=rngs)
    assert float(jnp.std(plain.kernel[...])) == pytest.approx(3**0.5 * float(weight.std()), rel=0.02)
    assert not plain.bias[...].any()
    embed, table = nnx.Embed(400, 64, rngs=rngs), torch.nn.Embedding(400, 64).weight.detach()
    assert float(jnp.std(embed.embedding[...])) == pytest.approx(float(table.std()) / 8, rel=0.02)


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

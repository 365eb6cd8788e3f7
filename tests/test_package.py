"""The package as it is installed: its version, its types, and a docstring for every public name."""

import ast
import importlib.metadata
import inspect
import runpy
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import gradtx

ROOT = Path(__file__).parent.parent


def test_version_is_that_of_the_distribution():
    assert gradtx.__version__ == importlib.metadata.version("gradtx")


def test_types_are_shipped():
    assert (files("gradtx") / "py.typed").is_file()


def test_every_public_name_has_a_docstring():
    check = runpy.run_path(str(ROOT / "docs" / "check.py"))
    assert check["undocumented"]() == []


def test_the_names_of_the_api_pages_are_in_namespaces_that_are_walked():
    """So that a namespace, torch.optim for instance, cannot fall out of the check without a sound."""
    check = runpy.run_path(str(ROOT / "docs" / "check.py"))
    namespaces = {name for name, _ in check["namespaces"]()}
    assert check["documented"]() - namespaces <= {name for name, _ in check["public"]()}


def test_every_public_name_is_on_a_page():
    check = runpy.run_path(str(ROOT / "docs" / "check.py"))
    assert check["missing"]() == []


def test_docstrings_link_what_they_name():
    entry = runpy.run_path(str(ROOT / "docs" / "docstrings.py"))["entry"]
    assert entry("adamw", "gradtx.contrib.galore.galore") == "gradtx.adamw"
    assert entry("galore", "gradtx.contrib.averaging.schedule_free") == "gradtx.contrib.galore"
    assert entry("b1", "gradtx.adamw") is None


def test_what_is_imported_later_is_what_type_checkers_see():
    block = next(node for node in ast.parse(inspect.getsource(gradtx)).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    named = {(node.module, alias.name) for node in imports for alias in node.names}
    later = {(f"gradtx.{module}", name) for module, names in gradtx._LATER.items() for name in names}
    assert named == later | {("gradtx", room) for room in gradtx._ROOMS}
    assert all(hasattr(gradtx, name) for _, name in named)


def test_a_star_takes_what_is_imported_later():
    names: dict[str, object] = {}
    exec("from gradtx import *", names)
    assert {"adamw", "muon", "check", "torch", *gradtx._HOMES} <= names.keys()


def test_a_config_finds_what_is_imported_later():
    code = """
import sys
import gradtx
rooms = ["losses", "matrix", "microbatching", "sharding"]
print([room for room in rooms if f"gradtx.{room}" in sys.modules])
print(gradtx.from_config({"call": "contrib.scale_by_muon"}) == gradtx.scale_by_muon())
print(gradtx.from_config({"call": "soap", "learning_rate": 0.1}) == gradtx.soap(0.1))
try:
    gradtx.from_config({"call": "contrib.gal0re"})
except ValueError as error:
    print("did you mean contrib.galore" in str(error))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.stdout.split() == ["[]", "True", "True", "True"], run.stderr

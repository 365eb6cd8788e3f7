"""The package as it is installed: its version, its types, and a docstring for every public name."""

import importlib.metadata
import runpy
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

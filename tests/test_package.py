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


def test_no_page_shows_a_file_where_it_names_a_function():
    check = runpy.run_path(str(ROOT / "docs" / "check.py"))
    assert check["hidden_by_files"]() == [] and check["missing"]() == []
    assert {"gradtx.contrib.muon", "gradtx.contrib.galore"} <= check["documented"]()


def test_docstrings_link_what_they_name():
    linked = runpy.run_path(str(ROOT / "docs" / "docstrings.py"))["linked"]
    text = "As in `scale_by_muon` and `adamw`, ``adamw``, `b1`; arXiv:1412.6980.\n>>> `adamw`"
    assert linked(text, "gradtx.contrib.muon") == (
        "As in [`scale_by_muon`][gradtx.contrib.scale_by_muon] and [`adamw`][gradtx.adamw], ``adamw``, `b1`; "
        "[arXiv:1412.6980](https://arxiv.org/abs/1412.6980).\n>>> `adamw`"
    )
    assert "[gradtx.contrib.muon.muon]" in linked("`muon`", "gradtx.contrib.averaging")

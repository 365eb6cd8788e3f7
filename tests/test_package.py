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

"""The examples in docstrings run, and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import gradtx

MODULES = [name for _, name, _ in pkgutil.walk_packages(gradtx.__path__, "gradtx.")]


@pytest.mark.parametrize("name", ["gradtx", *MODULES])
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    functions = [
        x for x in vars(module).values() if getattr(x, "__module__", None) == name and hasattr(x, "factory")
    ]
    # Recorded functions are what users see; doctest finds them by their module all the same.
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0
    assert results.attempted or not any(">>>" in (f.__doc__ or "") for f in functions)

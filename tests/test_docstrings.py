"""The examples in docstrings run, and print what they say."""

import doctest
import importlib
import inspect
import pkgutil
import pydoc
import re
import sys

import pytest

import gradtx
from gradtx.core.recipe import Recipe
from gradtx.explaining.catalogue import RATES, optimizers
from gradtx.explaining.docstrings import CODE, SIGNS, docstring_of
from gradtx.values.factory import FACTORIES

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


def test_every_optimizer_says_its_formula_its_source_and_how_it_is_called() -> None:
    recipes = [
        factory.public
        for factory in FACTORIES.values()
        if factory.kind is Recipe
        and vars(sys.modules[factory.body.__module__]).get(factory.body.__name__) is factory.public
        and factory.body.__module__.startswith("gradtx.")
        and not RATES.isdisjoint(factory.parameters)
    ]
    wrong = []
    for public in {*recipes, *(one.factory.public for one in optimizers())}:
        said, whole = docstring_of(public), public.__doc__ or ""
        if not (said.formula or SIGNS.search(CODE.sub("", said.summary))):
            wrong.append(f"{public.__name__}: no formula")
        if not said.source and public.__name__ != "add_corrected_decay":
            wrong.append(f"{public.__name__}: no source")
        if ">>> " not in whole:
            wrong.append(f"{public.__name__}: no example")
    assert wrong == []


def test_what_help_shows_is_for_users() -> None:
    text = pydoc.render_doc(gradtx.adamw, renderer=pydoc.plaintext)
    assert "adamw(learning_rate: Number, b1: Decay = 0.9" in " ".join(text.split())
    assert "-> GradientTransformation" in text and "m̂ / (√(v̂ + eps_root) + eps)" in text
    assert "mask: Selector | None = None" in text
    assert "Annotated" not in text and "Interval" not in text


def test_signatures_are_those_of_the_functions_in_words() -> None:
    whose = lambda signature: [(p.name, p.kind, p.default) for p in signature.parameters.values()]  # noqa: E731
    for factory in list(FACTORIES.values()):
        body, shown = inspect.signature(factory.body), inspect.signature(factory.public)
        assert whose(body) == whose(shown), factory.key
        assert not {"Annotated", "Interval", "Union"} & set(re.split(r"\W+", str(shown))), shown

"""Optax with gradtx in its place: each public object of Optax is replaced wherever a module of Optax has it.

A name alone would not do: Optax's tests reach most things by their private modules, ``alias.adam`` for
``optax.adam``. So an object is replaced by identity, in every module, under whatever name it stands there.
"""

import doctest
import functools
import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import optax

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import optax_names

ROOT = Path(optax.__file__).parent

EXAMPLES: list[tuple[ModuleType, doctest.DocTest]] = []
"""What `examples` gave before the swap."""


def modules() -> list[ModuleType]:
    """All modules of Optax but its tests; not every folder of them is a package, so files are looked up."""
    files = (file.relative_to(ROOT.parent).with_suffix("") for file in sorted(ROOT.rglob("*.py")))
    names = (".".join(file.parts).removesuffix(".__init__") for file in files)
    return [importlib.import_module(name) for name in names if not name.endswith("_test")]


def is_swapped(x: object) -> bool:
    """Whether it is an object of Optax's own, and not a type that it has from elsewhere."""
    if isinstance(x, functools.partial):
        x = x.func
    return isinstance(x, FunctionType | type) and x.__module__.startswith("optax.")


def swaps() -> dict[int, tuple[Any, Any]]:
    """By its id, each public object of Optax with what gradtx has under its name."""
    spaces = dict(optax_names.namespaces())
    found: dict[int, tuple[Any, Any]] = {}
    for space, rows in optax_names.comparison().items():
        for row in rows:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                theirs = getattr(spaces[space], row.name.rpartition(".")[2], None)
            if row.where and is_swapped(theirs):
                found.setdefault(id(theirs), (theirs, optax_names.lookup(row.where)))
    return found


def swap() -> dict[int, Any]:
    """Replace them, and say by the id of each object of gradtx what it stands for."""
    replaced = swaps()
    for module in modules():
        for name, x in list(vars(module).items()):
            if id(x) in replaced:
                setattr(module, name, replaced[id(x)][1])
    return {id(ours): theirs for theirs, ours in replaced.values()}


def examples() -> Iterator[tuple[ModuleType, doctest.DocTest]]:
    """The docstrings of Optax that have examples; to be called before the swap."""
    finder = doctest.DocTestFinder()
    for module in modules():
        yield from ((module, test) for test in finder.find(module) if test.examples)

"""The layout: rooms import only from rooms above them, and the package stands on jax alone."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gradtx"
FILES = sorted(PACKAGE.rglob("*.py"))

ROOMS = [
    "moved",
    "values",
    "arrays",
    "core",
    "state",
    "step",
    "tree",
    "tree_utils",
    "linear_algebra",
    "schedules",
    "formats",
    "wrappers",
    "sharding",
    "transforms",
    "optimizers",
    "matrix",
    "contrib",
    "experimental",
    "projections",
    "losses",
    "perturbations",
    "assignment",
    "microbatching",
    "drivers",
    "torch",
    "explaining",
    "plot",
    "checking",
    "__main__",
]
"""Top to bottom: a room imports those before it, and itself. `gradtx/__init__.py` imports all."""

EXTRAS = ["absl", "chex", "flax", "matplotlib", "optax", "torch"]


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def imported_modules(file: Path) -> Iterator[str]:
    """The modules of gradtx that a file imports, wherever in it the import stands."""
    package = module_name(file) if file.name == "__init__.py" else module_name(file).rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                submodule = f"{source}.{alias.name}"
                if submodule in MODULES:
                    yield submodule
                elif source in MODULES:
                    yield source


def room_of(module: str) -> str | None:
    """The room of a module; None for the package itself."""
    return module.split(".")[1] if "." in module else None


def test_every_module_is_in_a_room():
    assert {room_of(module) for module in MODULES} - {None} <= set(ROOMS)


def test_rooms_import_only_rooms_above_them():
    wrong = [
        f"{module} imports {other}"
        for module, file in MODULES.items()
        if (room := room_of(module)) is not None
        for other in imported_modules(file)
        if (theirs := room_of(other)) is None or ROOMS.index(theirs) > ROOMS.index(room)
    ]
    assert wrong == []


def test_no_import_cycle():
    graph = {module: set(imported_modules(file)) - {module} for module, file in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which shows the cycle


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_no_import_inside_a_function(file):
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    lines = [
        inner.lineno
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, functions)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert lines == []


def test_there_is_no_drawer():
    folders = [ROOT / name for name in ("gradtx", "tests", "examples", "benchmarks")]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    assert [file for file in files if file.stem in {"utils", "util", "helpers", "misc"}] == []


def test_import_needs_jax_alone():
    code = f"import gradtx, sys; print([name for name in {EXTRAS} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (run.stdout.strip(), run.returncode) == ("[]", 0), run.stderr

"""What the build of the documentation checks besides links.

Every public name has a docstring and is on an API page, and every example runs and prints what the
page says: those in docstrings, and the blocks of the pages marked ``python``. MkDocs calls
`on_startup` (see ``hooks`` in mkdocs.yml); the tests call the rest.
"""

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gradtx

DOCS = Path(__file__).parent
REFERENCE = re.compile(r"^::: (gradtx\.[\w.]+)", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def documented() -> set[str]:
    """The names that the API pages show."""
    return {name for page in DOCS.glob("api/*.md") for name in REFERENCE.findall(page.read_text())}


def public() -> Iterator[tuple[str, Any]]:
    """The public names of gradtx, and of the modules in it that the API pages show."""
    shown = documented()
    doors = {"gradtx": gradtx, **{f"gradtx.{name}": x for name, x in vars(gradtx).items()}}
    for door, module in doors.items():
        if isinstance(module, ModuleType) and any(f"{name}.".startswith(f"{door}.") for name in shown):
            for name in getattr(module, "__all__", dir(module)):
                value = getattr(module, name)
                if not name.startswith("_") and not isinstance(value, ModuleType):
                    yield f"{door}.{name}", value


def undocumented() -> list[str]:
    """Public names without a docstring; the signature that a named tuple gets by itself is none."""
    return [name for name, value in public() if not value.__doc__ or _generated(name, value.__doc__)]


def _generated(name: str, docstring: str) -> bool:
    return docstring.startswith(name.rpartition(".")[2] + "(")


def missing() -> list[str]:
    """Public names that are on no API page."""
    shown = documented()
    return [name for name, _ in public() if name not in shown and name.rpartition(".")[0] not in shown]


def failures() -> str:
    """What the examples that do not run, or print something else, say."""
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for where, blocks in _examples():
        names: dict[str, Any] = {"__name__": "docs"}
        for block in blocks:
            if ">>>" not in block:
                exec(compile(block, where, "exec"), names)
                continue
            test = doctest.DocTestParser().get_doctest(block, names, where, where, 0)
            runner.run(test, out=report.append, clear_globs=False)
            names = test.globs
    return "".join(report)


def _examples() -> Iterator[tuple[str, list[str]]]:
    for page in sorted(DOCS.rglob("*.md")):
        yield str(page.relative_to(DOCS.parent)), BLOCK.findall(page.read_text())
    for name, value in public():
        yield name, [value.__doc__] if ">>>" in value.__doc__ else []


def on_startup(command: str, dirty: bool) -> None:
    """Stop the build if anything is wrong."""
    del command, dirty
    if names := undocumented():
        raise SystemExit(f"public, without a docstring: {', '.join(names)}")
    if names := missing():
        raise SystemExit(f"public, but on no page of docs/api: {', '.join(names)}")
    if report := failures():
        raise SystemExit(report)

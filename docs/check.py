"""What the build of the documentation checks besides links, and what it makes of the pages.

Every public name has a docstring and is on an API page, and every example runs and prints what the
page says: those in docstrings, and the blocks of the pages marked ``python``. MkDocs calls
`on_startup` and `on_page_markdown` (see ``hooks`` in mkdocs.yml); the tests call the rest.
"""

import doctest
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gradtx

DOCS = Path(__file__).parent
REFERENCE = re.compile(r"^::: (gradtx\.[\w.]+)", re.MULTILINE)
EXPORT = re.compile(r"^ *from [\w.]+ import (\w+) as \1$", re.MULTILINE)
SESSION = re.compile(r"^```python(?=\n>>> )", re.MULTILINE)
BOOSTS = {"api/torch_": 0.25, "api/": 0.5}
"""How much what the search finds counts, of pages that do not say it themselves: 1 of a guide."""
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def documented() -> set[str]:
    """The names that the API pages show."""
    return {name for page in DOCS.glob("api/*.md") for name in REFERENCE.findall(page.read_text())}


def namespaces(name: str = "gradtx", module: ModuleType = gradtx) -> Iterator[tuple[str, ModuleType]]:
    """gradtx, and every module that a namespace imports under its own name, as it does its functions."""
    yield name, module
    for inner in EXPORT.findall(inspect.getsource(module)):
        if isinstance(value := getattr(module, inner), ModuleType):
            yield from namespaces(f"{name}.{inner}", value)


def public() -> Iterator[tuple[str, Any]]:
    """The public names of all namespaces."""
    for namespace, module in namespaces():
        for name in getattr(module, "__all__", dir(module)):
            value = getattr(module, name)
            if not name.startswith("_") and not isinstance(value, ModuleType):
                yield f"{namespace}.{name}", value


def undocumented() -> list[str]:
    """Public names without a docstring; the signature that a named tuple gets by itself is none."""
    return [name for name, value in public() if not value.__doc__ or _generated(name, value.__doc__)]


def _generated(name: str, docstring: str) -> bool:
    return docstring.startswith(name.rpartition(".")[2] + "(")


def missing() -> list[str]:
    """Public names that are on no API page, neither by that name nor by another."""
    shown, names = documented(), list(public())
    there = {id(x) for name, x in names if name in shown or name.rpartition(".")[0] in shown}
    return [name for name, x in names if id(x) not in there]


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
    """Stop the build if anything is wrong; while pages are written and served, only the build looks."""
    del dirty
    if command == "serve":
        return
    if names := undocumented():
        raise SystemExit(f"public, without a docstring: {', '.join(names)}")
    if names := missing():
        raise SystemExit(f"public, but on no page of docs/api: {', '.join(names)}")
    if report := failures():
        raise SystemExit(report)


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """A session is highlighted as one, and what is copied of it is what was typed; the search finds guides
    before entries of the reference."""
    del kwargs
    for folder, boost in BOOSTS.items():
        if page.file.src_uri.startswith(folder):
            page.meta.setdefault("search", {"boost": boost})
    return SESSION.sub("```pycon", markdown).replace("\n<BLANKLINE>\n", "\n\n")

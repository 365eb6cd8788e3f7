"""How mkdocstrings reads docstrings, and which links their names become.

A name in backticks that the reference has becomes a link to its entry, ``arXiv:1412.6980`` one to the paper.
"""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

DOCUMENTED: set[str] = runpy.run_path(str(Path(__file__).with_name("check.py")))["documented"]()
CODE = re.compile(r"(?<![`\[])`([A-Za-z_][\w.]*)`(?!`)")
ARXIV = re.compile(r"(?<![\w/\[(])arXiv:(\d{4}\.\d{4,5}|[a-z-]+/\d{7})")


class Docstrings(griffe.Extension):
    """Names and papers as links, doctests under ``Example:`` as code, and functions named as their file."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for every module, class and function."""
        del kwargs
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = "\n".join(_linked(line, obj) for line in text.split("\n"))

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """A name that a package imports from the file of that name is what Python finds, not the file."""
        del kwargs
        hidden = [
            m for m in _modules(pkg) if m.parent and m.parent.imports.get(m.name) == f"{m.path}.{m.name}"
        ]
        for module in hidden:
            for alias in _aliases(pkg):
                if alias.target_path.startswith(f"{module.path}."):
                    alias.resolve_target()  # while the file is found by its path
        for module in hidden:
            for member in (*module.functions.values(), *module.classes.values()):
                self.on_object(obj=member)  # which the walk over the package no longer comes to
            module.parent.members[module.name] = griffe.Alias(  # type: ignore[union-attr]
                module.name, module.members[module.name], parent=module.parent
            )


def _linked(line: str, obj: griffe.Object) -> str:
    if line.lstrip().startswith((">>>", "...")):
        return line
    own = {parameter.name for parameter in getattr(obj, "parameters", [])} | {obj.name}

    def name(found: re.Match[str]) -> str:
        target = None if found[1] in own else entry(found[1], obj.path)
        return f"[`{found[1]}`][{target}]" if target else found[0]

    return ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", CODE.sub(name, line))


def entry(name: str, path: str) -> str | None:
    """The entry of the reference that a docstring at a path means by a name: the nearest of them."""
    rooms = path.split(".")[:-1]
    for end in range(len(rooms), 0, -1):
        if (full := ".".join([*rooms[:end], name])) in DOCUMENTED:
            return full
    return name if name in DOCUMENTED else None


def _modules(module: griffe.Module) -> Iterator[griffe.Module]:
    for inner in list(module.modules.values()):
        if not inner.is_alias:
            yield inner
            yield from _modules(inner)


def _aliases(module: griffe.Module) -> Iterator[griffe.Alias]:
    for owner in (module, *_modules(module)):
        yield from (member for member in owner.members.values() if isinstance(member, griffe.Alias))

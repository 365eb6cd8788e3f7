"""How mkdocstrings reads docstrings: examples as code, and names and papers as links."""

import re
from pathlib import Path
from typing import Any

import griffe

REFERENCE = re.compile(r"^::: (gradtx\.[\w.]+)", re.MULTILINE)
SHOWN = {
    name for page in Path(__file__).parent.glob("api/*.md") for name in REFERENCE.findall(page.read_text())
}
NAME = re.compile(r"(?<![`\[\w])`([A-Za-z_][\w.]*)`(?![`\]])")
PAPER = re.compile(r"(?<!\[)arXiv:(\d{4}\.\d{4,5})")


def linked(text: str, namespace: str) -> str:
    """A docstring with links where it names what an API page shows, or a paper; doctests stay."""

    def link(match: re.Match[str]) -> str:
        target = _shown(match[1], namespace)
        return f"[`{match[1]}`][{target}]" if target else match[0]

    lines = text.split("\n")
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[i] = PAPER.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", NAME.sub(link, line))
    return "\n".join(lines)


def _shown(name: str, namespace: str) -> str:
    """The reference that shows a name, as it is called in a namespace; "" if none does."""
    while namespace:
        # A function that is called as the file it is in is shown by its place there.
        for full in (f"{namespace}.{name}", f"{namespace}.{name}.{name}"):
            if full in SHOWN:
                return full
        namespace = namespace.rpartition(".")[0]
    return name if name in SHOWN else ""


class Examples(griffe.Extension):
    """Show the doctests under ``Example:``, which has another name there, as code; and make links."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for every module, class and function."""
        del kwargs
        if obj.docstring:
            text = linked(obj.docstring.value, obj.path.rpartition(".")[0])
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)

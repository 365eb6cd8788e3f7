"""What a docstring says: its first sentence, the formula, the source."""

import inspect
import re
from typing import NamedTuple

SECTION = re.compile(r"^(Args|Returns|Raises|Source|Example|Yields|Attributes):", re.MULTILINE)
CODE = re.compile(r"``.*?``|`.*?`", re.DOTALL)
SIGNS = re.compile(r"[=←·√∛‖∑Σ⟨∇]| is (the )?(sign|clip|max|min)\b")
"""What tells a formula from words."""


class Docstring(NamedTuple):
    """The parts of a docstring: its first sentence, the paragraphs with a formula, and where it is from."""

    summary: str
    formula: str
    source: str


def docstring_of(function: object) -> Docstring:
    """The parts of what is written under a function."""
    text = inspect.cleandoc(getattr(function, "__doc__", None) or "")
    first = SECTION.search(text)
    words = text[: first.start()] if first else text
    paragraphs = [paragraph.rstrip() for paragraph in re.split(r"\n\s*\n", words.strip("\n"))]
    summary, rest = " ".join(paragraphs[0].split()), paragraphs[1:]
    formulas = [paragraph for paragraph in rest if SIGNS.search(CODE.sub("", paragraph))]
    source = re.search(r"^Source: (.*?)(?:\n\s*\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return Docstring(summary, "\n".join(formulas), " ".join(source[1].split()) if source else "")

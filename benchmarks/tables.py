"""Tables in Markdown, and the places of pages where they stand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def table(*rows: tuple[str, ...]) -> str:
    """In Markdown; the first row is the head."""
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|--" * len(rows[0]) + "|", *body])


def filled(path: Path, page: str, tables: Mapping[str, str]) -> str:
    """The text of a page with each table between its marks."""
    text = path.read_text(encoding="utf-8")
    for name, own in tables.items():
        begin, end = f"<!-- {page}: {name} -->\n", "\n<!-- end -->"
        if text.count(begin) != 1:
            raise ValueError(
                f"{path} has the mark {begin.strip()!r} {text.count(begin)} times; once is right"
            )
        before, rest = text.split(begin)
        text = before + begin + own + end + rest.split(end, 1)[1]
    return text


def where(numbers: Mapping[str, Any]) -> str:
    """The machine and the versions."""
    header = numbers["where"]
    versions = header["versions"]
    return (
        f"With JAX {versions['jax']} and Python {header['python']}, on {header['cores']} cores of "
        f"{header['cpu']}, loaded {header['load'][0]:.1f} before."
    )

"""How mkdocstrings reads docstrings: it knows a section of examples by the name ``Examples:`` only."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Show the doctests under ``Example:`` as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for every module, class and function."""
        del kwargs
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)

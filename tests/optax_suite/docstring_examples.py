"""The examples in Optax's docstrings print what they say there, to five digits."""

import doctest
import math
import re
from types import ModuleType

import jax
import jax.numpy as jnp
import optax
import pytest

from tests.optax_suite import swap

NUMBER = re.compile(r"-?\d+\.\d*(?:[eE][-+]?\d+)?")


class Checker(doctest.OutputChecker):
    """Numbers with a decimal point need only be close, and spaces do not count."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, optionflags):
            return True
        texts = [re.sub(r"\s+", "", NUMBER.sub(" # ", text)) for text in (want, got)]
        numbers = [map(float, NUMBER.findall(text)) for text in (want, got)]
        return texts[0] == texts[1] and all(
            math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-6) for a, b in zip(*numbers, strict=True)
        )


@pytest.mark.parametrize(("module", "examples"), [pytest.param(*x, id=x[1].name) for x in swap.EXAMPLES])
def test_examples(module: ModuleType, examples: doctest.DocTest) -> None:
    report: list[str] = []
    # What Optax's documentation has for all its examples.
    examples.globs = {"jax": jax, "jnp": jnp, "optax": optax, **vars(module)}
    runner = doctest.DocTestRunner(Checker(), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    runner.run(examples, out=report.append)
    assert not report, "".join(report)

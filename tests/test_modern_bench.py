"""The formulas that the benchmark of modern optimizers writes by hand are those of the library."""

import jax
import numpy as np
import pytest
from modern_cases import CASES, Case
from modern_costs import differs

SHAPES = {"kernel": (9, 6), "wide": (5, 8), "stack": (2, 3, 4), "bias": (5,)}


@pytest.mark.extra
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_formula_by_hand_gives_the_same_params(case: Case) -> None:
    with jax.enable_x64(True):
        assert differs(case, SHAPES) < 1e-11


@pytest.mark.extra
def test_another_formula_is_told() -> None:
    with jax.enable_x64(True):
        adam, other = CASES[0], CASES[1]
        mixed = Case("mixed", adam.tx, other.init, other.formula)
        assert differs(mixed, SHAPES) > 1e-6
        assert np.isfinite(differs(mixed, SHAPES))

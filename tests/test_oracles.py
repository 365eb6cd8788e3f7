"""Every row against its paper in float64, and against Optax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.beside_optax import assert_equal_steps, assert_near
from tests.table import ROWS, Row

STEPS = 12


def matrices(steps: int) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(5, 4)), [rng.normal(size=(5, 4)) for _ in range(steps)]


@pytest.mark.parametrize("row", [row for row in ROWS if row.oracle], ids=lambda row: row.name)
def test_equals_the_paper(row: Row, x64) -> None:
    """In float64, within 1e-12: a dozen roundings of 1e-16, and the power series of expm1."""
    param, grads = matrices(STEPS)
    oracle, tx = row.oracle(), row()
    state, p, step = tx.init(jnp.asarray(param)), param, jax.jit(tx.update)
    for grad in grads:
        expected = oracle(grad, p)
        update, state = step(grad, state, p)
        np.testing.assert_allclose(update, expected, rtol=1e-12, atol=1e-14)
        p = p + expected


@pytest.mark.parametrize("row", [row for row in ROWS if row.in_optax], ids=lambda row: row.name)
def test_equals_optax(row: Row, x64) -> None:
    """In float64 over 50 steps, updates and states; and the states have one layout."""
    state, other_state = assert_equal_steps(row.make)
    if row.name != "apply_every":  # Optax keeps its count below k; ours says how many updates there were
        assert_near(state, other_state)

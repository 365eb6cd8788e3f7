"""Every row against its paper in float64, and against Optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from tests import laws
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
    state, p = tx.init(jnp.asarray(param)), param
    for grad in grads:
        expected = oracle(grad, p)
        update, state = tx.update(jnp.asarray(grad), state, jnp.asarray(p))
        np.testing.assert_allclose(update, expected, rtol=1e-12, atol=1e-14)
        p = p + expected


@pytest.mark.parametrize("row", [row for row in ROWS if row.in_optax], ids=lambda row: row.name)
def test_equals_optax(row: Row, x64) -> None:
    """In float64 within 1e-12, updates and states; and the states have one layout."""
    tx, other = row(), row.make(optax)
    params = other_params = laws.tree(0, jnp.float64)
    state, other_state = tx.init(params), other.init(params)
    assert str(jax.tree.structure(state)) == str(jax.tree.structure(other_state))
    for i in range(STEPS):
        grads = laws.tree(i + 1, jnp.float64)
        updates, state = tx.update(grads, state, params)
        other_updates, other_state = other.update(grads, other_state, other_params)
        laws.assert_close(updates, other_updates, rtol=1e-12, atol=1e-14)
        params = gradtx.apply_updates(params, updates)
        other_params = optax.apply_updates(other_params, other_updates)
    if row.name != "apply_every":  # Optax keeps its count below k; ours says how many updates there were
        laws.assert_close(state, other_state, rtol=1e-12, atol=1e-14)

"""Assignment: the cost that SciPy finds, one-to-one pairs, forbidden pairs, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from gradtx import assignment

RNG = np.random.default_rng(0)

MATRICES = {
    "1x1": RNG.normal(size=(1, 1)),
    "wide": RNG.normal(size=(3, 7)),
    "tall": RNG.normal(size=(7, 3)),
    "square": RNG.normal(size=(12, 12)),
    "ties": RNG.integers(0, 3, (8, 8)),
    "ties, wide": RNG.integers(0, 3, (6, 9)),
    "equal": np.zeros((5, 5)),
    "large and small": 10.0 ** RNG.uniform(-6, 6, (9, 9)),
    "negative": -RNG.uniform(size=(6, 6)),
    "forbidden": np.where(RNG.random((8, 8)) < 0.5, np.inf, RNG.normal(size=(8, 8))) + np.diag(np.zeros(8)),
    "greedy is wrong": np.array([[1.0, 2.0], [2.0, 100.0]]),
}
np.fill_diagonal(MATRICES["forbidden"], 9.0)


@pytest.mark.parametrize("costs", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("name", ["hungarian_algorithm", "base_hungarian_algorithm"])
def test_costs_the_least(name, costs, x64):
    i, j = getattr(assignment, name)(costs)
    rows, columns = linear_sum_assignment(costs)
    assert i.shape == j.shape == rows.shape
    assert jnp.issubdtype(i.dtype, jnp.integer) and not i.weak_type and not j.weak_type
    assert np.all(np.diff(i) > 0) and len(set(j.tolist())) == len(j)
    np.testing.assert_allclose(costs[i, j].sum(), costs[rows, columns].sum(), rtol=1e-13)


def test_jit_and_vmap():
    costs = RNG.normal(size=(4, 5, 7)).astype(np.float32)
    i, j = jax.jit(jax.vmap(assignment.hungarian_algorithm))(costs)
    for k, matrix in enumerate(costs):
        np.testing.assert_array_equal((i[k], j[k]), linear_sum_assignment(matrix))


def test_pairs_are_constants_to_grad():
    costs = jnp.asarray(RNG.normal(size=(3, 3)), jnp.float32)
    slope = jax.grad(lambda c: jnp.sum(c[assignment.hungarian_algorithm(c)]))(costs)
    expected = np.zeros((3, 3))
    expected[linear_sum_assignment(costs)] = 1
    np.testing.assert_array_equal(slope, expected)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_pair(shape):
    i, j = assignment.hungarian_algorithm(jnp.zeros(shape))
    assert i.shape == j.shape == (0,)


def test_half_precision_is_computed_in_float32():
    costs = jnp.asarray(RNG.normal(size=(6, 6)), jnp.bfloat16)
    _, j = assignment.hungarian_algorithm(costs)
    np.testing.assert_array_equal(j, linear_sum_assignment(np.asarray(costs, np.float64))[1])


ERRORS = [
    (jnp.zeros(3), ValueError, r"must have two dimensions, got \(3,\)"),
    (jnp.zeros((2, 2), jnp.complex64), TypeError, "costs must be real"),
    (jnp.array([[1.0, jnp.nan]]), ValueError, "holds NaN or -inf"),
    (jnp.array([[1.0, -jnp.inf]]), ValueError, "holds NaN or -inf"),
    (
        jnp.array([[1.0, jnp.inf], [1.0, jnp.inf]]),
        ValueError,
        "every assignment has a pair whose cost is inf",
    ),
]


@pytest.mark.parametrize(("costs", "error", "message"), ERRORS)
def test_errors(costs, error, message):
    with pytest.raises(error, match=message):
        assignment.hungarian_algorithm(costs)


@pytest.mark.parametrize("costs", [np.full((3, 3), np.inf), np.full((3, 3), np.nan)], ids=["inf", "nan"])
def test_what_is_not_seen_still_ends_in_pairs(costs):
    _, j = jax.jit(assignment.hungarian_algorithm)(costs)
    assert sorted(j.tolist()) == [0, 1, 2]

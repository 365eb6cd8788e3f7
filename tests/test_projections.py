"""Projections: one table, each row against the conditions of optimality, a solver, Optax, and its own jit.

A point y of a convex set is the nearest to x exactly if (x − y)·(z − y) ≤ 0 for all z of the set. For the
two spheres, which are not convex, no point of many is nearer.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize

from gradtx import projections

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=5)


class Row(NamedTuple):
    """A projection, what follows the point among its arguments, and random points of its set."""

    name: str
    args: tuple[Any, ...]
    member: Callable[[], Any]
    convex: bool = True

    def project(self, x: Any, library: Any = projections) -> Any:
        return getattr(library, self.name)(x, *self.args)


def origin():
    return np.zeros(5)


def within(norm, scale):
    def member():
        z = RNG.normal(size=5)
        return z * (scale * RNG.random() / np.linalg.norm(z, norm))

    return member


def on(norm, scale):
    def member():
        z = RNG.normal(size=5)
        return z * (scale / np.linalg.norm(z, norm))

    return member


def on_plane(b, below=0.0):
    def member():
        z = 3 * RNG.normal(size=5)
        return z + NORMAL * (b - below * RNG.random() - z @ NORMAL) / (NORMAL @ NORMAL)

    return member


LOW, HIGH = -np.arange(5.0), np.array([0.0, 1.0, 0.5, -3.0, 2.0])

ROWS = [
    Row("projection_simplex", (), lambda: RNG.dirichlet(np.ones(5))),
    Row("projection_simplex", (3.0,), lambda: 3 * RNG.dirichlet(np.ones(5) / 3)),
    Row("projection_simplex", (0.0,), origin),
    Row("projection_l1_ball", (1.5,), within(1, 1.5)),
    Row("projection_l1_ball", (100.0,), within(1, 100.0)),
    Row("projection_l1_sphere", (1.5,), on(1, 1.5), convex=False),
    Row("projection_l1_sphere", (100.0,), on(1, 100.0), convex=False),
    Row("projection_l2_ball", (), within(2, 1.0)),
    Row("projection_l2_ball", (100.0,), within(2, 100.0)),
    Row("projection_l2_sphere", (2.0,), on(2, 2.0), convex=False),
    Row("projection_linf_ball", (0.7,), within(np.inf, 0.7)),
    Row("projection_non_negative", (), lambda: RNG.exponential(size=5)),
    Row("projection_box", (LOW, HIGH), lambda: RNG.uniform(LOW, HIGH)),
    Row("projection_hypercube", (2.0,), lambda: 2 * RNG.random(5)),
    Row("projection_vector", (NORMAL,), lambda: NORMAL * RNG.normal()),
    Row("projection_hyperplane", (NORMAL, 0.3), on_plane(0.3)),
    Row("projection_halfspace", (NORMAL, 0.3), on_plane(0.3, below=5.0)),
    Row("projection_halfspace", (NORMAL, 1e3), on_plane(1e3, below=2e3)),
]
ROW = pytest.mark.parametrize("row", ROWS, ids=[f"{row.name}-{i}" for i, row in enumerate(ROWS)])

POINTS = 3 * np.random.default_rng(1).normal(size=(6, 5))
POINTS[0] = [1, 1, 1, -1, 1]  # ties


def test_the_table_has_all_projections():
    assert {row.name for row in ROWS} == {n for n in dir(optax.projections) if n.startswith("projection_")}


@pytest.mark.parametrize("name", {row.name: None for row in ROWS})
def test_signature_is_that_of_optax(name):
    def signature(library):
        parameters = inspect.signature(getattr(library, name)).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters]

    assert signature(projections) == signature(optax.projections)


@ROW
def test_no_point_of_the_set_is_nearer(row, x64):
    project = jax.jit(row.project)
    for x in POINTS:
        y = np.asarray(project(x))
        np.testing.assert_allclose(project(y), y, atol=1e-13)  # it lies in the set
        for z in [row.member() for _ in range(200)]:
            if row.convex:
                assert (x - y) @ (z - y) <= 1e-10 * (1 + np.linalg.norm(z))
            else:
                assert np.linalg.norm(x - y) <= np.linalg.norm(x - z) + 1e-12


@pytest.mark.parametrize("row", [row for row in ROWS if row.member is not origin], ids=lambda row: row.name)
def test_equals_optax_with_gradients(row, x64):
    """But for a scale of 0, by which Optax divides."""

    def value_and_slope(library):
        def total(x):
            y = row.project(x, library)
            return jnp.sum(y * jnp.arange(1.0, 6.0)), y

        return jax.jit(jax.vmap(jax.value_and_grad(total, has_aux=True)))(POINTS[1:])

    ours, theirs = value_and_slope(projections), value_and_slope(optax.projections)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), ours, theirs)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_simplex_against_a_solver(scale, x64):
    x = POINTS[2]
    solved = minimize(
        lambda y: np.sum((y - x) ** 2),
        np.full(5, scale / 5),
        jac=lambda y: 2 * (y - x),
        bounds=[(0, None)] * 5,
        constraints=dict(type="eq", fun=lambda y: np.sum(y) - scale, jac=lambda y: np.ones(5)),
        options=dict(ftol=1e-14),
        method="SLSQP",
    )
    np.testing.assert_allclose(projections.projection_simplex(x, scale), solved.x, atol=1e-7)


@pytest.mark.parametrize("name", ["projection_simplex", "projection_l1_ball", "projection_l2_ball"])
def test_derivatives_by_the_scale(name, x64):
    def at(scale):
        return jnp.sum(getattr(projections, name)(POINTS[3], scale) * jnp.arange(5.0))

    slope = (at(0.7 + 1e-6) - at(0.7 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.jit(jax.grad(at))(0.7), slope, rtol=1e-6)


@ROW
def test_trees_are_vectors(row, x64):
    def split(x):
        return {"a": x[:2].reshape(2, 1), "b": [x[2], x[3:]]}

    args = [split(a) if np.ndim(a) else a for a in row.args]
    got = jax.jit(getattr(projections, row.name))(split(POINTS[4]), *args)
    expected = split(np.asarray(row.project(POINTS[4])))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15), got, expected)


@pytest.mark.parametrize("name", {row.name: None for row in ROWS})
def test_dtypes_are_kept(name):
    row = next(row for row in ROWS if row.name == name)
    x = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.full(3, 2.0, jnp.float32)}
    args = [
        {"a": jnp.asarray(a[:2], jnp.float32), "b": jnp.asarray(a[2:], jnp.float32)} if np.ndim(a) else a
        for a in row.args
    ]
    got = jax.eval_shape(getattr(projections, name), x, *args)
    assert jax.tree.map(lambda y: (y.shape, y.dtype), got) == jax.tree.map(lambda y: (y.shape, y.dtype), x)


# --- edges ------------------------------------------------------------------------------------------

EDGES = [
    ("projection_l2_sphere", ([0.0, 0.0, 0.0, 0.0], 2.0), [1, 1, 1, 1]),
    ("projection_l2_sphere", ([3e200, 4e200],), [0.6, 0.8]),
    ("projection_l2_sphere", ([3e-200, 4e-200],), [0.6, 0.8]),
    ("projection_l2_ball", ([0.0, 0.0], 0.0), [0, 0]),
    ("projection_l2_ball", ([3.0, 4.0], 0.0), [0, 0]),
    ("projection_l1_sphere", ([0.0, 0.0], 1.0), [0.5, 0.5]),
    ("projection_l1_sphere", ([0.0, -2.0], 4.0), [1, -3]),
    ("projection_l1_ball", ([0.0, -2.0], 0.0), [0, 0]),
    ("projection_simplex", ([5.0, -1.0], 0.0), [0, 0]),
    ("projection_simplex", ([1e9 + 0.25, 1e9, 0.0],), [0.625, 0.375, 0]),
    ("projection_simplex", ([-np.inf, 0.0, 0.5],), [0, 0.25, 0.75]),
    ("projection_vector", ([1.0, 2.0], [0.0, 0.0]), [0, 0]),
    ("projection_hyperplane", ([1.0, 2.0], [0.0, 0.0], 0.0), [1, 2]),
    ("projection_hyperplane", ([1.0, 2.0], [0.0, 0.0], 1.0), [np.nan, np.nan]),
    ("projection_halfspace", ([1.0, 2.0], [0.0, 0.0], 1.0), [1, 2]),
    ("projection_halfspace", ([1.0, 2.0], [0.0, 0.0], -1.0), [np.nan, np.nan]),
    ("projection_box", ([np.inf, -np.inf, 1.0], -np.inf, 5.0), [5, -np.inf, 1]),
]


@pytest.mark.parametrize(("name", "args", "expected"), EDGES)
def test_edges(name, args, expected, x64):
    arrays = [jnp.asarray(a) if isinstance(a, list) else a for a in args]
    np.testing.assert_allclose(getattr(projections, name)(*arrays), expected, rtol=1e-14, atol=1e-15)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(getattr(projections, name)(x, *arrays[1:]))))(arrays[0])
    assert np.all(np.isfinite(slope)) or np.any(np.isnan(expected))


def test_bounds_may_be_part_of_a_tree():
    x = {"a": jnp.array([-2.0, 2.0]), "b": {"c": jnp.array([-2.0, 2.0]), "d": jnp.array(5.0)}}
    got = projections.projection_box(x, {"a": -1.0, "b": 0.0}, {"a": jnp.array([0.0, 1.0]), "b": 3.0})
    np.testing.assert_array_equal(got["a"], [-1, 1])
    np.testing.assert_array_equal(got["b"]["c"], [0, 2])
    assert got["b"]["d"] == 3


def test_simplex_in_float32_adds_up():
    x = 1e4 * jnp.asarray(RNG.normal(size=2000), jnp.float32)
    assert abs(float(jnp.sum(projections.projection_simplex(x))) - 1) < 1e-3
    np.testing.assert_allclose(jnp.sum(projections.projection_simplex(x / 1e4)), 1, atol=1e-5)


V = jnp.ones(2)
ERRORS = [
    (
        "projection_simplex",
        (jnp.arange(3),),
        TypeError,
        "projection_simplex: tensors must be real floating numbers, got int32",
    ),
    ("projection_l2_ball", ({"w": jnp.ones(2, complex)},), TypeError, r"got complex64 at \['w'\]"),
    ("projection_simplex", (V, -1.0), ValueError, "projection_simplex: scale must be at least 0, got -1.0"),
    ("projection_l1_ball", (V, -1.0), ValueError, "scale must be at least 0"),
    ("projection_l2_sphere", (V, -1.0), ValueError, "scale must be at least 0"),
    ("projection_l2_ball", (V, -1.0), ValueError, "scale must be at least 0"),
    ("projection_linf_ball", (V, -1.0), ValueError, "scale must be at least 0"),
    ("projection_hypercube", (V, -1.0), ValueError, "scale must be at least 0, got -1.0"),
    ("projection_simplex", ({},), ValueError, "the tree has no numbers"),
    (
        "projection_box",
        (V, 1.0, 0.0),
        ValueError,
        "projection_box: lower must not be above upper, got 1.0 and 0.0",
    ),
    (
        "projection_box",
        ({"a": V}, {"b": 0.0}, 1.0),
        ValueError,
        "projection_box: lower must be a number or a tree like the first",
    ),
    (
        "projection_box",
        (V, jnp.zeros(3), 1.0),
        ValueError,
        r"a bound of shape \(3,\) does not broadcast to a tensor of \(2,\)",
    ),
    (
        "projection_vector",
        ({"a": V}, V),
        ValueError,
        "projection_vector: x and a must have the same structure",
    ),
    (
        "projection_hyperplane",
        ({"a": V}, {"a": jnp.ones(3)}, 0.0),
        ValueError,
        r"got \(2,\) and \(3,\) at \['a'\]",
    ),
]


@pytest.mark.parametrize(("name", "args", "error", "message"), ERRORS)
def test_errors(name, args, error, message):
    with pytest.raises(error, match=message):
        getattr(projections, name)(*args)


@pytest.mark.parametrize(
    "name", ["projection_l1_ball", "projection_l2_ball", "projection_non_negative", "projection_linf_ball"]
)
def test_empty_trees(name):
    assert getattr(projections, name)({}) == {}

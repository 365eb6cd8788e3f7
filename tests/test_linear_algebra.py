"""Linear algebra: NumPy's and SciPy's answers, Optax's where it is right, and derivatives at 0."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import gradtx
from tests.closeness import assert_no_further

RNG = np.random.default_rng(0)


def positive(n: int, low: float = 0.5) -> np.ndarray:
    """A symmetric matrix with eigenvalues low, ..., low + n - 1."""
    q, _ = np.linalg.qr(RNG.normal(size=(n, n)))
    return q @ np.diag(low + np.arange(n)) @ q.T


# --- norms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ord", [None, 1, 2, np.inf])
@pytest.mark.parametrize("axis", [None, 0, (1,)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_safe_norm_is_that_of_optax(x64, ord, axis, keepdims) -> None:
    x = jnp.asarray(RNG.normal(size=(3, 4)))
    x = x.ravel() if axis is None else x.at[:, 0].set(0).at[1].set(0)
    for bound in (0.0, 0.5, 100.0):
        ours, theirs = (library.safe_norm(x, bound, ord, axis, keepdims) for library in (gradtx, optax))
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)
        assert ours.shape == theirs.shape


def test_safe_norms_have_derivatives_at_0_and_above_the_bound() -> None:
    x = jnp.array([3.0, 4.0])
    for f, slope in (
        (gradtx.safe_norm, x / 5),
        (gradtx.safe_root_mean_squares, x / 50**0.5),
    ):
        np.testing.assert_array_equal(jax.grad(f)(jnp.zeros(2), 1e-3), 0)
        np.testing.assert_array_equal(jax.grad(f)(jnp.zeros(2), 0.0), 0)
        np.testing.assert_array_equal(jax.grad(f)(x, 100.0), 0)
        np.testing.assert_allclose(jax.grad(f)(x, 1e-3), slope, rtol=1e-6)


def test_safe_root_mean_squares_is_that_of_optax(x64) -> None:
    for x in (jnp.asarray(RNG.normal(size=(3, 4))), jnp.array([3 + 4j, 0])):
        for bound in (0.0, 0.5, 100.0):
            ours, theirs = (library.safe_root_mean_squares(x, bound) for library in (gradtx, optax))
            np.testing.assert_allclose(ours, theirs, rtol=1e-14)


def test_norms_of_half_precision_are_in_float32() -> None:
    ones = jnp.ones(1024, jnp.float16) * 100  # the sum of squares, 10⁷, is infinite in float16
    for f, wanted in ((gradtx.safe_norm, 3200), (gradtx.safe_root_mean_squares, 100)):
        assert f(ones, 0.0) == wanted and f(ones, 0.0).dtype == jnp.float16


# --- eigenvalues ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_power_iteration_finds_the_eigenvalue(x64, sign) -> None:
    matrix = sign * positive(5)
    eigenvalue, v = gradtx.power_iteration(jnp.asarray(matrix), num_iters=1000, error_tolerance=1e-10)
    np.testing.assert_allclose(eigenvalue, sign * 4.5, rtol=1e-12)
    np.testing.assert_allclose(matrix @ v, eigenvalue * v, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(v), 1, rtol=1e-14)


def test_power_iteration_is_that_of_optax(x64) -> None:
    """Step by step: after any number of them."""
    matrix, key = jnp.asarray(positive(5)), jax.random.key(3)
    for n in (1, 2, 7, 100):
        ours, theirs = (x.power_iteration(matrix, num_iters=n, key=key) for x in (gradtx, optax))
        for x, y in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-12)


def test_power_iteration_of_functions_of_trees_and_hermitian_matrices() -> None:
    product = lambda v: {"a": 3 * v["a"], "b": 2 * v["b"]}  # noqa: E731
    v0 = {"a": jnp.array([1.0, 0.0]), "b": jnp.array(1.0)}
    eigenvalue, v = jax.jit(lambda v0: gradtx.power_iteration(product, v0=v0))(v0)
    np.testing.assert_allclose(eigenvalue, 3, rtol=1e-6)
    np.testing.assert_allclose(v["a"], [1, 0], atol=1e-5)
    matrix = jnp.array([[2, 1j], [-1j, 2]])
    np.testing.assert_allclose(gradtx.power_iteration(matrix)[0], 3, rtol=1e-5)


def test_power_iteration_of_zeros_and_under_x64_in_float32(x64) -> None:
    eigenvalue, v = gradtx.power_iteration(jnp.zeros((3, 3), jnp.float32))
    assert eigenvalue == 0 and v.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(v), 1, rtol=1e-6)


# --- roots ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2, 3, 4, 5, 8])
def test_inverse_roots(x64, p) -> None:
    """In double precision the error is that at which it stops, squared by the last step."""
    matrix = positive(4)
    root, error = gradtx.matrix_inverse_pth_root(jnp.asarray(matrix), p, ridge_epsilon=0.0)
    values, vectors = np.linalg.eigh(matrix)
    np.testing.assert_allclose(root, vectors @ np.diag(values ** (-1 / p)) @ vectors.T, rtol=1e-5, atol=1e-6)
    assert error <= 1e-6


@pytest.mark.parametrize("p", [1, 2, 4, 8])
def test_inverse_roots_are_those_of_optax(p, x64) -> None:
    """Powers of 2: it has no others. In float32, no further from the root than that is, and roundings of
    some twenty products of terms of order 1."""
    matrix = jnp.asarray(positive(4), jnp.float32)
    (ours, error), (theirs, _) = (x.matrix_inverse_pth_root(matrix, p) for x in (gradtx, optax))
    values, vectors = np.linalg.eigh(np.asarray(matrix, np.float64))
    exact = vectors @ np.diag((values + 1e-6 * values.max()) ** (-1 / p)) @ vectors.T
    assert_no_further([ours], [theirs], [exact], scale=1.0, ulps=20)
    assert ours.dtype == jnp.float32 and error < 1e-4


def test_inverse_roots_are_found_where_the_error_first_grows(x64) -> None:
    """Optax ends there, and returns what it began with."""
    rng = np.random.default_rng(6413)
    q, p = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
    x = q @ rng.normal(size=(5, 4, 4))[0] @ p
    matrix = jnp.asarray(x @ x.T + 1e-3 * np.eye(4))
    _, error = gradtx.matrix_inverse_pth_root(matrix, 4)
    _, theirs = optax.matrix_inverse_pth_root(matrix, 4)
    assert error <= 1e-6 and theirs > 0.1


def test_roots_of_small_and_singular_matrices() -> None:
    root, _ = gradtx.matrix_inverse_pth_root(jnp.array([[16.0]]), 4)
    np.testing.assert_allclose(root, [[0.5]], rtol=1e-5)
    root, _ = gradtx.matrix_inverse_pth_root(jnp.diag(jnp.array([1.0, 0.0])), 2)
    np.testing.assert_allclose(jnp.diag(root), [1, 1000], rtol=1e-2)  # the ridge is 1e-6
    half, _ = gradtx.matrix_inverse_pth_root(jnp.eye(2, dtype=jnp.bfloat16), 2)
    assert half.dtype == jnp.bfloat16


# --- least squares ----------------------------------------------------------------------------------


def test_nnls_is_that_of_scipy(x64) -> None:
    A, b = RNG.normal(size=(12, 5)), RNG.normal(size=(12, 3))
    wanted = np.stack([scipy.optimize.nnls(A, column)[0] for column in b.T], axis=1)
    assert np.any(wanted == 0) and np.any(wanted > 0)
    found = jax.jit(lambda A, b: gradtx.nnls(A, b, 2000))(A, b)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    np.testing.assert_allclose(gradtx.nnls(A, b[:, 0], 2000, unroll=2), wanted[:, 0], atol=1e-12)
    np.testing.assert_allclose(optax.nnls(jnp.asarray(A), jnp.asarray(b), 2000), wanted, atol=1e-12)


def test_nnls_with_a_bound_of_ones_own_and_of_nothing() -> None:
    A, b = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([5.0, 6.0])
    largest = jnp.linalg.eigvalsh(A.T @ A)[-1]
    np.testing.assert_allclose(gradtx.nnls(A, b, 1000, L=largest), [0, 1.7], atol=1e-5)
    np.testing.assert_array_equal(gradtx.nnls(jnp.zeros((2, 3)), b, 5), 0)
    assert gradtx.nnls(A.astype(jnp.bfloat16), b.astype(jnp.bfloat16), 5).dtype == jnp.bfloat16


MISTAKES = {
    "no v0": (lambda: gradtx.power_iteration(jnp.sin), "power_iteration: a function needs v0="),
    "not square": (
        lambda: gradtx.power_iteration(jnp.ones((2, 3))),
        r"power_iteration: the matrix must be square, got shape \(2, 3\)",
    ),
    "p": (
        lambda: gradtx.matrix_inverse_pth_root(jnp.eye(2), 0),
        "matrix_inverse_pth_root: p must be at least 1, got 0",
    ),
    "shapes": (
        lambda: gradtx.nnls(jnp.ones((2, 3)), jnp.ones(3), 5),
        r"nnls: A must have shape \(m, n\) .* got \(2, 3\) and \(3,\)",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_errors(name) -> None:
    call, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        call()

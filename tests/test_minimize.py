"""The driver: SciPy's optima with no more evaluations, and why it stops."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx.drivers.minimize import Stop
from tests import laws
from tests.problems import PROBLEMS, Problem, rosenbrock, run_scipy


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_scipys_optimum_with_its_evaluations(problem: Problem, x64) -> None:
    """Within 1e-6, with at most 1.2 times the evaluations, the same memory and the same tolerances."""
    theirs, _ = run_scipy(problem)
    ours = gradtx.minimize(problem.fun, problem.start, gradient_tolerance=1e-5)
    assert ours.success and "converged" in ours.message
    assert float(ours.fun) == pytest.approx(float(problem.fun(ours.x)), rel=1e-12)
    assert abs(float(ours.fun) - theirs.fun) <= 1e-6
    assert abs(float(ours.fun) - problem.minimum) <= 1e-6
    assert int(ours.evaluations) <= 1.2 * theirs.nfev


def bowl(params: Any, target: Any = 1.0) -> Any:
    return sum(jnp.sum(jnp.abs(x - target) ** 2) for x in jax.tree.leaves(params))


def kink(x: Any) -> Any:
    """Its gradient is wrong: nothing lies lower in the direction it gives."""
    return x + 2 * (jax.lax.stop_gradient(x) - x)


OFF = {"step_tolerance": -1.0, "value_tolerance": -1.0, "gradient_tolerance": -1.0}
STOPS: dict[str, tuple[Any, Any, dict[str, Any], bool, str]] = {
    "gradient": (rosenbrock, [-1.2, 1.0], {"value_tolerance": -1.0}, True, "the gradient is small"),
    "at once": (bowl, [1.0, 1.0], {}, True, "the gradient is small"),
    "step": (rosenbrock, [-1.2, 1.0], {**OFF, "step_tolerance": 1e-2}, True, "the last step was small"),
    "value": (
        lambda x: 1 + rosenbrock(x),
        [-1.2, 1.0],
        {**OFF, "value_tolerance": 1e-3},
        True,
        "the value changed little",
    ),
    "iterations": (rosenbrock, [-1.2, 1.0], {"max_iterations": 4}, False, "max_iterations was reached"),
    "evaluations": (rosenbrock, [-1.2, 1.0], {"max_evaluations": 9}, False, "max_evaluations was reached"),
    "no lower value": (kink, 1.0, {}, False, "the line search found no lower value"),
    "nan": (lambda x: bowl(x) * jnp.nan, [2.0, 2.0], {}, False, "is not finite"),
    "optimizer": (bowl, [2.0, 2.0], {"optimizer": gradtx.sgd(1e30)}, False, "is not finite"),
}


@pytest.mark.parametrize("case", STOPS)
def test_it_says_why_it_stopped(case: str) -> None:
    f, x0, options, success, message = STOPS[case]
    found = gradtx.minimize(f, jnp.array(x0), **options)
    assert message in found.message and bool(found.success) == success
    assert np.all(np.isfinite(found.x))
    if case == "iterations":
        assert int(found.iterations) == 4
    if case == "evaluations":
        assert 9 <= int(found.evaluations) < 9 + 20


def ill_conditioned(x: Any, c: Any) -> Any:
    return c * (1 + 0.5 * jnp.sum(jnp.array([1e-2, 1e-1, 1.0]) * (x - 1) ** 2))


def curved(x: Any, c: Any) -> Any:
    return c * (rosenbrock(x[:2]) + jnp.cosh(x[2]))


START = {ill_conditioned: np.zeros(3), curved: np.array([-1.2, 1.0, 0.5])}
UNITS = np.array([1.0, 2.0**-100, 2.0**100, 1e-30, 1e30])


@pytest.mark.parametrize("f", START)
def test_the_unit_of_the_objective_does_not_matter(f: Any, x64) -> None:
    """The same way, number for number where the unit is a power of two, which rounds nothing."""
    found = jax.jit(jax.vmap(lambda c: gradtx.minimize(f, START[f], args=(c,))))(UNITS)
    assert found.success.all() and int(found.iterations[0]) < 60
    for field in (found.iterations, found.evaluations, found.status):
        np.testing.assert_array_equal(field, field[0])
    np.testing.assert_array_equal(found.x[1:3], np.tile(found.x[0], (2, 1)))
    np.testing.assert_allclose(found.x, np.tile(found.x[0], (len(UNITS), 1)), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.fun / UNITS, found.fun[0], rtol=1e-10)


def test_in_single_precision_success_is_the_truth() -> None:
    """Also in units in which numbers on the way leave the range: there it says so, or that it is stuck."""
    f, units = curved, 10.0 ** np.arange(-37, 39)
    found = jax.jit(jax.vmap(lambda c: gradtx.minimize(f, jnp.array(START[f], jnp.float32), args=(c,))))(
        units
    )
    best = gradtx.minimize(f, jnp.array(START[f], jnp.float32), args=(1.0,))
    assert found.success[7:-7].all() and not found.success[:3].any() and not found.success[-2:].any()
    np.testing.assert_allclose(found.x[found.success], [best.x] * int(found.success.sum()), atol=3e-3)
    out = {Stop.RANGE, Stop.NOT_FINITE, Stop.NO_LOWER}
    assert {Stop(int(status)) for status in found.status[~found.success]} <= out


IDLE = {
    "accumulated": gradtx.MultiSteps(gradtx.sgd(0.1), 2),
    "warmup": gradtx.sgd(gradtx.linear_schedule(0.0, 0.1, 5)),
}


@pytest.mark.parametrize("optimizer", IDLE.values(), ids=IDLE.keys())
def test_a_step_of_0_is_no_success(optimizer: Any) -> None:
    found = gradtx.minimize(bowl, jnp.array([3.0, 2.0]), optimizer)
    assert found.success and int(found.iterations) > 10
    np.testing.assert_allclose(found.x, 1.0, atol=1e-3)


def test_the_last_finite_x_is_kept() -> None:
    found = gradtx.minimize(bowl, jnp.array([2.0, 2.0]), gradtx.sgd(1e30))
    assert float(found.fun) == float(bowl(found.x)) and int(found.iterations) >= 1


OTHERS = {
    "adam": gradtx.adam(0.1),
    "backtracking": gradtx.chain(gradtx.sgd(1.0), gradtx.scale_by_backtracking_linesearch(15)),
    "a search that is not last": gradtx.chain(
        gradtx.sgd(1.0), gradtx.scale_by_zoom_linesearch(15), gradtx.scale(0.5)
    ),
    "optax": optax.lbfgs(),
    "guarded": gradtx.apply_if_finite(gradtx.lbfgs(), 3),
}


@pytest.mark.parametrize("optimizer", OTHERS.values(), ids=OTHERS.keys())
def test_any_optimizer_and_any_tree(optimizer: Any) -> None:
    calls = []

    def f(params: Any, target: Any) -> Any:
        jax.debug.callback(lambda: calls.append(1))
        return bowl(params["value"], target) + bowl(params["grad"], 2.0)

    x0 = {"value": jnp.zeros((2, 2)), "grad": 0.5, "gone": None}
    found = gradtx.minimize(f, x0, optimizer, args=(3.0,), gradient_tolerance=1e-3, value_tolerance=-1.0)
    jax.effects_barrier()
    assert found.success, found.message
    assert int(found.evaluations) == len(calls)
    np.testing.assert_allclose(found.x["value"], 3.0, atol=1e-3)
    np.testing.assert_allclose(found.x["grad"], 2.0, atol=1e-3)
    assert found.x["gone"] is None


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.complex64], ids=lambda d: d.__name__)
def test_dtypes_are_kept(dtype: Any) -> None:
    target = jnp.asarray(1 + 2j if dtype == jnp.complex64 else 1.5, dtype)
    found = gradtx.minimize(lambda x: bowl(x, target), jnp.zeros(3, dtype))
    assert found.x.dtype == dtype and found.fun.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(found.x, complex), complex(target), atol=1e-2)


def test_inside_jit_and_vmap() -> None:
    solve = lambda target: gradtx.minimize(bowl, jnp.zeros(2), args=(target,))  # noqa: E731
    found = jax.jit(jax.vmap(solve))(jnp.array([1.0, 5.0]))
    np.testing.assert_allclose(found.x, [[1.0, 1.0], [5.0, 5.0]], rtol=1e-5)
    assert found.success.all()


def test_a_second_call_compiles_nothing() -> None:
    gradtx.minimize(bowl, jnp.zeros(2), gradtx.lbfgs(), args=(2.0,))
    x = jnp.ones(2)
    with laws.Compilations() as compilations:
        gradtx.minimize(bowl, x, gradtx.lbfgs(), args=(3.0,), gradient_tolerance=1e-3)
    assert compilations.count == 0


def test_a_callback_sees_each_iteration_and_may_stop(x64) -> None:
    seen = []
    found = gradtx.minimize(rosenbrock, jnp.array([-1.2, 1.0]), callback=seen.append)
    plain = gradtx.minimize(rosenbrock, jnp.array([-1.2, 1.0]))
    np.testing.assert_allclose(found.x, plain.x, rtol=1e-5)
    assert [int(result.iterations) for result in seen] == list(range(1, int(found.iterations) + 1))
    assert seen[0].message == "still running" and seen[-1].message == found.message
    found = gradtx.minimize(rosenbrock, jnp.array([-1.2, 1.0]), callback=lambda now: now.iterations == 3)
    assert (int(found.iterations), found.message) == (3, "the callback asked to stop")
    assert not found.success


def test_a_progress_bar_on_request(capfd, monkeypatch) -> None:
    gradtx.minimize(bowl, jnp.zeros(2), progress=True)
    assert "value=" in capfd.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ModuleNotFoundError, match="progress=True needs tqdm: pip install tqdm"):
        gradtx.minimize(bowl, jnp.zeros(2), progress=True)


MISTAKES = {
    "integers": (lambda: gradtx.minimize(bowl, {"w": np.arange(3)}), r"minimize: \['w'\] is int"),
    "vector": (
        lambda: gradtx.minimize(lambda x: x, jnp.ones(2)),
        r"minimize: what fun returns must be a real scalar, got shape \(2,\)",
    ),
    "a word": (
        lambda: gradtx.minimize(lambda x, data, kind: bowl(x), jnp.ones(2), args=({"x": 1.0}, "l2")),
        r"minimize: args\[1\] must be an array or a number, got str: 'l2'",
    ),
    "callback in jit": (
        lambda: jax.jit(lambda x: gradtx.minimize(bowl, x, callback=print))(jnp.ones(2)),
        "call minimize outside of jit",
    ),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()

"""Line searches and L-BFGS on objectives: against Optax, and where there is nothing to find."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from tests import laws
from tests.compiling import USUAL
from tests.problems import rosenbrock


def quadratic(x: Any) -> Any:
    return 0.5 * jnp.sum(jnp.arange(1, 1 + x.size) * x**2) - jnp.sum(x)


OBJECTIVES = {
    "quadratic": (quadratic, np.ones(8)),
    "rosenbrock-2": (rosenbrock, np.array([-1.2, 1.0])),
    "rosenbrock-10": (rosenbrock, np.linspace(0.5, 1.5, 10)),
}
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "lbfgs": lambda x: x.lbfgs(),
    "lbfgs-3": lambda x: x.lbfgs(0.9, memory_size=3, scale_init_precond=False),
    "zoom": lambda x: x.chain(x.sgd(1.0), x.scale_by_zoom_linesearch(15)),
    "zoom-bounded": lambda x: x.chain(
        x.sgd(1.0), x.scale_by_zoom_linesearch(20, 0.01, curv_rtol=0.1, approx_dec_rtol=None)
    ),
    "backtracking": lambda x: x.chain(
        x.sgd(1.0), x.scale_by_backtracking_linesearch(60, decrease_factor=0.7, store_grad=True)
    ),
}


def passed_through(step: Callable[..., Any], tx: Any, x: Any, steps: int) -> Any:
    """Params and states after each step.

    Compiled as users have it: with less effort two libraries round the same formula less alike, and
    Rosenbrock's bent valley makes much of it.
    """
    whole = jax.jit(lambda x: jax.lax.scan(step, (x, tx.init(x)), length=steps), compiler_options=USUAL)
    return whole(x)[1]


def trajectory(library: Any, make: Callable[[Any], Any], f: Any, x: Any, steps: int) -> Any:
    """Params and states after each step, of either library."""
    tx = make(library)
    value_and_grad = library.value_and_grad_from_state(f)

    def step(carry: Any, _: Any) -> Any:
        x, state = carry
        value, grad = value_and_grad(x, state=state)
        updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=f)
        x = library.apply_updates(x, updates)
        return (x, state), (x, state)

    return passed_through(step, tx, x, steps)


@pytest.mark.interop
@pytest.mark.parametrize(
    ("optimizer", "objective"),
    [
        *((optimizer, "rosenbrock-2") for optimizer in OPTIMIZERS),
        *(("lbfgs", objective) for objective in ("quadratic", "rosenbrock-10")),
        *(("backtracking", objective) for objective in ("quadratic", "rosenbrock-10")),
    ],
)
def test_trajectories_are_optaxs(optimizer: str, objective: str, x64) -> None:
    """50 steps in float64 within 1e-10: a thousand roundings, each grown by Rosenbrock's bent valley."""
    f, x = OBJECTIVES[objective]
    make = OPTIMIZERS[optimizer]
    ours, state = trajectory(gradtx, make, f, x, 50)
    theirs, other_state = trajectory(optax, make, f, x, 50)
    assert str(jax.tree.structure(state)) == str(jax.tree.structure(other_state))
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)
    search, other = state[-1], other_state[-1]
    np.testing.assert_allclose(search.value, other.value, rtol=1e-7, atol=1e-12)
    evaluations, theirs = search.info.num_linesearch_steps, other.info.num_linesearch_steps
    far = np.abs(np.diff(other.value, prepend=np.inf)) > 1e-12  # where roundings do not decide
    np.testing.assert_array_equal(evaluations[far], theirs[far])


# --- laws -------------------------------------------------------------------------------------------


def bowl(params: Any, target: Any = 1.0) -> Any:
    return sum(jnp.sum(jnp.abs(x - target) ** 2) for x in jax.tree.leaves(params)).astype(jnp.float32)


def updated(tx: Any, params: Any, state: Any, f: Any = bowl, **extra: Any) -> Any:
    """Params and state after one step."""
    value, grad = jax.value_and_grad(f)(params, **extra)
    downhill = jax.tree.map(jnp.conj, grad)
    updates, state = tx.update(downhill, state, params, value=value, grad=grad, value_fn=f, **extra)
    return gradtx.apply_updates(params, updates), state


@pytest.mark.parametrize("optimizer", ["lbfgs", "backtracking"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64], ids=lambda d: d.__name__)
def test_layout_is_a_fixed_point(optimizer: str, dtype: Any) -> None:
    params = {**laws.tree(0, jnp.float32), "gone": None}
    params = jax.tree.map(lambda x: (x + 1j * x if dtype == jnp.complex64 else x).astype(dtype), params)
    tx = OPTIMIZERS[optimizer](gradtx)
    state = tx.init(params)
    after, new = jax.jit(partial(updated, tx))(params, state)
    laws.assert_same_layout(after, params)
    laws.assert_same_layout(new, state)
    assert bowl(after) < bowl(params)
    assert state[-1].value.dtype == jnp.float32


@pytest.mark.parametrize("optimizer", ["lbfgs", "backtracking"])
def test_jit_vmap_and_donation(optimizer: str, x64) -> None:
    tx, batch = OPTIMIZERS[optimizer](gradtx), jnp.array([[0.5, -1.0, 2.0], [3.0, 0.1, -0.2]])
    step = lambda params, state: updated(tx, params, state, quadratic)  # noqa: E731
    states = jax.vmap(tx.init)(batch)
    together = jax.vmap(step)(batch, states)
    for i, (params, one) in enumerate(zip(batch, (step, jax.jit(step)), strict=True)):
        alone = one(params, tx.init(params))
        laws.assert_close(jax.tree.map(lambda x, i=i: x[i], together), alone)
    donated = jax.jit(jax.vmap(step), donate_argnums=(0, 1))(jnp.copy(batch), states)
    laws.assert_close(donated, together)
    assert all(x.is_deleted() for x in jax.tree.leaves(states[0].params if optimizer == "lbfgs" else ()))


def test_extra_arguments_go_to_the_objective_by_name() -> None:
    tx, params = OPTIMIZERS["zoom"](gradtx), laws.tree(0)
    value, grad = jax.value_and_grad(bowl)(params, target=3.0)
    updates, state = tx.update(
        grad, tx.init(params), params, value=value, grad=grad, value_fn=bowl, target=3.0, note="not for it"
    )
    after = gradtx.apply_updates(params, updates)
    assert float(state[-1].value) == pytest.approx(float(bowl(after, 3.0)), abs=1e-5)
    laws.assert_close(after, jax.tree.map(lambda x: jnp.full_like(x, 3.0), params), atol=1e-5, rtol=0)


def test_a_missing_gradient_holds_its_param() -> None:
    tx, params = gradtx.lbfgs(), {"a": jnp.zeros(3), "b": jnp.zeros(2)}
    value, grad = jax.value_and_grad(bowl)(params)
    grad = {**grad, "b": None}
    updates, state = tx.update(grad, tx.init(params), params, value=value, grad=grad, value_fn=bowl)
    assert updates["b"] is None
    laws.assert_same_layout(state, tx.init(params))
    assert float(state[-1].value) < float(value)


# --- where there is nothing to find -----------------------------------------------------------------

SEARCHES = {
    "zoom-one": gradtx.scale_by_zoom_linesearch(12, initial_guess_strategy="one"),
    "zoom-keep": gradtx.scale_by_zoom_linesearch(12),
    "backtracking": gradtx.scale_by_backtracking_linesearch(11, store_grad=True),
}
wall = lambda x: jnp.where(x[0] < 1, x[0] ** 2, jnp.nan)  # noqa: E731
always_nan = lambda x: x[0] * jnp.nan  # noqa: E731


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES.keys())
def test_an_uphill_direction_is_reported(search: Any) -> None:
    x = jnp.array([1.0, 2.0])
    value, grad = jax.value_and_grad(quadratic)(x)
    call = partial(search.update, value=value, grad=grad, value_fn=quadratic)
    _, state = call(grad, search.init(x), x)
    assert state.info.num_linesearch_steps == 12
    assert 0 < state.info.decrease_error < jnp.inf


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES.keys())
def test_without_a_finite_value_nothing_moves_and_the_next_search_can(search: Any) -> None:
    x = jnp.array([0.5])
    known = {"value": jnp.array(0.25), "grad": jnp.ones(1)}
    updates, state = search.update(-known["grad"], search.init(x), x, value_fn=always_nan, **known)
    assert (updates[0], state.learning_rate, state.info.num_linesearch_steps) == (0, 0, 12)
    assert jnp.isinf(state.info.decrease_error)
    assert (state.value, state.grad[0]) == (0.25, 1)
    updates, state = search.update(-known["grad"], state, x, value_fn=wall, **known)
    assert updates[0] < 0 and state.info.decrease_error == 0


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES.keys())
def test_a_step_into_nan_is_shortened(search: Any) -> None:
    x = jnp.array([-0.5])
    value, grad = jax.value_and_grad(wall)(x)
    updates, state = search.update(-4 * grad, search.init(x), x, value=value, grad=grad, value_fn=wall)
    assert 0 < state.learning_rate < 0.5 and state.value < value and state.info.decrease_error == 0


def test_a_short_step_has_its_own_errors() -> None:
    """The search is over before the slope is flat enough: what is safe is taken, and is no failure."""
    search = gradtx.scale_by_zoom_linesearch(2, curv_rtol=1e-6)
    x = jnp.array([1.0, 3.0])
    value, grad = jax.value_and_grad(rosenbrock)(x)
    _, state = search.update(-1e-3 * grad, search.init(x), x, value=value, grad=grad, value_fn=rosenbrock)
    assert state.value < value
    assert state.info.decrease_error == 0 and state.info.curvature_error > 0


def test_pairs_without_curvature_are_left_out() -> None:
    """Where Optax's direction points uphill."""
    params, grads = [jnp.array([0.0]), jnp.array([1.0])], [jnp.array([1.0]), jnp.array([0.5])]
    slopes = {}
    for library in (gradtx, optax):
        tx = library.scale_by_lbfgs()
        state = tx.init(params[0])
        for x, grad in zip(params, grads, strict=True):
            direction, state = tx.update(grad, state, x)
        slopes[library] = float(direction @ grads[1])
        assert float(state.weights_memory[0]) == (0 if library is gradtx else -2)
    assert slopes[gradtx] > 0 > slopes[optax]


def zakharov(x: Any) -> Any:
    weighted = jnp.sum(0.5 * jnp.arange(1, 1 + x.size) * x)
    return jnp.sum(x**2) + weighted**2 + weighted**4


def test_pairs_of_large_curvature_take_part(x64) -> None:
    """Here y is 1e7 times as long as s: without a line search, every step is Optax's."""
    make = lambda library: library.lbfgs(1e-3, linesearch=None)  # noqa: E731
    x = np.array([600.0, 700.0, 200.0, 100.0, 90.0, 1e3])
    ours, state = trajectory_without_search(gradtx, make, zakharov, x, 15)
    theirs, _ = trajectory_without_search(optax, make, zakharov, x, 15)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    assert np.all(state[0].weights_memory[-1] > 0)


def trajectory_without_search(library: Any, make: Any, f: Any, x: Any, steps: int) -> Any:
    tx = make(library)

    def step(carry: Any, _: Any) -> Any:
        x, state = carry
        updates, state = tx.update(jax.grad(f)(x), state, x)
        return (library.apply_updates(x, updates), state), (x, state)

    return passed_through(step, tx, x, steps)


@pytest.mark.parametrize("unit", [2.0**-100, 2.0**100])
def test_directions_are_in_the_unit_of_the_params(unit: float, x64) -> None:
    """Once there is a pair: the same path in other units has the same directions, number for number."""
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 12, 5))
    grads = x * np.array([1.0, 3.0, 10.0, 30.0, 100.0]) + 0.1 * noise

    def directions(of_x: float, of_value: float) -> Any:
        tx = gradtx.scale_by_lbfgs()

        def step(state: Any, given: Any) -> Any:
            x, grad = given
            direction, state = tx.update(grad, state, x)
            return state, direction

        return jax.lax.scan(step, tx.init(x[0]), (of_x * x, of_value / of_x * grads))[1]

    plain = directions(1.0, 1.0)
    np.testing.assert_array_equal(directions(1.0, unit)[1:], plain[1:])
    np.testing.assert_array_equal(directions(unit, 1.0)[1:], unit * plain[1:])


def test_verbose_prints_a_failure(capfd) -> None:
    x, out = jnp.array([1.0, 2.0]), []
    for search in SEARCHES.values():
        search = search.replace(verbose=True)
        value, grad = jax.value_and_grad(quadratic)(x)
        search.update(grad, search.init(x), x, value=value, grad=grad, value_fn=quadratic)
        jax.effects_barrier()
        out.append(capfd.readouterr().out)
    assert all("scale_by_" in text and "slope" in text for text in out)


MISTAKES = {
    "value": (lambda tx, x: tx.update(x, tx.init(x), x, grad=x, value_fn=quadratic), "needs value: call"),
    "grad": (lambda tx, x: tx.update(x, tx.init(x), x, value=1.0, value_fn=quadratic), "needs grad: call"),
    "value_fn": (lambda tx, x: tx.update(x, tx.init(x), x, value=1.0, grad=x), "needs value_fn: call"),
    "params": (lambda tx, x: gradtx.scale_by_lbfgs().update(x, tx.init(x)[0]), "scale_by_lbfgs needs params"),
    "vector": (
        lambda tx, x: tx.update(x, tx.init(x), x, value=1.0, grad=x, value_fn=lambda x: x),
        r"value_fn must return a real scalar; it returned float32 of shape \(2,\)",
    ),
    "strategy": (
        lambda tx, x: gradtx.scale_by_zoom_linesearch(3, initial_guess_strategy="two"),
        "initial_guess_strategy must be 'one' or 'keep', got 'two'",
    ),
    "steps": (lambda tx, x: gradtx.scale_by_zoom_linesearch(0), r"max_linesearch_steps must lie in \[1, inf"),
    "memory": (lambda tx, x: gradtx.lbfgs(memory_size=0), r"memory_size must lie in \[1, inf\], got 0"),
    "no value": (
        lambda tx, x: gradtx.value_and_grad_from_state(quadratic)(x, state=gradtx.adam(0.1).init(x)),
        "the state has no values and gradients; use an optimizer that ends with one line search",
    ),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call(gradtx.lbfgs(), jnp.ones(2))


def test_value_and_grad_are_taken_from_the_state_if_finite() -> None:
    calls = []

    def f(x: Any) -> Any:
        calls.append(x)
        return quadratic(x)

    tx, x = gradtx.lbfgs(), jnp.ones(2)
    state = tx.init(x)
    value, grad = gradtx.value_and_grad_from_state(f)(x, state=state)
    assert (len(calls), float(value)) == (1, float(quadratic(x)))
    kept = gradtx.tree.set(state, value=jnp.array(7.0))
    value, grad = gradtx.value_and_grad_from_state(f)(x, state=kept)
    assert (len(calls), float(value)) == (1, 7.0)


@pytest.mark.parametrize("search", [gradtx.scale_by_zoom_linesearch, gradtx.scale_by_backtracking_linesearch])
def test_a_number_set_in_the_state_is_where_a_search_begins(search: Any) -> None:
    params = jnp.array([1.0, -2.0])
    loss = lambda x: jnp.sum(x**2)  # noqa: E731
    tx, (value, grad) = search(10), jax.value_and_grad(loss)(params)
    steps = []
    for rate in (0.25, jnp.asarray(0.25), 1, jnp.asarray(1.0)):
        state = gradtx.tree.set(tx.init(params), learning_rate=rate)
        updates, after = tx.update(-0.1 * grad, state, params, value=value, grad=grad, value_fn=loss)
        assert jax.tree.map(jnp.result_type, after) == jax.tree.map(jnp.result_type, tx.init(params))
        steps.append(updates)
    np.testing.assert_array_equal(steps[0], steps[1])
    np.testing.assert_array_equal(steps[2], steps[3])

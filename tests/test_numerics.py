"""The arithmetic that formulas share: to the last count, in every dtype, and through NaN."""

from decimal import Decimal, localcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx.arrays.numerics import averaged_length, extreme, quotient
from gradtx.schedules.arithmetic import since
from tests.laws import assert_close, assert_same_layout, run

LAST = 2**31 - 1


def exact_length(decay: float, steps: int) -> float:
    """2/(1−b) − 1 − 2t·bᵗ/(1 − bᵗ) with eighty digits, of the very number that the double is."""
    with localcontext(prec=80):
        b, t = Decimal(decay), Decimal(steps)
        return float(2 / (1 - b) - 1 - 2 * t * b**t / (1 - b**t))


@pytest.mark.parametrize(("dtype", "rtol"), [(jnp.float32, 1e-6), (jnp.float64, 1e-13)])
def test_the_length_of_an_average_is_right_up_to_the_last_count(dtype: Any, rtol: float, x64: None) -> None:
    counts = [1, 2, 5, 10, 100, 700, 1500, 1999, 2001, 10**4, 10**5, 10**6, 10**7, 10**8, 10**9, LAST]
    for decay in (0.5, 0.9, 0.99, 0.999, 0.9999, 0.999999):
        found = averaged_length(decay, jnp.asarray(counts, dtype))
        exact = [exact_length(decay, int(t)) for t in np.asarray(counts, dtype)]
        np.testing.assert_allclose(found, exact, rtol=rtol)


def test_a_quotient_by_nothing_is_0_and_by_nan_is_nan() -> None:
    divisors = jnp.array([0.0, 2.0, jnp.nan, -1.0, 1e-9])
    np.testing.assert_array_equal(quotient(1.0, divisors, 1e-8), [0, 0.5, jnp.nan, 0, 0])
    assert jax.grad(lambda y: quotient(1.0, y))(0.0) == 0


COUNTERS = ["int8", "int16", "int32", "uint8", "uint16", "uint32", "bfloat16", "float16", "float32"]


@pytest.mark.parametrize("dtype", COUNTERS)
def test_a_counter_of_any_dtype_stays_at_its_largest(dtype: str) -> None:
    limits = jnp.finfo(dtype) if "float" in dtype else jnp.iinfo(dtype)
    counts = jnp.array([0, 3, limits.max], dtype)
    found, expected = gradtx.safe_increment(counts), jax.vmap(optax.safe_increment)(counts)
    assert found.dtype == expected.dtype == dtype
    np.testing.assert_array_equal(found, expected)


def test_python_numbers_count_and_what_does_not_is_named() -> None:
    assert gradtx.safe_increment(3) == 4 and gradtx.safe_increment(2.5) == 3.5
    assert jnp.isnan(gradtx.safe_increment(jnp.nan))
    for x, dtype in ((True, "bool"), (1j, "complex64")):
        with pytest.raises(ValueError, match=f"safe_increment: count must be .* its dtype is {dtype}"):
            gradtx.safe_increment(x)


def test_formulas_go_on_at_the_last_count() -> None:
    ones = {"w": jnp.ones(3)}
    for before in (LAST - 1, LAST):
        for tx in (
            gradtx.scale_by_adam(nesterov=True),
            gradtx.scale_by_radam(),
            gradtx.scale_by_radam(nesterov=True),
        ):
            state = jax.tree.map(
                lambda x, before=before: (
                    jnp.full_like(x, before) if x.dtype == jnp.int32 else jnp.ones_like(x)
                ),
                tx.init(ones),
            )
            updates, _ = tx.update(ones, state, ones)
            np.testing.assert_allclose(np.abs(updates["w"]), 1, rtol=2e-6)
    assert since(jnp.int32(LAST), -10) == since(jnp.int32(LAST), jnp.int32(-10)) == LAST
    assert since(jnp.int32(LAST), 10) == LAST - 10 and since(jnp.int32(3), 5) == 0
    every = gradtx.MultiSteps(gradtx.sgd(1.0), lambda step: jnp.inf)
    state = every.init(ones)._replace(mini_step=jnp.int32(LAST), acc_grads=ones)
    assert_close(every.update(ones, state, ones)[1].acc_grads, ones)


def test_adafactor_begins_before_its_offset() -> None:
    """As many updates as the offset see no squares but their own; then the decay begins as in a new state."""
    grads = [{"w": jnp.array([1.0, -2.0, 3.0]) * i} for i in range(1, 6)]
    late, new = gradtx.scale_by_factored_rms(step_offset=2), gradtx.scale_by_factored_rms()
    state, fresh = late.init(grads[0]), new.init(grads[0])
    for i, grad in enumerate(grads):
        updates, state = late.update(grad, state)
        if i < 2:
            np.testing.assert_allclose(updates["w"], np.sign(grad["w"]), rtol=1e-6)
        else:
            expected, fresh = new.update(grad, fresh)
            assert_close(updates, expected)


# --- dtypes -----------------------------------------------------------------------------------------

BYTES = [
    getattr(jnp, name)
    for name in dir(jnp)
    if name.startswith("float8") and name != "float8_e8m0fnu"  # which has neither 0 nor a sign
]


@pytest.mark.parametrize("dtype", BYTES, ids=lambda dtype: jnp.dtype(dtype).name)
def test_params_and_gradients_may_be_floats_of_a_byte(dtype: Any) -> None:
    """The update is that of the same numbers in float32, rounded once; so is the param."""
    params = {"w": jnp.array([1.0, 2.0, 0.5, 4.0], dtype)}
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    tx = gradtx.adamw(0.25, weight_decay=0.5)
    for grads in (params, wide):
        state, expected_state = tx.init(params), tx.init(wide)
        updates, state = tx.update(grads, state, params)
        expected, expected_state = tx.update(wide, expected_state, wide)
        assert_same_layout(state, expected_state)
        assert_close(state, expected_state)
        assert updates["w"].dtype == grads["w"].dtype
        np.testing.assert_array_equal(updates["w"], expected["w"].astype(grads["w"].dtype))
        after = gradtx.apply_updates(params, updates)["w"]
        exact = wide["w"] + updates["w"].astype(jnp.float32)
        np.testing.assert_array_equal(after, exact.astype(dtype))
        assert after.dtype == dtype


def test_float64_arrays_of_numpy_are_no_matter_for_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    params = {"w": np.ones((2, 3)), "s": np.float64(1.0)}
    for tx in (
        gradtx.adam(0.5),
        gradtx.lookahead(gradtx.sgd(0.5, 0.9), 2, 0.5),
        gradtx.MultiSteps(gradtx.sgd(0.5), 2),
        gradtx.noisy_sgd(0.5, key=1),
        gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.contrib.dog()),
    ):
        after, _ = run(tx, params, [params, params])
        assert {x.dtype for x in jax.tree.leaves(after)} == {jnp.dtype(jnp.float32)}
    assert not recwarn.list, recwarn.list[0].message


# --- what is not cut --------------------------------------------------------------------------------


class Total(NamedTuple):
    total: Any


def test_a_state_becomes_what_its_numbers_are() -> None:
    """A fraction that is added to an integer, as in Optax; in a loop, JAX says which state has changed."""

    def add(updates: Any, state: Total, params: Any = None) -> Any:
        return updates, Total(state.total + updates["w"][0])

    tx = gradtx.GradientTransformation(lambda params: Total(jnp.zeros([], jnp.int32)), add)
    grads = {"w": jnp.array([0.25])}
    state = tx.init(grads)
    for _ in range(3):
        _, state = jax.jit(tx.update)(grads, state)
    assert state.total == 0.75
    with pytest.raises(TypeError, match=r"(?s)total.*int32\[\].*float32\[\]"):
        jax.lax.scan(
            lambda state, grad: tx.update(grad, state)[::-1], tx.init(grads), {"w": jnp.ones((2, 1))}
        )


def test_a_slot_of_integers_takes_no_fractions() -> None:
    @gradtx.leafwise(state=Total)
    def adding():
        init = lambda param: dict(total=jnp.zeros(param.shape, jnp.int32))  # noqa: E731
        return init, lambda grad, total: (grad, dict(total=total + grad))

    tx, grads = adding(), {"w": jnp.array([0.25])}
    with pytest.raises(TypeError, match="adding: total is kept as int32 and would lose what is of float32"):
        tx.update(grads, tx.init(grads))


def test_a_scheduled_integer_may_become_a_fraction() -> None:
    class Adding(gradtx.schedules.StatefulSchedule):
        def init(self) -> Any:
            return jnp.zeros([], jnp.int32)

        def update(self, state: Any, **extra: Any) -> Any:
            return state + extra["addend"]

        def __call__(self, state: Any, **extra: Any) -> Any:
            return state

    tx, grads = gradtx.inject_hyperparams(gradtx.scale)(step_size=Adding()), jnp.ones(2)
    state = tx.init(grads)
    for expected in (0, 0.25, 0.5):
        updates, state = tx.update(grads, state, grads, addend=jnp.float32(0.25))
        np.testing.assert_array_equal(updates, expected)


@pytest.mark.parametrize("of", ["max", "min"])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, -1), (1, 2), (-1, -2, -3)])
def test_the_largest_and_smallest_are_numpys_along_any_axes(of, axis) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    with_nan = np.where(np.arange(60).reshape(x.shape) == 37, np.nan, x)
    initial = 0.5 if of == "max" else -0.5
    for given in (x, with_nan, np.zeros((0, 4, 5), np.float32)):
        expected = getattr(np, of)(given, axis, initial=initial)
        np.testing.assert_array_equal(extreme(of, given, axis, initial=initial), expected)
    derivative = jax.grad(
        lambda x: jnp.sum(extreme(of, x, axis, initial=-np.inf if of == "max" else np.inf))
    )(x)
    chosen = x == getattr(np, of)(x, axis, keepdims=True)
    np.testing.assert_array_equal(derivative, chosen.astype(np.float32))

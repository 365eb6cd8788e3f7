"""What is made of functions: transformations, stateful schedules, distributions, scaled gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm

import gradtx
from gradtx.schedules import StatefulSchedule, WrappedSchedule
from tests import laws

# --- transformations --------------------------------------------------------------------------------


def test_stateless_is_given_params_or_none() -> None:
    seen = []

    def remember(updates, params):
        seen.append(params is None)
        return updates

    tx = gradtx.stateless(remember)
    state = tx.init([1.0])
    tx.update([1.0], state)
    tx.update([1.0], state, [2.0])
    assert seen == [True, False] and state == gradtx.EmptyState()


def test_stateless_with_tree_map_leaves_none_alone() -> None:
    tx = gradtx.chain(gradtx.stateless_with_tree_map(lambda g, p: g + p), gradtx.scale(-1.0))
    updates, _ = tx.update([jnp.array(1.0), None], tx.init([2.0, 3.0]), [jnp.array(2.0), jnp.array(3.0)])
    assert updates[0] == -3 and updates[1] is None


def test_with_extra_args_support() -> None:
    own = gradtx.sgd(0.1)
    assert gradtx.with_extra_args_support(own) is own
    pair = optax.GradientTransformation(
        lambda params: (), lambda updates, state, params=None: (updates, state)
    )
    updates, _ = gradtx.with_extra_args_support(pair).update([1.0], (), value=3.0)
    assert updates[0] == 1
    with pytest.raises(TypeError, match="with_extra_args_support: tx is the function adam, .* call it"):
        gradtx.with_extra_args_support(gradtx.adam)


@pytest.mark.parametrize("shape", [(), (3,), (1, 4), (2, 3), (2, 3, 4), (2, 2, 3, 4), (1, 2, 2, 3, 4)])
def test_units_are_those_of_optax(x64, shape) -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    ours, theirs = (library.transforms.unitwise_norm(x) for library in (gradtx, optax))
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)
    bound = jnp.full(shape, 0.5)
    ours, theirs = (library.transforms.unitwise_clip(ours, bound, x) for library in (gradtx, optax))
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)
    with pytest.raises(ValueError, match="no default unit; give axis="):
        gradtx.transforms.unitwise_norm(jnp.ones((2,) * 6))


# --- schedules with a state -------------------------------------------------------------------------


class Halved:
    """A learning rate that is halved when the value rises."""

    def init(self):
        return {"last": jnp.array(jnp.inf), "rate": jnp.array(1.0)}

    def update(self, state, *, value=jnp.inf, **extra_args):
        rate = jnp.where(value > state["last"], state["rate"] / 2, state["rate"])
        return {"last": jnp.asarray(value, jnp.float32), "rate": rate}

    def __call__(self, state, **extra_args):
        return state["rate"]


def test_a_stateful_schedule_sees_the_value_as_in_optax() -> None:
    params, halved = [jnp.array(0.0)], Halved()
    assert isinstance(halved, StatefulSchedule) and isinstance(halved, optax.schedules.StatefulSchedule)
    ours, theirs = (x.inject_hyperparams(x.sgd)(learning_rate=halved) for x in (gradtx, optax))
    state, other_state = ours.init(params), theirs.init(params)
    rates = []
    for value in (3.0, 2.0, 4.0, 1.0, 2.0, 2.0):
        updates, state = jax.jit(ours.update)(params, state, params, value=value)
        other, other_state = theirs.update(params, other_state, params, value=value)
        assert jax.tree.structure(state) == jax.tree.structure(state._replace(count=0))
        laws.assert_close((updates, state.hyperparams_states), (other, other_state.hyperparams_states))
        rates.append(float(state.hyperparams["learning_rate"]))
    assert rates == [1, 1, 1, 0.5, 0.5, 0.25]


def test_a_wrapped_schedule_counts() -> None:
    wrapped = WrappedSchedule(gradtx.linear_schedule(1.0, 0.0, 4))
    state = wrapped.init()
    seen = []
    for _ in range(3):
        seen.append(float(wrapped(state, value=1.0)))
        state = wrapped.update(state, value=1.0)
    assert seen == [1, 0.75, 0.5] and state.count == 3 and wrapped == WrappedSchedule(wrapped.schedule_fn)


# --- distributions and gradients --------------------------------------------------------------------


def test_multi_normal_is_that_of_optax_and_scipy(x64) -> None:
    loc, log_scale = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.1, -0.3, 1.0])
    ours, theirs = (library.multi_normal(loc, log_scale) for library in (gradtx, optax))
    key = jax.random.key(0)
    x = ours.sample((4, 2), key)
    np.testing.assert_allclose(x, theirs.sample((4, 2), key), rtol=1e-14)
    np.testing.assert_allclose(ours.log_prob(x), theirs.log_prob(x), rtol=1e-13)
    np.testing.assert_allclose(ours.log_prob(x), norm.logpdf(x, loc, np.exp(log_scale)).sum(-1), rtol=1e-13)
    laws.assert_close((ours.params, ours.log_scale), (theirs.params, theirs.log_scale))
    score = jax.grad(lambda distribution: distribution.log_prob(x[0, 0]))(ours)
    np.testing.assert_allclose(score.loc, (x[0, 0] - loc) * np.exp(-2 * log_scale), rtol=1e-13)


@pytest.mark.parametrize("scale", [1.0, 0.0, -0.5, 0.25])
def test_scale_gradient_is_that_of_optax(scale) -> None:
    x = {"w": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}

    def slope(library):
        return jax.grad(lambda x: sum(jnp.sum(y**2) for y in library.scale_gradient(x, scale).values()))(x)

    laws.assert_close(slope(gradtx), slope(optax))
    laws.assert_close(gradtx.scale_gradient(x, scale), x)


def test_scale_gradient_may_be_traced_forwards_and_backwards() -> None:
    def f(x, scale):
        return gradtx.scale_gradient(x, scale) ** 2

    x = jnp.array(3.0, jnp.bfloat16)
    assert jax.jit(jax.grad(f))(x, jnp.array(0.5)) == 3
    assert jax.jvp(lambda x: f(x, 0.5), (x,), (jnp.ones_like(x),))[1] == 3
    assert jax.grad(lambda x: gradtx.scale_gradient(jnp.log(0 * x), 0.0))(3.0) == 0
    assert gradtx.scale_gradient({"n": jnp.arange(2), "gone": None}, 0.5)["gone"] is None


def test_an_update_of_two_functions_need_not_take_params() -> None:
    def by_keyword(updates, state, *, log=None, **extra):
        return {"w": updates["w"] * (2 if log is None else log)}, state

    def any_number(*given, **extra):
        return given[0], given[1]

    grads = {"w": jnp.ones(2)}
    for update, expected in ((by_keyword, 2.0), (any_number, 1.0)):
        tx = gradtx.GradientTransformation(gradtx.init_empty_state, update)
        updates, _ = tx.update(grads, tx.init(grads), grads)
        laws.assert_close(updates, {"w": jnp.full(2, expected)})
    tx = gradtx.GradientTransformation(gradtx.init_empty_state, by_keyword)
    laws.assert_close(tx.update(grads, gradtx.EmptyState(), log=3.0)[0], {"w": jnp.full(2, 3.0)})

"""Optimizers of contrib that are told more than one gradient: the loss, functions, each example's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from tests.beside_optax import assert_equal_steps, assert_near
from tests.given import quartic
from tests.laws import assert_close, assert_same_layout, tree

LOSSES = [5.0, 4.0, 4.5, 3.0, 3.0, 3.0, 2.9, 3.1, 1.0, 1.0, 0.5, 0.7]

TOLD = {
    "momo": lambda x: x.contrib.momo(0.5, weight_decay=0.1),
    "momo-adaptive": lambda x: x.contrib.momo(0.5, 0.8, 0.1, 0.1, True),
    "momo_adam": lambda x: x.contrib.momo_adam(0.1, weight_decay=0.1),
    "momo_adam-adaptive": lambda x: x.contrib.momo_adam(0.1, 0.8, 0.9, 1e-6, 0.1, 0.1, True),
    "reduce_on_plateau": lambda x: x.contrib.reduce_on_plateau(0.5, 1, 0.1, 0.2),
    "reduce_on_plateau-means": lambda x: x.contrib.reduce_on_plateau(
        0.5, 2, cooldown=1, accumulation_size=2, min_scale=0.3
    ),
}


@pytest.mark.parametrize("make", TOLD.values(), ids=TOLD.keys())
def test_equals_optax(make, x64) -> None:
    assert_near(*assert_equal_steps(make, values=LOSSES))


def scales(tx, losses) -> list[float]:
    state, found = tx.init(jnp.zeros(2)), []
    for loss in losses:
        _, state = tx.update(jnp.ones(2), state, value=loss)
        found.append(round(float(gradtx.tree.get(state, "scale")), 4))
    return found


def test_numbers_of_a_plateau_are_scheduled_by_updates() -> None:
    """Not by the values in the running mean, which its state calls count as Optax's does."""
    factor = gradtx.piecewise_constant_schedule(0.5, {3: 0.5})
    tx = gradtx.contrib.reduce_on_plateau(factor, patience=1, accumulation_size=2)
    assert scales(tx, [1.0] * 4) == [1, 1, 1, 0.25]
    with pytest.raises(
        ValueError, match=r"reduce_on_plateau: this is not its state: expected ScheduledState"
    ):
        tx.update({}, gradtx.contrib.reduce_on_plateau().init({}), value=1.0)


def test_a_plateau_is_one_whatever_the_sign_of_the_loss() -> None:
    """Optax asks a loss of -10 to fall below -9.999: it never sees that -10, -10, -10 is a plateau."""
    tx = gradtx.contrib.reduce_on_plateau(0.5, patience=2)
    assert scales(tx, [-10.0] * 5) == scales(tx, [10.0] * 5) == [1, 1, 0.5, 0.5, 0.25]
    assert scales(tx, [-10.0, -10.1, -10.2, -10.3]) == [1, 1, 1, 1]
    assert scales(optax.contrib.reduce_on_plateau(0.5, patience=2), [-10.0] * 5) == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("make", TOLD.values(), ids=TOLD.keys())
def test_the_loss_is_asked_for(make) -> None:
    tx = make(gradtx)
    with pytest.raises(TypeError, match=r"needs value: call update\(grads, state, params, value=\.\.\.\)"):
        tx.update(tree(1), tx.init(tree(0)), tree(0))


# --- sharpness-aware minimization -------------------------------------------------------------------


def ascent(x):
    return x.chain(x.contrib.normalize(), x.sgd(0.05, momentum=0.9))


@pytest.mark.parametrize("reset_state", [False, True])
@pytest.mark.parametrize("period", [2, 3])
@pytest.mark.parametrize("opaque_mode", [False, True])
def test_sam_equals_optax(period, reset_state, opaque_mode, x64) -> None:
    states = assert_equal_steps(
        lambda x: x.contrib.sam(x.adam(0.1), ascent(x), period, reset_state, opaque_mode),
        functions={"grad_fn": lambda params, i: jax.grad(quartic)(params)},
    )
    if reset_state or not opaque_mode:
        assert_near(*states)


def test_sam_knows_the_params_to_evaluate_with() -> None:
    tx = gradtx.contrib.sam(gradtx.sgd(0.1), ascent(gradtx))
    params, state = tree(0), tx.init(tree(0))
    for uphill in (True, False):
        before = params
        updates, state = jax.jit(tx.update)(tree(1), state, params)
        params = gradtx.apply_updates(params, updates)
        assert_close(gradtx.evaluation_params(state, params), before if uphill else params, rtol=0, atol=0)


def test_sam_with_a_period_of_one_is_its_optimizer(x64) -> None:
    """Optax steps from the params before the last."""
    tx, alone = gradtx.contrib.sam(gradtx.adam(0.1), ascent(gradtx), 1), gradtx.adam(0.1)
    params = others = tree(0)
    state, other_state = tx.init(params), alone.init(params)
    for i in range(1, 4):
        updates, after = tx.update(tree(i), state, params)
        assert_same_layout(after, state)
        params, state = gradtx.apply_updates(params, updates), after
        updates, other_state = alone.update(tree(i), other_state, others)
        others = gradtx.apply_updates(others, updates)
    assert_close(params, others)


def test_opaque_sam_asks_for_gradients() -> None:
    tx = gradtx.contrib.sam(gradtx.sgd(0.1), ascent(gradtx), opaque_mode=True)
    with pytest.raises(TypeError, match=r"contrib.sam needs grad_fn: call update\(.*, grad_fn=\.\.\.\)"):
        tx.update(tree(1), tx.init(tree(0)), tree(0))
    with pytest.raises(TypeError, match="contrib.sam: adv_optimizer is the function sgd, not a transform"):
        gradtx.contrib.sam(gradtx.sgd(0.1), gradtx.sgd)


# --- gradients per example --------------------------------------------------------------------------


def params_then_batches(seed: int):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=(5, *x.shape)[not seed :])), tree(0))


def test_dpsgd_equals_optax(x64) -> None:
    """The random bits included; Optax's recipe wants a seed, and calls it deprecated."""

    def make(x):
        if x is gradtx:
            return x.contrib.dpsgd(0.1, 1.5, 0.3, 7, momentum=0.9)
        private = x.contrib.differentially_private_aggregate(1.5, 0.3, 7)
        return x.chain(private, x.trace(0.9), x.scale_by_learning_rate(0.1))

    assert_near(*assert_equal_steps(make, tree=params_then_batches))


def test_dpsgd_looks_at_shapes() -> None:
    tx = gradtx.contrib.dpsgd(0.1, 1.0, 0.1, 7)
    state = tx.init(tree(0))
    with pytest.raises(ValueError, match=r"an example's update has shape \(\), the param has shape \(4,\)"):
        tx.update(tree(1), state, tree(0))
    with pytest.raises(ValueError, match="differentially_private_aggregate: .*is a scalar; gradients per ex"):
        tx.update(tree(1), state)


# --- curvature --------------------------------------------------------------------------------------


def coupled(params):
    x = jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(params)])
    return jnp.sum(x**4) + jnp.sum(x[1:] * x[:-1] ** 2)


def test_sophia_equals_optax(x64) -> None:
    """The random signs included."""
    make = lambda x: x.contrib.sophia(0.1, weight_decay=0.1, gamma=1.0, update_interval=3)  # noqa: E731
    assert_near(*assert_equal_steps(make, functions={"obj_fn": coupled}))


def test_sophia_asks_for_the_objective_and_tells_its_win_rate(capfd) -> None:
    tx = gradtx.contrib.sophia(0.1, verbose=True, print_win_rate_every_n_steps=2)
    state = tx.init(tree(0))
    with pytest.raises(TypeError, match=r"hutchinson_estimator_diag_hessian needs obj_fn: call update\("):
        tx.update(tree(1), state, tree(0))
    for _ in range(2):
        _, state = tx.update(tree(1), state, tree(0), obj_fn=quartic)
    jax.effects_barrier()
    assert capfd.readouterr().out.count("win rate") == 1

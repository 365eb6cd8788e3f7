"""Aggregated gradients per example: Optax's numbers in double precision, and the variance itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx.experimental import aggregating
from tests import laws

LIBRARIES = (gradtx, optax)


def params():
    return {"w": jnp.array([[0.3, -0.2], [0.1, 0.4]]), "b": jnp.array([1.0, 2.0])}


def gradients(seed, *batch):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=(*batch, *x.shape))), params())


OPTIMIZERS = {
    "mean": (lambda x, a: a.process(x.identity(), a.average_per_element_updates(), x.adam(0.1)), (4,)),
    "mean over two axes": (
        lambda x, a: a.process(x.clip(0.7), a.average_per_element_updates((0, 1)), x.adam(0.1)),
        (2, 3),
    ),
    "batches": (
        lambda x, a: a.process(x.identity(), a.average_incrementally_updates(None, 3), x.adam(0.1)),
        (),
    ),
    "batches of examples": (
        lambda x, a: a.process(x.identity(), a.average_incrementally_updates(0, 3), x.adam(0.1)),
        (4,),
    ),
    "one batch": (
        lambda x, a: a.process(x.identity(), a.average_incrementally_updates(0, 1), x.adam(0.1)),
        (4,),
    ),
    "variance": (lambda x, a: a.add_mean_variance_to_opt(x.adam(0.1)), (4,)),
    "variance over batches": (
        lambda x, a: a.add_mean_variance_to_opt(x.adam(0.1), 0.8, [0], accumulation_steps=3),
        (4,),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_is_that_of_optax(x64, name) -> None:
    """Seven updates in float64, to rounding; the states have one structure.

    Optax divides by integer counts of batches, which JAX does in float32 also in double precision.
    """
    make, batch = OPTIMIZERS[name]
    bounds = dict(rtol=1e-6 if name == "variance over batches" else 1e-12, atol=1e-14)
    ours, theirs = (make(library, library.experimental.aggregating) for library in LIBRARIES)
    state, other_state = ours.init(params()), theirs.init(params())
    update, other_update = jax.jit(ours.update), jax.jit(theirs.update)
    for seed in range(7):
        updates, state = update(gradients(seed, *batch), state, params())
        other, other_state = other_update(gradients(seed, *batch), other_state, params())
        laws.assert_close(updates, other, **bounds)
        laws.assert_close(jax.tree.leaves(state), jax.tree.leaves(other_state), **bounds)
    assert str(jax.tree.structure(state)) == str(jax.tree.structure(other_state))
    if "variance" in name:
        found = aggregating.get_unbiased_mean_and_variance_ema(state)
        wanted = optax.experimental.aggregating.get_unbiased_mean_and_variance_ema(other_state)
        laws.assert_close(found, wanted, **bounds)


def test_the_variance_is_that_of_all_examples(x64) -> None:
    batches = [gradients(seed, 5) for seed in range(3)]
    aggregator = aggregating.get_per_element_mean_and_sum_sq_diff_grads(accumulation_steps=3)
    state = aggregator.init(params())
    for grads in batches:
        (mean, aux), state = aggregator.update(grads, state)
    together = np.concatenate([grads["w"] for grads in batches])
    assert aux["sample_size"] == 15 and state.ready and state.micro_step == 0
    np.testing.assert_allclose(mean["w"], together.mean(0), rtol=1e-13)
    np.testing.assert_allclose(aux["sum_sq_diff_grads"]["w"] / 15, together.var(0), rtol=1e-13)


def test_state_keeps_its_dtypes_and_updates_are_zero_meanwhile() -> None:
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params())
    tx = aggregating.add_mean_variance_to_opt(gradtx.sgd(0.1), accumulation_steps=2)
    state, dtypes = tx.init(half), None
    for seed in range(3):
        grads = jax.tree.map(lambda g: g.astype(jnp.bfloat16), gradients(seed, 4))
        updates, state = tx.update(grads, state, half)
        assert np.all(np.asarray(updates["w"]) == 0) == (seed != 1)
        found = jax.tree.map(lambda x: (x.dtype, x.weak_type), state)
        assert dtypes in (None, found)
        dtypes = found


def test_one_example_has_no_variance() -> None:
    tx = aggregating.add_mean_variance_to_opt(gradtx.sgd(0.1))
    _, state = tx.update(gradients(0, 1), tx.init(params()))
    mean, variance = aggregating.get_unbiased_mean_and_variance_ema(state)
    np.testing.assert_allclose(mean["w"], gradients(0, 1)["w"][0], rtol=1e-6)
    assert np.all(variance["w"] == 0)


def test_extra_arguments_reach_the_optimizer() -> None:
    aggregator = aggregating.average_per_element_updates()
    tx = aggregating.process(gradtx.identity(), aggregator, gradtx.polyak_sgd())
    updates, _ = tx.update(gradients(0, 4), tx.init(params()), params(), value=2.0)
    assert np.all(np.isfinite(updates["w"]))


def test_errors() -> None:
    with pytest.raises(ValueError, match="accumulate_avg_updates: accumulation_steps must be at least 1"):
        aggregating.average_incrementally_updates(0, 0)
    with pytest.raises(ValueError, match="accumulation_steps must be at least 1, got 0"):
        aggregating.add_mean_variance_to_opt(gradtx.sgd(0.1), accumulation_steps=0)
    with pytest.raises(ValueError, match=r"number of examples: \['b'\] has 3, \['w'\] has 4"):
        aggregating.get_batch_size_from_per_elt_updates({"w": jnp.ones((4, 2)), "b": jnp.ones(3)}, 0)
    with pytest.raises(ValueError, match="there is no PerElementMeanAndVarianceEMAState in this state"):
        aggregating.get_unbiased_mean_and_variance_ema(gradtx.sgd(0.1).init(params()))
    track = aggregating.track_per_element_mean_and_variance_with_ema()
    with pytest.raises(TypeError, match="with_ema needs (sum_sq_diff_grads|sample_size): call update"):
        track.update(params(), track.init(params()))
    with pytest.raises(TypeError, match="with_extra_args_support: tx is the function adam, .* call it"):
        aggregating.process(gradtx.identity(), aggregating.average_per_element_updates(), gradtx.adam)

"""A transformation as Optax's own type, in the libraries that ask for it."""

import pickle
import sys

import jax
import jax.numpy as jnp
import optax
import pytest

import gradtx
from tests.laws import Compilations, assert_close, assert_same_layout, tree


def make() -> gradtx.GradientTransformation:
    return gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(1e-2, mask=r".*kernel"))


def test_it_is_of_optaxs_type_and_equal_by_value() -> None:
    pair = gradtx.to_optax(make())
    assert type(pair) is optax.GradientTransformationExtraArgs
    assert pair == gradtx.to_optax(make()) and hash(pair) == hash(gradtx.to_optax(make()))
    assert pair != gradtx.to_optax(gradtx.adamw(1e-2))
    assert pickle.loads(pickle.dumps(pair)) == pair
    assert gradtx.to_optax(pair) == pair


def test_its_states_and_updates_are_those_of_the_value() -> None:
    tx, params, grads = make(), tree(0), tree(1)
    pair, state = gradtx.to_optax(tx), tx.init(params)
    assert_same_layout(pair.init(params), state)
    assert_close(pair.update(grads, state, params), tx.update(grads, state, params), rtol=0, atol=0)


def test_a_rebuilt_one_does_not_retrace() -> None:
    step = jax.jit(lambda tx, grads: tx.update(grads, tx.init(grads), grads)[0], static_argnums=0)
    step(gradtx.to_optax(make()), tree(1))
    with Compilations() as compilations:
        step(gradtx.to_optax(make()), tree(1))
    assert compilations.count == 0


def test_what_takes_transformations_makes_the_value_of_it_again() -> None:
    tx = make()
    assert gradtx.chain(gradtx.to_optax(tx), gradtx.scale(2.0)) == gradtx.chain(tx, gradtx.scale(2.0))
    assert gradtx.MultiSteps(gradtx.to_optax(tx), 2) == gradtx.MultiSteps(tx, 2)
    # Halves of two values are no value.
    halves = optax.GradientTransformation(gradtx.to_optax(tx).init, gradtx.to_optax(gradtx.adam(1e-2)).update)
    assert gradtx.chain(halves).stages[0].name == "GradientTransformation"


def test_in_a_chain_of_optaxs_extra_arguments_reach_it() -> None:
    params, grads = jnp.ones(3), jnp.full(3, 0.5)
    tx = optax.chain(optax.scale(1.0), gradtx.to_optax(gradtx.polyak_sgd(1.0)))
    updates, _ = tx.update(grads, tx.init(params), params, value=0.3)
    assert_close(updates, -0.3 / (3 * 0.25) * grads)


def test_what_it_refuses(monkeypatch) -> None:
    with pytest.raises(TypeError, match=r"to_optax: tx is the function adam, .*; call it: adam\(\.\.\.\)"):
        gradtx.to_optax(gradtx.adam)
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(ModuleNotFoundError, match="to_optax needs Optax: pip install optax"):
        gradtx.to_optax(make())


@pytest.mark.extra
@pytest.mark.interop
def test_numpyro_infers_the_same_with_it(x64) -> None:
    import numpyro

    infer, normal = numpyro.infer, numpyro.distributions.Normal

    def model(data):
        with numpyro.plate("data", len(data)):
            numpyro.sample("x", normal(numpyro.sample("mean", normal(0.0, 10.0)), 1.0), obs=data)

    def fitted(tx):
        guide = infer.autoguide.AutoNormal(model)
        svi = infer.SVI(model, guide, tx, infer.Trace_ELBO())
        return svi.run(jax.random.key(0), 50, jnp.array([1.0, 2.0, 4.0]), progress_bar=False)

    with pytest.raises(TypeError, match="optax.GradientTransformation"):
        fitted(gradtx.adam(0.1))
    ours = fitted(gradtx.to_optax(gradtx.chain(gradtx.clip(5.0), gradtx.adam(0.1))))
    theirs = fitted(optax.chain(optax.clip(5.0), optax.adam(0.1)))
    assert_close(ours.params, theirs.params)
    assert_close(ours.losses, theirs.losses)

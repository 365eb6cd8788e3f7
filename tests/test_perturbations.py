"""Perturbations: Optax's samples, unbiased derivatives, and bad input."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import gradtx
from gradtx import perturbations

KEY = jax.random.key(3)


def one_hot_argmax(tree):
    return jax.tree.map(lambda x: jax.nn.one_hot(jnp.argmax(x, -1), x.shape[-1]), tree)


X = {"a": np.array([[0.1, 0.3, 0.2]]), "b": np.array([1.0, 0.9])}


@pytest.mark.parametrize("noise", ["Gumbel", "Normal"])
@pytest.mark.parametrize("use_baseline", [True, False])
def test_equals_optax_sample_by_sample(noise, use_baseline, x64):
    """The same key gives the same samples; one rounding of each of 50 terms."""

    def value_and_slope(library):
        smooth = library.make_perturbed_fun(
            one_hot_argmax, 50, 0.5, getattr(library, noise)(), use_baseline=use_baseline
        )

        def total(x):
            found = smooth(KEY, x)
            return found["a"][0, 0] + 2 * found["b"][1], found

        return jax.jit(jax.value_and_grad(total, has_aux=True))(X)

    ours, theirs = value_and_slope(perturbations), value_and_slope(optax.perturbations)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13), ours, theirs)


def test_gumbel_noise_makes_argmax_a_softmax(x64):
    """10⁵ samples: a mean is off by some 0.5/300, and a slope by three times as much."""
    smooth = perturbations.make_perturbed_fun(one_hot_argmax, 100_000, 1.0)
    scores = jnp.array([0.5, -0.3, 0.1])
    probabilities = jax.nn.softmax(scores)
    value, jacobian = jax.jit(lambda x: (smooth(KEY, x), jax.jacrev(smooth, argnums=1)(KEY, x)))(scores)
    np.testing.assert_allclose(value, probabilities, atol=6e-3)
    np.testing.assert_allclose(
        jacobian, jnp.diag(probabilities) - jnp.outer(probabilities, probabilities), atol=2e-2
    )


def test_second_derivatives(x64):
    """E[1(x + z > 0)] is the normal distribution function: its second derivative is −x·density."""
    smooth = perturbations.make_perturbed_fun(
        lambda x: (x > 0).astype(x.dtype), 200_000, 1.0, perturbations.Normal()
    )
    second = jax.jit(jax.grad(jax.grad(lambda x: smooth(KEY, x))))(0.8)
    np.testing.assert_allclose(second, -0.8 * stats.norm.pdf(0.8), atol=2e-2)


def test_densities_and_samples(x64):
    x = np.linspace(-2, 3, 7)
    normal, gumbel = perturbations.Normal(), perturbations.Gumbel()
    np.testing.assert_allclose(normal.log_prob(x) - np.log(2 * np.pi) / 2, stats.norm.logpdf(x), rtol=1e-14)
    np.testing.assert_allclose(gumbel.log_prob(x), stats.gumbel_r.logpdf(x), rtol=1e-14)
    for noise in (normal, gumbel):
        assert noise.sample(KEY, (2, 3), jnp.float32).shape == (2, 3)
        assert noise.sample(KEY, (2, 3), jnp.float32).dtype == jnp.float32
        assert noise.sample(KEY).shape == ()


def test_distributions_are_values():
    assert perturbations.Gumbel() == perturbations.Gumbel() != perturbations.Normal()
    assert pickle.loads(pickle.dumps(perturbations.Normal())) == perturbations.Normal()
    assert repr(perturbations.Gumbel()) == "Gumbel()"


def test_half_precision_params():
    smooth = perturbations.make_perturbed_fun(lambda x: jnp.sum(x), 100, 0.1)
    slope = jax.jit(jax.grad(smooth, argnums=1))(KEY, jnp.ones(3, jnp.bfloat16))
    assert slope.dtype == jnp.bfloat16 and np.all(np.isfinite(slope))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (dict(num_samples=0), "num_samples must be at least 1, got 0"),
        (dict(sigma=0.0), "sigma must be above 0, got 0.0"),
        (dict(sigma=-1), "sigma must be above 0, got -1"),
    ],
)
def test_errors(numbers, message):
    with pytest.raises(ValueError, match=f"make_perturbed_fun: {message}"):
        perturbations.make_perturbed_fun(jnp.sum, **numbers)


def test_multi_normal_of_shapes_that_do_not_broadcast():
    with pytest.raises(ValueError, match=r"multi_normal: loc has shape \(3,\), log_scale has shape \(4,\)"):
        gradtx.multi_normal(jnp.zeros(3), np.zeros(4))
    assert gradtx.multi_normal(jnp.zeros((2, 1)), 0.0).log_prob(jnp.zeros((5, 2, 1))).shape == (5,)

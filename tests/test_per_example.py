"""Gradients per example: clipped one by one, then summed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from tests.laws import assert_close, tree


def batch():
    return jax.tree.map(lambda *gs: jnp.stack(gs), *(tree(i) for i in range(6)))


@pytest.mark.parametrize("clip", [0.0, 1.0, 3.5, jnp.inf])
def test_sums_and_counts_are_those_of_optax(clip, x64) -> None:
    assert_close(
        gradtx.per_example_global_norm_clip(batch(), clip), optax.per_example_global_norm_clip(batch(), clip)
    )
    for uniform in (True, False):
        ours = gradtx.per_example_layer_norm_clip(batch(), clip, uniform)
        assert_close(ours, optax.per_example_layer_norm_clip(batch(), clip, uniform))


def test_no_example_has_more_than_the_bound() -> None:
    """20 roundings: two sums of 17 squares, in which they count half, a division and a product, and a root
    of each sum."""
    for i in range(6):
        one = jax.tree.map(lambda g, i=i: g[i : i + 1], batch())
        for total, _ in (
            gradtx.per_example_global_norm_clip(one, 1.0),
            gradtx.per_example_layer_norm_clip(one, 1.0),
        ):
            assert gradtx.global_norm(total) <= 1 + 20 * 2**-24


def test_an_example_that_is_nan_is_not_hidden() -> None:
    total, clipped = gradtx.per_example_global_norm_clip(jnp.array([[1.0], [jnp.nan]]), 0.5)
    assert np.isnan(total[0]) and clipped == 2


def test_half_precision_is_summed_in_float32() -> None:
    total, _ = gradtx.per_example_global_norm_clip(jnp.full((1000, 1), 0.1, jnp.bfloat16), 1.0)
    np.testing.assert_allclose(total, 1000 * float(jnp.bfloat16(0.1)), rtol=1e-6)


@pytest.mark.parametrize("clip", [gradtx.per_example_global_norm_clip, gradtx.per_example_layer_norm_clip])
def test_what_has_no_examples(clip) -> None:
    with pytest.raises(ValueError, match=r"norm_clip: \['a'\] is a scalar; gradients per example have"):
        clip({"a": jnp.array(1.0)}, 1.0)
    with pytest.raises(ValueError, match=r"that of the examples; there are 3 in \['a'\], 2 in \['b'\]"):
        clip({"a": jnp.ones(3), "b": jnp.ones((2, 3))}, 1.0)
    assert clip({}, 1.0)[0] == {}

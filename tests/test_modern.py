"""What the rows of the table do not show of newer optimizers: other shapes than their matrix, and choices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx import contrib

STEPS = 4


def tensors(*shape: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for _ in range(STEPS)]


def steps(tx: Any, grads: list[Any], param: Any = None) -> list[np.ndarray]:
    """The updates of one tensor that stays where it is."""
    params = {"w": jnp.asarray(np.ones_like(grads[0]) if param is None else param)}
    state, update, found = tx.init(params), jax.jit(tx.update), []
    for grad in grads:
        updates, state = update({"w": jnp.asarray(grad)}, state, params)
        found.append(np.asarray(updates["w"]))
    return found


def assert_equal(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    "tx",
    [contrib.scale_by_apollo(2), contrib.scale_by_fira(2, 0.0, update_proj_gap=2)],
    ids=["apollo", "fira"],
)
def test_a_wide_matrix_is_a_tall_one_turned(tx: Any, x64) -> None:
    tall = tensors(5, 4)
    assert_equal(steps(tx, [x.T for x in tall]), [x.T for x in steps(tx, tall)])


def test_the_channels_of_a_tangent_are_those_of_its_axis(x64) -> None:
    first = gradtx.tangential(gradtx.trace(0.9), 2.0, 0.1, channel_axis=0)
    last = gradtx.tangential(gradtx.trace(0.9), 2.0, 0.1)
    kernels, param = tensors(2, 3, 4), tensors(2, 3, 4, seed=1)[0]
    turned = steps(first, [x.transpose(2, 0, 1) for x in kernels], param.transpose(2, 0, 1))
    assert_equal(turned, [x.transpose(2, 0, 1) for x in steps(last, kernels, param)])
    joined = steps(last, [x.reshape(6, 4) for x in kernels], param.reshape(6, 4))
    assert_equal(steps(last, kernels, param), [x.reshape(2, 3, 4) for x in joined])


def test_came_factors_the_last_two_axes(x64) -> None:
    """Of the first axis each has lines of its own; only the bound of the direction is that of the whole."""
    tx = gradtx.scale_by_came(clipping_threshold=1e9)
    stack = tensors(2, 4, 3)
    each = [steps(tx, [x[i] for x in stack]) for i in range(2)]
    assert_equal(steps(tx, stack), [np.stack(pair) for pair in zip(*each, strict=True)])


def test_adahessian_averages_over_the_window_of_a_convolution(x64) -> None:
    (grad, hessian, *_) = tensors(2, 2, 3, 4)
    params = {"w": jnp.asarray(grad)}
    size = np.abs(hessian).mean((0, 1), keepdims=True)
    for average, divisor in ((True, size), (False, np.abs(hessian))):
        tx = gradtx.scale_by_adahessian(spatial_average=average)
        updates, _ = tx.update(params, tx.init(params), hessian={"w": jnp.asarray(hessian)})
        assert_equal(updates["w"], grad / (divisor + 1e-4))


def test_hutchinson_is_right_on_average() -> None:
    matrix = jnp.asarray([[2.0, 1.0], [1.0, 3.0]])
    objective = lambda x: x["w"] @ matrix @ x["w"] / 2  # noqa: E731
    found = gradtx.hutchinson_diagonal(objective, {"w": jnp.ones(2)}, jax.random.key(0), 1000)
    np.testing.assert_allclose(found["w"], [2, 3], atol=0.15)  # five standard deviations of 1 / √1000


def test_scales_and_blocks_by_pattern(x64) -> None:
    params = {"embedding": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    whole = gradtx.amos(0.1, eta={"embedding": 0.3}, blocks={"embedding": "* 1"})
    state = whole.init(params)
    updates, state = whole.update(params, state, params)
    for name, own in {
        "embedding": gradtx.amos(0.1, 0.3, {".*": "* 1"}),
        "bias": gradtx.amos(0.1),
    }.items():
        alone, _ = own.update({"w": params[name]}, own.init({"w": params[name]}), {"w": params[name]})
        assert_equal(updates[name], alone["w"])
    assert jax.tree.map(jnp.shape, gradtx.tree.get(state, "b")) == {"embedding": (3, 1), "bias": (1,)}


def test_a_restart_forgets(x64) -> None:
    """After a restart the updates are those of the beginning."""
    first, again = gradtx.adam(0.1), gradtx.restarting(gradtx.adam(0.1), 3)
    grads = tensors(3)
    found = steps(again, [*grads[:2], *grads])
    assert_equal(found[2:4], steps(first, grads)[:2])


def test_new_projections_are_drawn_in_time() -> None:
    ones = [np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)] * 4
    found = steps(contrib.scale_by_apollo(2, 0.0, 0.0, update_proj_gap=2, max_growth=1e9), ones)
    assert np.allclose(found[0], found[1]) and np.allclose(found[2], found[3])
    assert not np.allclose(found[1], found[2])


def test_a_schedule_free_rate_may_be_scheduled(x64) -> None:
    grads = tensors(3)
    fixed, scheduled = (
        contrib.schedule_free_radam(rate, b2=0.5) for rate in (0.1, gradtx.linear_schedule(0.1, 0.1, 5))
    )
    assert_equal(steps(scheduled, grads), steps(fixed, grads))

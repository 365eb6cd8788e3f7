"""Dynamic loss scaling: the scales of PyTorch, steps that leave no trace, and training in float16."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import AxisType, PartitionSpec

import gradtx
from tests.laws import assert_close, assert_same_layout, numbers, tree
from tests.oracles import formulas as f

P = PartitionSpec
scaled = gradtx.dynamic_loss_scale
TINY = float(np.finfo(np.float32).tiny)
IN_BYTES = {"mu": gradtx.formats.companded(), "nu": gradtx.formats.square_root()}


def assert_same_bits(a: Any, b: Any) -> None:
    assert_same_layout(a, b)
    for x, y in zip(numbers(a), numbers(b), strict=True):
        assert x.tobytes() == y.tobytes(), (x, y)


def spoiled(grads: Any, by: float = math.inf) -> Any:
    """Gradients with one number that is not finite."""
    return {**grads, "scale": jnp.full_like(grads["scale"], by)}


# --- the scale --------------------------------------------------------------------------------------


@jax.jit
def trajectory(tx: Any, grads: Any) -> Any:
    """The scale and the param after each of these gradients of the scaled loss, divided by the scale."""

    def step(carry: Any, grad: Any) -> Any:
        param, state = carry
        updates, state = tx.update(grad * state.loss_scale, state, param)
        param = gradtx.apply_updates(param, updates)
        return (param, state), (state.loss_scale, param)

    start = jnp.ones(grads.shape[1:])
    return jax.lax.scan(step, (start, tx.init(start)), grads)[1]


def of_torch(settings: Any, grads: Any) -> Any:
    param = torch.ones(grads.shape[1:], requires_grad=True)
    optimizer = torch.optim.SGD([param], lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", **settings)
    scales, params = [], []
    for grad in torch.tensor(grads):
        optimizer.zero_grad()
        scaler.scale((grad * param).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
        params.append(param.detach().numpy().copy())
    return scales, params


@pytest.mark.parametrize(
    ("init_scale", "growth_factor", "backoff_factor", "growth_interval", "bad"),
    [
        (2.0**16, 2.0, 0.5, 2000, 0.1),  # the defaults
        (2.0**16, 2.0, 0.5, 3, 0.2),
        (3.0, 1.5, 0.25, 5, 0.1),
        (1e-3, 4.0, 0.125, 7, 0.05),
        (2.0**60, 2.0, 0.5, 1, 0.0),  # to the largest that float32 has, and no further
        (2.0**60, 64.0, 0.75, 2, 0.2),
    ],
)
def test_scales_and_steps_are_those_of_pytorch(
    init_scale: float, growth_factor: float, backoff_factor: float, growth_interval: int, bad: float
) -> None:
    rng = np.random.default_rng(growth_interval)
    grads = rng.normal(size=(150, 3)).astype(np.float32) * 2.0**-20
    grads[rng.random(150) < bad, 1] = np.inf
    grads[rng.random(150) < bad / 2, 2] = np.nan
    settings = dict(
        init_scale=init_scale,
        growth_factor=growth_factor,
        backoff_factor=backoff_factor,
        growth_interval=growth_interval,
    )
    tx = scaled(gradtx.torch.optim.sgd(lr=0.1, momentum=0.9), **settings, min_scale=TINY)
    scales, params = trajectory(tx, grads)
    expected_scales, expected_params = of_torch(settings, grads)
    np.testing.assert_array_equal(scales, np.float32(expected_scales))
    np.testing.assert_allclose(params, expected_params, rtol=1e-6)
    if growth_interval == 1:
        assert scales[-1] == 2.0**127


def test_a_float64_model_of_it(x64: None) -> None:
    rng, adam = np.random.default_rng(0), f.then(f.adam(), f.times(-0.1))
    tx = scaled(gradtx.adam(0.1), 32.0, 4.0, 0.25, 2, min_scale=4.0)
    param, scale, in_a_row, wrong = rng.normal(size=3), 32.0, 0, 0
    found = jnp.asarray(param)
    state = tx.init(found)
    for bad in [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0]:
        grad = rng.normal(size=3)
        updates, state = tx.update(grad * scale * [1, np.nan if bad else 1, 1], state, found)
        found = gradtx.apply_updates(found, updates)
        if bad:
            scale, in_a_row, wrong = max(scale / 4, 4.0), 0, wrong + 1
        else:
            param, in_a_row = param + adam(grad, param), in_a_row + 1
            scale, in_a_row = (scale * 4, 0) if in_a_row == 2 else (scale, in_a_row)
        np.testing.assert_allclose(found, param, rtol=1e-11)
        assert (state.loss_scale, state.finite_count, state.total_notfinite) == (scale, in_a_row, wrong)


def test_it_falls_no_further_than_it_is_told() -> None:
    tx, params = scaled(gradtx.sgd(0.1), 8.0, min_scale=3.0), tree(0)
    state, seen = tx.init(params), []
    for _ in range(4):
        updates, state = tx.update(spoiled(params, math.nan), state, params)
        seen.append(float(state.loss_scale))
        assert not any(np.any(x) for x in numbers(updates))
    assert seen == [4.0, 3.0, 3.0, 3.0] and state.total_notfinite == 4


def test_every_number_may_be_scheduled() -> None:
    tx = scaled(gradtx.sgd(1.0), 4.0, growth_factor=lambda count: 2.0 + count, growth_interval=1)
    params = {"w": jnp.ones(2)}
    state = tx.init(params)
    for scale in (4.0, 8.0, 24.0, 96.0):
        assert gradtx.scale_loss(1.0, state) == scale
        _, state = tx.update(params, state, params)
    assert gradtx.hyperparams(tx, state).next["growth_factor"] == 6


# --- training ---------------------------------------------------------------------------------------


def test_training_in_float16_arrives_where_float32_does() -> None:
    """With a loss whose gradients float16 has no numbers for; after growth that went too far, too."""
    rng = np.random.default_rng(0)
    x, true = jnp.asarray(rng.normal(size=(64, 8))), jnp.asarray(rng.normal(size=8))

    def loss(params: Any, dtype: Any) -> Any:
        outputs = x.astype(dtype) @ params["w"].astype(dtype)
        return 1e-9 * jnp.mean((outputs.astype(jnp.float32) - x @ true) ** 2)

    @partial(jax.jit, static_argnums=(0, 1))
    def trained(tx: Any, dtype: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            params, state = carry
            factor = (
                (lambda x: gradtx.scale_loss(x, state)) if tx.name == "dynamic_loss_scale" else jnp.asarray
            )
            grads = jax.grad(lambda params: factor(loss(params, dtype)))(params)
            updates, state = tx.update(grads, state, params)
            return (gradtx.apply_updates(params, updates), state), gradtx.tree.get(state, "loss_scale")

        params = {"w": jnp.zeros(8)}
        (params, state), scales = jax.lax.scan(step, (params, tx.init(params)), None, 400)
        return params["w"], state, scales

    adam = gradtx.adam(gradtx.cosine_decay_schedule(0.05, 400), eps=1e-20)
    still, _, _ = trained(adam, jnp.float16)
    assert not still.any()  # every gradient is 0
    reached, _, _ = trained(adam, jnp.float32)
    found, state, scales = trained(scaled(adam, 2.0**16, growth_interval=5), jnp.float16)
    assert state.total_notfinite > 1 and scales.max() > 2.0**24 and scales[-1] >= scales[0]
    # 2⁻¹¹ for a rounding of outputs of about 3, which the mean over 64 of them does not enlarge.
    np.testing.assert_allclose(reached, true, atol=1e-3)
    np.testing.assert_allclose(found, reached, atol=3 * 2.0**-11)


# --- steps that are left out ------------------------------------------------------------------------

INNER = {
    "adamw": lambda: gradtx.adamw(0.1, weight_decay=0.1),
    "clipped": lambda: gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(0.1)),
    "stored": lambda: gradtx.stored(gradtx.adamw(0.1), IN_BYTES, min_size=0),
    "accumulated": lambda: gradtx.MultiSteps(gradtx.adamw(0.1), 2),
    "guarded": lambda: gradtx.apply_if_finite(gradtx.adamw(0.1), 3),
    "noisy": lambda: gradtx.noisy_sgd(0.1, key=3),
    "scheduled": lambda: gradtx.sgd(gradtx.linear_schedule(1.0, 0.0, 3), momentum=0.9),
    "by chance": lambda: gradtx.chain(gradtx.sgd(0.1), gradtx.round_stochastically()),
}


@pytest.mark.parametrize("make", INNER.values(), ids=INNER.keys())
def test_what_is_left_out_leaves_no_trace(make: Any) -> None:
    tx, params = scaled(make()), tree(0, jnp.float16)
    update = jax.jit(tx.update)
    updates, state = update(tree(1, jnp.float16), tx.init(params), params)
    params = gradtx.apply_updates(params, updates)
    for i, by in enumerate((math.inf, -math.inf, math.nan), start=1):
        updates, after = update(spoiled(tree(2, jnp.float16), by), state, params)
        assert_same_layout(after, state)
        assert_same_bits(gradtx.apply_updates(params, updates), params)
        assert_same_bits(after.inner_state, state.inner_state)
        assert (after.loss_scale, after.finite_count, after.total_notfinite) == (2.0 ** (16 - i), 0, i)
        state = after


def test_the_inner_transformation_sees_float32_without_the_scale() -> None:
    seen: list[Any] = []

    @gradtx.stateless
    def look(updates: Any, params: Any) -> Any:
        seen.append(updates["w"])
        return updates

    params = {"w": jnp.ones(2, jnp.float16)}
    smallest = {"w": jnp.full(2, 6e-8, jnp.float16)}
    for wrapped in (gradtx.chain(look, gradtx.scale(2.0**14)), gradtx.chain(gradtx.scale(2.0**14), look)):
        tx = scaled(wrapped)
        updates, _ = tx.update(smallest, tx.init(params), params)
        assert updates["w"].dtype == jnp.float16 and updates["w"][0] == 0  # 6e-8 / 4 rounds to 0 at the end
    assert seen[0].dtype == jnp.float32 and seen[0][0] == 2.0 ** -(24 + 16)
    wide = scaled(gradtx.chain(gradtx.sgd(1.0), gradtx.round_stochastically()))
    assert wide.update(smallest, wide.init(params), params)[0]["w"].dtype == jnp.float32


# --- beside other wrappers --------------------------------------------------------------------------


def test_clipping_inside_is_of_gradients_without_the_scale(x64: None) -> None:
    plain = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(0.1))
    tx, params, grads = scaled(plain, 2.0**10), tree(0), tree(1)
    assert gradtx.global_norm(grads) > 1
    updates, state = tx.update(jax.tree.map(lambda g: g * 2.0**10, grads), tx.init(params), params)
    expected, expected_state = plain.update(grads, plain.init(params), params)
    assert_close((updates, state.inner_state), (expected, expected_state), rtol=1e-14, atol=0)


def test_accumulation_inside_drops_one_gradient_and_outside_all_of_them() -> None:
    params, grads = tree(0), tree(1)
    times = lambda grads, scale: jax.tree.map(lambda g: g * scale, grads)  # noqa: E731
    inside, outside = (
        scaled(gradtx.MultiSteps(gradtx.sgd(0.1), 2)),
        gradtx.MultiSteps(scaled(gradtx.sgd(0.1)), 2),
    )
    for tx, steps in ((inside, 1), (outside, 0)):
        state, moved = tx.init(params), 0
        for bad in (0, 1, 0):
            scale = gradtx.scale_loss(1.0, state)
            given = times(grads, scale)
            updates, state = tx.update(spoiled(given) if bad else given, state, params)
            if any(np.any(x) for x in numbers(updates)):
                moved += 1
                assert_close(updates, times(grads, -0.1))
        assert moved == steps and gradtx.scale_loss(1.0, state) == 2.0**15


def test_the_guard_inside_counts_what_comes_of_finite_gradients() -> None:
    tx, params = scaled(gradtx.apply_if_finite(gradtx.adam(0.1), 3), 2.0, growth_interval=2), tree(0)
    state = tx.init(params)
    large = jax.tree.map(lambda x: jnp.full_like(x, 1e25), params)  # whose squares are infinite
    for grads in (spoiled(large), large, large):
        updates, state = tx.update(grads, state, params)
        assert not any(np.any(x) for x in numbers(updates))
    assert state.total_notfinite == 1 and state.inner_state.total_notfinite == 2
    assert state.loss_scale == 2.0  # down, and up after two


def test_slots_are_stored_inside_or_outside() -> None:
    tx, params = scaled(gradtx.adamw(0.1)), {"w": jnp.ones((32, 32), jnp.float16)}
    states = []
    for stored in (scaled(gradtx.stored(gradtx.adamw(0.1), IN_BYTES)), gradtx.stored(tx, IN_BYTES)):
        _, state = stored.update(params, stored.init(params), params)
        assert gradtx.tree.get(state, "mu")["w"].parts["codes"].dtype == jnp.int8
        states.append(state)
    assert_same_bits(*states)


AROUND = {
    "alone": lambda tx: tx,
    "chain": lambda tx: gradtx.chain(gradtx.add_noise(0.1, 0.55, 7), tx),
    "named_chain": lambda tx: gradtx.named_chain(("first", gradtx.identity()), ("second", tx)),
    "MultiSteps": lambda tx: gradtx.MultiSteps(tx, 2),
    "masked": lambda tx: gradtx.masked(tx, True),
    "groups": lambda tx: gradtx.groups(tx, {".*bias": None}),
    "partition": lambda tx: gradtx.partition({"all": tx}, {".*": "all"}),
    "conditionally_mask": lambda tx: gradtx.conditionally_mask(tx, lambda step: step > 3),
    "lookahead": lambda tx: gradtx.lookahead(tx, 2, 0.5),
    "flatten": lambda tx: gradtx.flatten(tx),
    "inject_hyperparams": lambda tx: gradtx.inject_hyperparams(lambda a: tx)(a=1.0),
    "stored": lambda tx: gradtx.stored(tx, IN_BYTES),
    "a schedule": lambda tx: tx.replace(growth_interval=lambda count: 5 + count),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND.keys())
def test_the_scale_is_found_wherever_it_is(around: Any) -> None:
    tx, params = around(scaled(gradtx.adamw(0.1), 8.0)), tree(0)
    assert gradtx.scale_loss(3.0, tx.init(params)) == gradtx.scale_loss(jnp.float16(3), tx.init(params)) == 24


def test_the_scale_is_found_in_states_of_flax() -> None:
    model, params = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), tree(0)
    optimizer = nnx.Optimizer(model, scaled(gradtx.adamw(0.1), 8.0), wrt=nnx.Param)
    train = TrainState.create(apply_fn=None, params=params, tx=scaled(gradtx.adamw(0.1), 8.0))
    for state in (optimizer.opt_state, train.opt_state, train):
        assert gradtx.scale_loss(jnp.float32(3), state) == 24

    @nnx.jit
    def step(model: Any, optimizer: Any, x: Any) -> None:
        loss = lambda model: gradtx.scale_loss(jnp.mean(model(x) ** 2), optimizer.opt_state)  # noqa: E731
        optimizer.update(model, nnx.grad(loss)(model))

    before = np.array(model.kernel[...])
    for x in (jnp.full((1, 3), jnp.inf), jnp.ones((1, 3))):
        step(model, optimizer, x)
        assert np.any(before != model.kernel[...]) == bool(jnp.isfinite(x).all())
    assert gradtx.scale_loss(1.0, optimizer.opt_state) == 4


def test_a_scaled_loss_is_wide_enough(x64: None) -> None:
    state = scaled(gradtx.sgd(0.1)).init(tree(0))
    for dtype, wide in ((jnp.float16, jnp.float32), (jnp.bfloat16, jnp.float32), (jnp.float64, jnp.float64)):
        loss = gradtx.scale_loss(jnp.ones([], dtype), state)
        assert loss.dtype == wide and loss == 65536  # which float16 has no number for


# --- batches and devices ----------------------------------------------------------------------------


def test_each_of_a_batch_is_judged_alone() -> None:
    tx, params = scaled(gradtx.adam(0.1)), {"w": jnp.ones((2, 3))}
    grads = {"w": jnp.array([[1.0, jnp.inf, 1.0], [1.0, 2.0, 3.0]])}
    updates, state = jax.vmap(tx.update)(grads, jax.vmap(tx.init)(params), params)
    np.testing.assert_array_equal(state.loss_scale, [2.0**15, 2.0**16])
    np.testing.assert_array_equal(state.inner_state[0].count, [0, 1])
    np.testing.assert_allclose(updates["w"], [[0, 0, 0], [-0.1, -0.1, -0.1]], rtol=1e-3)


def test_shards_decide_together() -> None:
    """One device has a gradient that is not finite: there is no step on any, and one scale."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    tx, params = scaled(gradtx.adam(0.1)), {"cut": jnp.ones((16, 2)), "whole": jnp.ones(3)}
    cut = {"cut": P("data"), "whole": P()}
    state = tx.init(params)
    specs = gradtx.tree.map_params(tx, lambda _, spec: spec, state, cut, transform_non_params=lambda _: P())

    def update(*arguments: Any) -> Any:
        with gradtx.over_shards("data"):
            return tx.update(*arguments)

    of_shards = jax.jit(jax.shard_map(update, mesh=mesh, in_specs=(cut, specs, cut), out_specs=(cut, specs)))
    for grads in (params, {**params, "cut": params["cut"].at[5, 1].set(jnp.inf)}):
        found, expected = of_shards(grads, state, params), tx.update(grads, state, params)
        assert_close(found, expected)
        state = expected[1]
    assert state.loss_scale == 2.0**15 and not found[0]["whole"].any()
    apart = jax.shard_map(tx.update, mesh=mesh, in_specs=(cut, specs, cut), out_specs=(cut, specs))
    with pytest.raises(ValueError, match="out_specs"):  # each for itself, there would be eight scales
        jax.eval_shape(apart, params, state, params)


# --- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scaled(gradtx.sgd), "inner is the function sgd, not a transformation; call it"),
        (lambda: scaled(gradtx.sgd(1.0), 0.0), "init_scale must lie in .1.17549"),
        (lambda: scaled(gradtx.sgd(1.0), 1e39), "1e.39 is no scale that float32 holds"),
        (lambda: scaled(gradtx.sgd(1.0), growth_factor=1.0), r"growth_factor must lie in \(1, inf\), got 1"),
        (lambda: scaled(gradtx.sgd(1.0), backoff_factor=2.0), r"backoff_factor must lie in \(0, 1\), got 2"),
        (lambda: scaled(gradtx.sgd(1.0), growth_interval=0), "growth_interval must lie in"),
        (lambda: scaled(gradtx.sgd(1.0), growth_interval=0.5), "growth_interval must lie in"),
        (lambda: scaled(gradtx.sgd(1.0), min_scale=-1.0), "min_scale must lie in"),
        (lambda: scaled(gradtx.sgd(1.0), 0.5), "init_scale must be at least min_scale, got 0.5 and 1.0"),
        (
            lambda: scaled(gradtx.chain(gradtx.clip(1.0), scaled(gradtx.sgd(1.0)))),
            "dynamic_loss_scale may not be around dynamic_loss_scale, .* outermost and once",
        ),
        (
            lambda: gradtx.apply_if_finite(gradtx.MultiSteps(scaled(gradtx.sgd(1.0)), 2), 3),
            "apply_if_finite may not be around dynamic_loss_scale, which lowers",
        ),
        (
            lambda: gradtx.MultiSteps(
                scaled(gradtx.sgd(1.0)), 2, should_skip_update_fn=gradtx.skip_not_finite
            ),
            "MultiSteps with should_skip_update_fn may not be around dynamic_loss_scale",
        ),
        (
            lambda: gradtx.scale_loss(1.0, gradtx.adam(0.1).init(tree(0))),
            r"scale_loss: there is no loss scale in this state.*dynamic_loss_scale\(",
        ),
        (
            lambda: gradtx.scale_loss(
                1.0, gradtx.chain(scaled(gradtx.sgd(0.1)), scaled(gradtx.sgd(0.1))).init(tree(0))
            ),
            r"there are 2 loss scales in this state, at \[0\], \[1\], .* once",
        ),
    ],
)
def test_bad_input_is_said(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_a_state_of_the_plain_optimizer_loads() -> None:
    """Names stay: a checkpoint from before the wrapper was put around lacks the scale alone."""
    plain, tx, params = gradtx.adamw(0.1), scaled(gradtx.adamw(0.1)), tree(0)
    _, state = plain.update(params, plain.init(params), params)
    flat = gradtx.state_dict(plain, state)
    assert set(gradtx.state_dict(tx, tx.init(params))) - set(flat) == {
        f"dynamic_loss_scale/{name}" for name in ("loss_scale", "finite_count", "total_notfinite")
    }
    with pytest.warns(UserWarning, match="missing: dynamic_loss_scale/loss_scale"):
        loaded = gradtx.load_state_dict(tx, tx.init(params), flat, strict=False)
    assert_same_bits(loaded.inner_state, state)
    assert loaded.loss_scale == 2.0**16

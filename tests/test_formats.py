"""Formats of slots: codes, their errors, what is never lost; and states that are stored in them."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradtx
from gradtx import formats
from gradtx.formats.rounding import rounded_to
from tests.laws import assert_close

SIGNED = {
    "companded": (formats.companded(), 2 / 254),
    "companded 4": (formats.companded(4), 2 / 14),
    "dynamic": (formats.dynamic(), 0.9 / 64 / 2),
    "e4m3": (formats.float8("float8_e4m3fn"), 2.0**-4),
    "bfloat16": (formats.floating("bfloat16"), 2.0**-8),
}
"""Each with the largest error, of the largest magnitude in a block: half the widest step of its codes.

Companded: the curve 2z/(1+|z|) has a slope of at least 1/2, so half a step of 1/127 is at most 2/254.
"""
UNSIGNED = {
    "square_root": (formats.square_root(), 1 / 255 + 1 / 255**2 / 4),
    "square_root 4": (formats.square_root(4), 1 / 15 + 1 / 15**2 / 4),
    "dynamic": (formats.dynamic(signed=False), 0.9 / 128 / 2),
    "e5m2": (formats.float8("float8_e5m2"), 2.0**-3),
}
"""Of the square root: the widest step of (c/255)² is 2/255 from its middle, half of it on each side."""


def roundtrip(format: formats.Format, x: Any, seed: int = 0) -> np.ndarray:
    return np.array(_decoded(format, x, np.uint32(seed)))


@partial(jax.jit, static_argnums=0)
def _decoded(format: formats.Format, x: Any, seed: Any) -> jax.Array:
    return formats.Stored.of(format, x, seed).decode()


@st.composite
def tensors(draw: Any, signed: bool) -> np.ndarray:
    """Tensors of numbers over some decades, at any scale of float32's normal numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from([(1,), (7,), (32,), (3, 33), (2, 3, 300)]))
    x = rng.normal(size=shape) * 10 ** rng.uniform(-4, 0, shape)
    x = x / np.abs(x).max() * 10.0 ** draw(st.integers(-36, 38))
    x[rng.uniform(size=shape) < 0.1] = 0
    return (x if signed else np.abs(x)).astype(np.float32)


def largest_of_blocks(format: formats.Format, x: np.ndarray) -> np.ndarray:
    size = format.arguments.get("block_size", 1)
    groups = [x[..., i : i + size] for i in range(0, x.shape[-1], size)]
    return np.concatenate([np.broadcast_to(np.abs(g).max(-1, keepdims=True), g.shape) for g in groups], -1)


def tolerance(format: formats.Format, x: np.ndarray, bound: float) -> np.ndarray:
    # The arithmetic of decoding adds roundings of float32, a few units of its last place; and what is below
    # its smallest normal number processors take for 0.
    return largest_of_blocks(format, x) * (bound + 1e-6) + np.finfo(np.float32).smallest_normal


@pytest.mark.parametrize(("format", "bound"), SIGNED.values(), ids=SIGNED.keys())
@settings(max_examples=20, deadline=None, derandomize=True)
@given(tensors(signed=True))
def test_a_signed_number_is_off_by_half_a_step_at_most(
    format: formats.Format, bound: float, x: np.ndarray
) -> None:
    assert np.all(np.abs(roundtrip(format, x) - x) <= tolerance(format, x, bound))


@pytest.mark.parametrize(("format", "bound"), UNSIGNED.values(), ids=UNSIGNED.keys())
@settings(max_examples=20, deadline=None, derandomize=True)
@given(tensors(signed=False))
def test_a_second_moment_is_off_by_half_a_step_and_never_becomes_0(
    format: formats.Format, bound: float, x: np.ndarray
) -> None:
    found = roundtrip(format, x)
    assert np.all(np.abs(found - x) <= tolerance(format, x, bound))
    # Below the smallest normal number of float32 a decoded number may be one that processors take for 0.
    far_from_subnormal = largest_of_blocks(format, x) > 1e-25
    assert np.array_equal(found[far_from_subnormal] > 0, x[far_from_subnormal] > 0)


@pytest.mark.parametrize("format", [row[0] for row in UNSIGNED.values()], ids=UNSIGNED.keys())
def test_a_small_number_beside_a_very_large_one_is_not_0(format: formats.Format) -> None:
    # Of which single precision has no ratio.
    assert np.all(roundtrip(format, np.array([1e30, 1e-20], np.float32)) > 0)


@pytest.mark.extra
@pytest.mark.parametrize("signed", [True, False])
def test_dynamic_codes_are_those_of_bitsandbytes_and_torchao(signed: bool) -> None:
    from bitsandbytes import functional
    from torchao.optim import quant_utils

    codes = jnp.arange(256, dtype=jnp.uint8)
    ours = formats.dynamic(signed).decode(dict(codes=codes, scales=jnp.ones(1)))
    for theirs in (functional.create_dynamic_map(signed).numpy(), quant_utils.create_dynamic_map(signed)):
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=0, atol=1e-7)
    # And each number gets the nearest.
    x = np.linspace(-1 if signed else 1e-3, 1, 4001).astype(np.float32)
    found = formats.dynamic(signed, 4096).encode(jnp.asarray(x), None)["codes"]
    distances = np.abs(np.asarray(ours, float)[None] - x[:, None].astype(float))
    # Between two codes, single precision decides within a rounding of numbers up to 1.
    assert np.all(distances[np.arange(len(x)), found] <= distances.min(1) + 2.0**-23)


@pytest.mark.parametrize("format", [f for f, _ in [*SIGNED.values(), *UNSIGNED.values()]], ids=repr)
def test_what_is_not_finite_stays_so_and_does_not_leave_its_block(format: formats.Format) -> None:
    for bad in (np.nan, np.inf):
        x = np.full((2, 512), 0.5, np.float32)
        x[0, 3] = bad
        found = roundtrip(format, x)
        assert not np.isfinite(found[0, 3])
        assert np.isfinite(found[1]).all() and np.isfinite(found[0, 256:]).all()
        if format.factory.public not in (formats.dynamic, formats.square_root):  # which have no code for it
            x[0, 3] = found[0, 3] = 0
            np.testing.assert_array_equal(found, roundtrip(format, x))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"])
def test_rounding_is_that_of_the_dtype(dtype: str) -> None:
    info = jnp.finfo(dtype)
    rng = np.random.default_rng(0)
    decades = math.log10(float(info.max)) - math.log10(float(info.smallest_normal))
    size = float(info.smallest_normal) * 10 ** rng.uniform(-1, min(decades, 60) - 0.5, 2000)
    x = jnp.asarray(np.where(rng.uniform(size=2000) < 0.5, -size, size), jnp.float32)
    x = x[jnp.abs(x) > 2 * jnp.finfo("float32").smallest_normal * 2**info.nmant]
    expected = x.astype(dtype).astype(jnp.float32)
    np.testing.assert_array_equal(rounded_to(x, jnp.dtype(dtype)), expected)
    np.testing.assert_array_equal(jax.jit(rounded_to, static_argnums=1)(x, jnp.dtype(dtype)), expected)


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_rounding_by_chance_has_the_right_mean(fraction: float) -> None:
    # Of a bfloat16 between 1 and 2 the next is 1/128 away: up with this chance, in 20 · 4096 draws.
    x, n = jnp.full((64, 64), 1 + fraction / 128, jnp.float32), 4096
    format = formats.floating("bfloat16", stochastic=True)
    exact = float((x[0, 0] - 1) * 128)
    for seeds in (range(20), range(2**31, 2**31 + 20)):
        ups = np.asarray([(roundtrip(format, x, seed) > 1).mean() for seed in seeds])
        z = (ups - exact) / np.sqrt(exact * (1 - exact) / n)
        assert np.abs(z).max() < 4, z
        assert abs(z.sum()) / math.sqrt(len(z)) < 4


def test_bits_do_not_follow_from_their_neighbours_or_from_the_step_before() -> None:
    from gradtx.formats.noise import WEYL, random_bits

    streams = [np.uint32((7 + i * int(WEYL)) % 2**32) for i in range(8)]
    draws = np.stack([np.asarray(random_bits(s, (128, 128)), np.float64) / 2**32 - 0.5 for s in streams])
    n, variance = draws[0].size, 1 / 12
    for a, b in [
        (draws[1:], draws[:-1]),
        (draws[:, 1:], draws[:, :-1]),
        (draws[:, :, 1:], draws[:, :, :-1]),
        (draws[1:, :, 1:], draws[:-1, :, :-1]),
    ]:
        r = (a * b).reshape(len(a), -1).mean(1) / variance
        assert np.abs(r).max() < 4.5 / math.sqrt(n), r


@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("end", [gradtx.round_stochastically(), gradtx.compensated(), gradtx.compensated(8)])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_param_and_update_are_the_target_exactly(end: Any, mode: Any, dtype: Any) -> None:
    import optax

    rng = np.random.default_rng(0)
    param = {"w": jnp.asarray(rng.normal(size=100_000), dtype)}
    for size in 10.0 ** np.arange(-1, -9, -1):
        grad = {"w": jnp.asarray(rng.normal(size=100_000) * size, jnp.float32)}
        updates, _ = mode(end.update)(grad, end.init(param), param)
        assert updates["w"].dtype == jnp.float32
        target = param["w"].astype(jnp.float32) + updates["w"]
        held = target.astype(dtype).astype(jnp.float32)
        assert_close(held - param["w"].astype(jnp.float32), updates["w"], rtol=0, atol=0)
        for apply_updates in (gradtx.apply_updates, optax.apply_updates):
            after = mode(apply_updates)(param, updates)["w"]
            np.testing.assert_array_equal(after.astype(jnp.float32), held)


@pytest.mark.parametrize(
    "end",
    [gradtx.round_stochastically(), gradtx.compensated(32), gradtx.compensated(), gradtx.compensated(8)],
)
def test_a_thousand_steps_below_half_a_digit_add_up(end: Any) -> None:
    tx, params = gradtx.chain(gradtx.scale(-1.0), end), {"w": jnp.ones(1000, jnp.bfloat16)}
    state = tx.init(params)

    def step(carry: Any, _: Any) -> Any:
        params, state = carry
        updates, state = tx.update({"w": jnp.full(1000, -1e-4)}, state, params)
        return (gradtx.apply_updates(params, updates), state), None

    (params, state), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, None, 1000))((params, state))
    assert abs(float(params["w"].astype(jnp.float32).mean()) - 1.1) < 0.005 * 1.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: formats.companded(5), "bits must be 8 or 4"),
        (lambda: gradtx.compensated(4), "bits must be 8, 16 or 32"),
        (
            lambda: formats.Format(lambda x: dict(form=x), lambda form: form).encode(jnp.ones(3), None),
            "'form'",
        ),
    ],
)
def test_bad_input_is_said(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

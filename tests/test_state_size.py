"""How much memory an optimizer takes: what papers promise of its state, and what a step needs besides."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

import gradtx

SIDE = 512
PROMISES = {
    "adam": (gradtx.adam(0.1), 8),
    "lion": (gradtx.lion(0.1), 4),
    "sgd": (gradtx.sgd(0.1), 0),
    "adafactor": (gradtx.adafactor(0.1), 4 * 2 / SIDE),
    "adafactor with momentum": (gradtx.adafactor(0.1, momentum=0.9), 4 + 4 * 2 / SIDE),
    "adafactor with bfloat16 momentum": (
        gradtx.adafactor(0.1, momentum=0.9, dtype_momentum="bfloat16"),
        2 + 4 * 2 / SIDE,
    ),
    "came": (gradtx.came(0.1), 4 + 4 * 4 / SIDE),
    "adam-mini": (gradtx.adam_mini(0.1, blocks={"w": "1 *"}), 4 + 4 / SIDE),
    "sm3": (gradtx.sm3(0.1), 4 + 4 * 2 / SIDE),
    "novograd": (gradtx.novograd(0.1), 4),
    "apollo of rank 32": (gradtx.contrib.apollo(0.1, 32), 4 * 2 * 32 / SIDE),
    "apollo mini": (gradtx.contrib.apollo_mini(0.1), 4 * 2 / SIDE),
    "fira of rank 32": (gradtx.contrib.fira(0.1, 32), 4 * 3 * 32 / SIDE),
    "galore of rank 64": (gradtx.contrib.galore(0.1, 64), 4 * 3 * 64 / SIDE),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", PROMISES)
def test_bytes_of_state_per_parameter(name, dtype) -> None:
    """Of a square matrix, but for a few scalars."""
    tx, promised = PROMISES[name]
    state = tx.init({"w": jax.ShapeDtypeStruct((SIDE, SIDE), dtype)})
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    assert 0 <= size - promised * SIDE**2 <= 16


WITHOUT_COPIES = {
    "sgd": gradtx.sgd(0.1, momentum=0.9),
    "adamw": gradtx.adamw(0.1),
    "clip": gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(0.1)),
    "lion": gradtx.lion(0.1),
}


def fresh_bytes(tx: gradtx.GradientTransformation) -> int:
    """What a donated step of two square matrices needs beside what it is given."""
    params = {"w": jnp.ones((SIDE, SIDE)), "b": jnp.ones((SIDE, SIDE))}

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return gradtx.apply_updates(params, updates), state

    needed = step.lower(params, tx.init(params), params).compile().memory_analysis()
    return needed.temp_size_in_bytes + needed.output_size_in_bytes - needed.alias_size_in_bytes


@pytest.mark.parametrize("name", WITHOUT_COPIES)
def test_a_donated_step_overwrites_what_it_is_given(name) -> None:
    assert fresh_bytes(WITHOUT_COPIES[name]) < 4 * SIDE**2  # a single tensor


def test_a_finite_guard_keeps_the_old_state_until_it_knows_the_new_one() -> None:
    # Of each param the updates, two moments, and what the compiler holds while it selects.
    assert fresh_bytes(gradtx.apply_if_finite(gradtx.adamw(0.1), 3)) < 2 * 4 * (4 * SIDE**2)

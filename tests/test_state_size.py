"""How much an optimizer remembers: what papers on memory promise, counted from the shapes of the state."""

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
    "sm3": (gradtx.sm3(0.1), 4 + 4 * 2 / SIDE),
    "novograd": (gradtx.novograd(0.1), 4),
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

"""States over the devices of a mesh: where they lie, and that their numbers are those of one device."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradtx
from tests.laws import normal, numbers
from tests.table import ROWS, Row

sharding = gradtx.sharding


def params_of(seed: int, dtype: Any = jnp.float64) -> Any:
    flat = normal({"w": (16, 24), "v": (40,), "t": (2, 8, 3), "odd": (3, 5), "s": ()}, seed, dtype)
    return {"w": flat["w"], "cut": {"v": flat["v"], "t": flat["t"]}, "odd": flat["odd"], "s": flat["s"]}


def mesh_of(axes: Any, shape: tuple[int, ...] = (8,), names: tuple[str, ...] = ("data",)) -> Any:
    return jax.make_mesh(shape, names, axis_types=(axes,) * len(shape))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_sharded_state_has_the_numbers_of_one_device(row: Row, x64: None) -> None:
    tx, mesh = row(), mesh_of(AxisType.Auto)
    everywhere = NamedSharding(mesh, P())
    params, grads = params_of(0), [params_of(i + 1) for i in range(4)]
    shardings = sharding.of_state(tx, params, mesh, "data", min_size=0)

    def step(params: Any, state: Any, grad: Any) -> Any:
        updates, state = tx.update(grad, state, params)
        return gradtx.apply_updates(params, updates), state

    alone = jax.jit(step)
    expected, state = params, tx.init(params)
    for grad in grads:
        expected, state = alone(expected, state, grad)
    on_mesh = jax.jit(step, out_shardings=(everywhere, shardings))
    found, placed = jax.device_put(params, everywhere), sharding.init(tx, params, shardings)
    for grad in grads:
        found, placed = jax.block_until_ready(on_mesh(found, placed, jax.device_put(grad, everywhere)))
        assert on_mesh._cache_size() == 1
    pairs = zip(numbers(expected), numbers(params), strict=True)
    moved = max(np.max(np.abs(x - y), initial=0) for x, y in pairs)
    for x, y in zip(numbers(found), numbers(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-12 * max(moved, 1))

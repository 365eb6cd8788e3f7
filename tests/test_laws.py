"""Every row of the table obeys every law.

`make test-extra` has the rows that vary another one, and for recipes the laws that follow from their stages.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests import laws
from tests.table import ROWS, Row, recipes_of, variations

EXTRA, RECIPES = variations(ROWS), recipes_of(ROWS)


def marks(row: Row, of_stages: bool) -> Sequence[Any]:
    extra = row.name in EXTRA or (of_stages and row.name in RECIPES)
    return [pytest.mark.extra] * extra


@pytest.mark.parametrize(
    ("row", "law"),
    [
        pytest.param(row, law, id=f"{row.name}-{law.__name__}", marks=marks(row, law in laws.OF_STAGES))
        for law in laws.LAWS
        for row in ROWS
    ],
)
def test_law(row: Row, law: laws.Law) -> None:
    law(row)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name, marks=marks(row, True)) for row in ROWS])
def test_layout_is_a_fixed_point_in_double_precision(row: Row, x64) -> None:
    for param_dtype, grad_dtype in [
        (jnp.float64, jnp.float64),
        (jnp.float64, jnp.float32),
        (jnp.float32, jnp.float64),
    ]:
        params, grads = laws.tree(0, param_dtype), laws.tree(1, grad_dtype)
        laws._assert_fixed_layout(row(), params, grads)
    jax.block_until_ready(laws.run(row(), params, [grads]))

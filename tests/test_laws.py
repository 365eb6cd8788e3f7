"""Every row of the table obeys every law; `make test-extra` has the rows that vary another one."""

import jax
import jax.numpy as jnp
import pytest

from tests import laws
from tests.table import ROWS, Row, marked


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("row", marked(ROWS))
def test_law(row: Row, law) -> None:
    law(row)


@pytest.mark.parametrize("row", marked(ROWS))
def test_layout_is_a_fixed_point_in_double_precision(row: Row, x64) -> None:
    for param_dtype, grad_dtype in [
        (jnp.float64, jnp.float64),
        (jnp.float64, jnp.float32),
        (jnp.float32, jnp.float64),
    ]:
        params, grads = laws.tree(0, param_dtype), laws.tree(1, grad_dtype)
        laws._assert_fixed_layout(row(), params, grads)
    jax.block_until_ready(laws.run(row(), params, [grads]))

"""The linear assignment problem: pairs of rows and columns of the least total cost."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from gradtx.arrays.loops import fori_loop, while_loop
from gradtx.arrays.numerics import at_least_float32, cast
from gradtx.arrays.types import Array


def hungarian_algorithm(cost_matrix: ArrayLike) -> tuple[Array, Array]:
    """The pairs of rows and columns of the least total cost: as many as fit, each row and column once.

    Rows are added one by one, each by the shortest path that alternates between unpaired and paired
    entries, in at most n²·m steps for an n × m matrix with n ≤ m. It works under `jit` and `vmap`, and
    the pairs are constants to `grad`.

    Args:
        cost_matrix: (n, m), real; computed with in at least float32. ∞ forbids a pair; if there is no
            assignment without forbidden pairs, that is an error, and where costs are traced, the result
            holds such pairs. NaN and −∞ are errors; where costs are traced, they are not looked for.

    Returns:
        Row and column indices i and j, integers of shape (min(n, m),), with the rows in order:
        the cost is ``cost_matrix[i, j].sum()``.

    Raises:
        TypeError: for complex costs.
        ValueError: if it is no matrix, holds NaN or −∞, or all assignments are forbidden.

    Source: Crouse, On implementing 2D rectangular assignment algorithms, IEEE Transactions on Aerospace
    and Electronic Systems 52, 2016.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> costs = jnp.array([[8, 4, 7], [5, 2, 3], [9, 6, 7], [9, 4, 8]])
        >>> i, j = gradtx.assignment.hungarian_algorithm(costs)
        >>> print(i, j)
        [0 1 3] [0 2 1]
    """
    costs = jax.lax.stop_gradient(jnp.asarray(cost_matrix))
    if costs.ndim != 2:
        raise ValueError(f"hungarian_algorithm: cost_matrix must have two dimensions, got {costs.shape}")
    if jnp.iscomplexobj(costs):
        raise TypeError(f"hungarian_algorithm: costs must be real, got {costs.dtype}")
    if not costs.size:
        return jnp.zeros(0, int), jnp.zeros(0, int)
    costs = cast(costs, at_least_float32(costs.dtype))
    if not isinstance(costs, Tracer) and not np.all(np.asarray(costs) > -np.inf):
        raise ValueError("hungarian_algorithm: cost_matrix holds NaN or -inf")
    i, j = _assigned(costs)
    if not isinstance(costs, Tracer) and np.any(np.isposinf(costs[i, j])):
        raise ValueError("hungarian_algorithm: every assignment has a pair whose cost is inf")
    return i, j


def base_hungarian_algorithm(cost_matrix: ArrayLike) -> tuple[Array, Array]:
    """`hungarian_algorithm`, by the other name that Optax has for it.

    Args:
        cost_matrix: (n, m), real.

    Returns:
        Row and column indices, with the rows in order.

    Raises:
        TypeError: for complex costs.
        ValueError: if it is no matrix, holds NaN or −∞, or all assignments are forbidden.
    """
    return hungarian_algorithm(cost_matrix)


@jax.jit  # outside of which its loops would be compiled anew at each call
def _assigned(costs: Array) -> tuple[Array, Array]:
    if costs.shape[0] > costs.shape[1]:
        column, row = _assigned(costs.T)
        order = jnp.argsort(row)
        return row[order], column[order]
    rows, columns = costs.shape
    potentials = jnp.zeros(rows, costs.dtype), jnp.zeros(columns, costs.dtype)
    start = _Matching(*potentials, jnp.full(columns, -1, int), jnp.full(rows, -1, int))
    matching = fori_loop(0, rows, lambda row, found: _with_row(costs, found, row), start)
    return jnp.arange(rows), matching.column_of


class _Matching(NamedTuple):
    """Potentials of rows and columns, and who is paired with whom; −1 for nobody.

    The costs less both potentials are at least 0, and 0 where there is a pair: so no other assignment
    of these rows costs less.
    """

    row_potential: Array
    column_potential: Array
    row_of: Array
    column_of: Array


class _Search(NamedTuple):
    """A shortest path on its way to a free column.

    distance: of each column from the first row; before: the row that each column is reached from;
    seen: columns whose distance is final; row: where the path goes on; length: of the path to it;
    end: the free column, −1 before it is found.
    """

    distance: Array
    before: Array
    seen: Array
    row: Array
    length: Array
    end: Array


def _with_row(costs: Array, found: _Matching, first: Array) -> _Matching:
    """The matching with one more row."""
    u, v, row_of, column_of = found

    def go_on(search: _Search) -> _Search:
        length = search.length + costs[search.row] - u[search.row] - v
        shorter = ~search.seen & (length < search.distance)
        distance = jnp.where(shorter, length, search.distance)
        before = jnp.where(shorter, search.row, search.before)
        # Of columns equally near a free one ends the search.
        open_distance = jnp.where(search.seen, jnp.inf, distance)
        least = jnp.min(open_distance)
        column = jnp.argmax(2 * (~search.seen & (open_distance == least)) + (row_of < 0))
        free = row_of[column] < 0
        return _Search(
            distance,
            before,
            search.seen.at[column].set(True),
            row_of[column],
            least,
            jnp.where(free, column, -1),
        )

    columns = costs.shape[1]
    search = while_loop(
        lambda search: search.end < 0,
        go_on,
        _Search(
            jnp.full(columns, jnp.inf, costs.dtype),
            jnp.full(columns, first),
            jnp.zeros(columns, bool),
            first,
            jnp.zeros([], costs.dtype),
            jnp.asarray(-1),
        ),
    )
    # A forbidden pair ends a path of infinite length, which must not get into the potentials.
    finite = search.length < jnp.inf
    gain = jnp.where(search.seen & finite, search.length - search.distance, 0)
    visited = jnp.where(search.seen & (row_of >= 0), row_of, len(u))
    u = u.at[visited].add(gain, mode="drop").at[first].add(jnp.where(finite, search.length, 0))
    v = v - gain
    row_of, column_of = _flipped(search, first, row_of, column_of)
    return _Matching(u, v, row_of, column_of)


def _flipped(search: _Search, first: Array, row_of: Array, column_of: Array) -> tuple[Array, Array]:
    """Along the path, what was paired is not, and what was not is."""

    def back(state):
        column, row_of, column_of, _ = state
        row = search.before[column]
        earlier = column_of[row]
        return earlier, row_of.at[column].set(row), column_of.at[row].set(column), row == first

    state = (search.end, row_of, column_of, jnp.asarray(False))
    _, row_of, column_of, _ = while_loop(lambda state: ~state[3], back, state)
    return row_of, column_of

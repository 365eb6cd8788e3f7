"""gradtx and Optax side by side: the same gradients, step by step, in double precision."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gradtx
from tests import laws

STEPS = 50


@cache
def tree(seed: int) -> Any:
    """Params for 0, and the gradients of each step."""
    return laws.tree(seed, jnp.float64)


def assert_equal_steps(
    make: Callable[[Any], Any],
    *,
    tree: Callable[[int], Any] = tree,
    values: Sequence[float] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    same_layout: bool = True,
) -> tuple[Any, Any]:
    """What this makes of gradtx and of Optax has states of one layout, and equal updates at every step.

    Gradients are random, new at each step, and the same for both; each library goes its own way with its own
    params.

    Args:
        make: called with `gradtx` and with `optax`.
        tree: the params, from 0, and the gradients of each step, from its number.
        values: of the objective, in turn, for what needs `value`.
        functions: further arguments of `update`.
        same_layout: whether the states have one.

    Returns:
        The states after the last step.
    """
    libraries = gradtx, optax
    txs = [make(library) for library in libraries]

    # One program for both compiles faster than two, and here compiling is all.
    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def step(params: list[Any], states: list[Any], grads: Any, value: Any) -> Any:
        extra = {**(functions or {}), **({} if values is None else {"value": value})}
        found = [
            tx.update(grads, state, param, **extra)
            for tx, state, param in zip(txs, states, params, strict=True)
        ]
        updates, states = map(list, zip(*found, strict=True))
        after = [x.apply_updates(p, u) for x, p, u in zip(libraries, params, updates, strict=True)]
        return after, states, updates

    params = [tree(0), tree(0)]
    states = [tx.init(tree(0)) for tx in txs]
    layouts = [str(jax.tree.structure(state)) for state in states]
    assert layouts[0] == layouts[1] or not same_layout
    seen = []
    for i in range(STEPS):
        value = None if values is None else values[i % len(values)]
        params, states, updates = step(params, states, tree(i + 1), value)
        seen.append(updates)
    assert_near(*jax.tree.map(lambda *steps: np.stack(steps), *seen))
    return states[0], states[1]


def assert_near(ours: Any, theirs: Any) -> None:
    """Each number within 1e-10 of itself, and within 1e-13 of the largest of its tensor.

    The second is fifty steps of a few roundings of 1e-16. A number that is left where larger ones cancel
    loses as many digits as it is smaller than those, which for random gradients is three or four; and all
    of them where 0 should be left, so that a few roundings of the largest are allowed besides.
    """
    for x, y in zip(laws.numbers(ours), laws.numbers(theirs), strict=True):
        # Optax makes vectors of one number of scalars in `scale_by_distance_over_gradients`.
        x, y = x.astype(np.complex128), y.reshape(x.shape).astype(np.complex128)
        largest = np.nanmax(np.abs(y), initial=0)
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-15 * largest)
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-13 * largest)

"""Gradients to leave out: verdicts for the argument `should_skip_update_fn` of `MultiSteps`."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from gradtx.arrays.reduction import joined
from gradtx.arrays.trees import global_norm
from gradtx.arrays.types import Array, Params, Scalar, Updates


class ShouldSkipUpdateFunction(Protocol):
    """``f(updates, gradient_step, params) -> (skip, info)``: whether to leave a gradient out, a bool scalar,
    and what to keep in the state about it.

    The step counts those of the optimizer; params are None if `update` was not given any.
    """

    def __call__(
        self, updates: Updates, gradient_step: Array, params: Params | None, /
    ) -> tuple[Array, Any]: ...


def skip_not_finite(
    updates: Updates, gradient_step: Array, params: Params | None
) -> tuple[Array, dict[str, Array]]:
    """Leave a gradient out if there is a NaN or an infinity in it.

    What the optimizer makes of finite gradients is not looked at; `apply_if_finite` does.

    Args:
        updates: the gradient, a tree of arrays.
        gradient_step, params: not looked at.

    Returns:
        The verdict, a bool scalar, and for the log ``should_skip`` and ``num_not_finite``, how many
        numbers were not finite (int32 scalar).

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.MultiSteps(gradtx.sgd(1.0), 1, should_skip_update_fn=gradtx.skip_not_finite)
        >>> updates, state = tx.update([jnp.array([jnp.nan, 1.0])], tx.init([jnp.zeros(2)]))
        >>> print(updates[0], state.skip_state["num_not_finite"])
        [0. 0.] 1
    """
    del gradient_step, params
    counts = [jnp.sum(jnp.logical_not(jnp.isfinite(x)), dtype=jnp.int32) for x in jax.tree.leaves(updates)]
    count = joined("sum", [jnp.zeros([], jnp.int32), *counts])
    return count > 0, {"should_skip": count > 0, "num_not_finite": count}


def skip_large_updates(
    updates: Updates, gradient_step: Array, params: Params | None, max_squared_norm: Scalar
) -> tuple[Array, dict[str, Array]]:
    """Leave a gradient out unless its squared norm is below a bound; NaN is not.

    Args:
        updates: the gradient, a tree of arrays.
        gradient_step, params: not looked at.
        max_squared_norm: the bound; give it by `functools.partial`.

    Returns:
        The verdict, a bool scalar, and for the log ``should_skip`` and ``norm_squared``, over all
        tensors and in at least float32.
    """
    del gradient_step, params
    norm_squared = jax.lax.square(global_norm(updates))
    skip = jnp.logical_not(norm_squared < max_squared_norm)
    return skip, {"should_skip": skip, "norm_squared": norm_squared}

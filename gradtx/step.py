"""Putting updates to use."""

from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.numerics import as_array, at_least_float32, between, cast, is_number, promoted
from gradtx.arrays.per_tensor import PerTensor
from gradtx.arrays.reduction import shards_in_force
from gradtx.arrays.types import Array, KnownState, Params, PyTree, Scalar, State, Updates
from gradtx.core.batch import batch_in_force
from gradtx.core.transformation import GradientTransformation, check_transformation
from gradtx.values.programs import Programs, Template


def apply_updates(params: Params, updates: Updates) -> Params:
    """params + updates, in the params' dtypes.

    The sum is taken in the promoted dtype of the two and cast back. Where an update (or a param) is
    None, the param stays, and so does one that has no numbers, a key, or whose update has none, the gradient
    of an integer.

    Args:
        params: a tree of arrays.
        updates: a tree of the same structure and shapes, as `update` returns it.

    Raises:
        ValueError: if the structures or shapes differ; the message names the path.
    """
    leaves: list[Any]
    beside: list[Any]
    leaves, treedef = jax.tree.flatten(params, is_leaf=errors.is_none)
    try:
        beside = treedef.flatten_up_to(updates)
    except (ValueError, TypeError):
        raise errors.another_structure("apply_updates", "params", params, "updates", updates) from None
    for i, (param, update) in enumerate(zip(leaves, beside, strict=True)):
        if (
            param is None
            or update is None
            or not (_has_numbers(params, i, param) and _has_numbers(params, i, update))
        ):
            beside[i] = None
        elif jnp.shape(param) != jnp.shape(update):
            path = errors.path_of(params, i)
            shapes = jnp.shape(param), jnp.shape(update)
            raise errors.another_shape("apply_updates", path, "the param", shapes[0], "the update", shapes[1])
        else:
            leaves[i], beside[i] = as_array(param), as_array(update)
    sums = _add([beside, leaves])
    return treedef.unflatten([p if total is None else total for p, total in zip(leaves, sums, strict=True)])


def _has_numbers(params: Params, i: int, x: Any) -> bool:
    if hasattr(x, "dtype"):
        return is_number(x.dtype)
    if not isinstance(x, bool | int | float | complex):
        raise errors.not_inexact("apply_updates", errors.path_of(params, i), errors.kind_of(x))
    return True


@partial(PerTensor, primitive=True)
def _add(update: Array, param: Array) -> Array:
    dtype = promoted(param.dtype, update.dtype)
    # Where nothing needs promotion, the primitive itself is the cheapest to trace.
    if dtype == jnp.bool_:
        return param | update  # what + is of bools
    return cast(jax.lax.add(cast(param, dtype), cast(update, dtype)), param.dtype)


def incremental_update(new_tensors: Params, old_tensors: Params, step_size: Scalar) -> Params:
    """A step from old tensors towards new ones: step_size·new + (1 − step_size)·old.

    With a small step size at every update this is the moving average of the params (Polyak averaging).

    Args:
        new_tensors: a tree of arrays; None where the result is to be None.
        old_tensors: a tree like it.
        step_size: the share of the new, in [0, 1].

    Returns:
        A tree in the dtypes of `old_tensors`.

    Raises:
        ValueError: if the structures or shapes differ; the message names the path.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> average = {"w": jnp.array(0.0)}
        >>> for w in (1.0, 2.0):  # after each step of an optimizer
        ...     average = gradtx.incremental_update({"w": jnp.array(w)}, average, step_size=0.5)
        >>> print(average["w"])
        1.25
    """
    errors.check_alike("incremental_update", "new tensors", new_tensors, "old tensors", old_tensors)

    def mixed(new: Any, old: Any) -> Any:
        if new is None:
            return None
        old = as_array(old)
        wide = at_least_float32(old.dtype)
        return cast(between(cast(old, wide), cast(as_array(new), wide), 1 - step_size, step_size), old.dtype)

    return jax.tree.map(mixed, new_tensors, old_tensors, is_leaf=errors.is_none)


def periodic_update(
    new_tensors: Params, old_tensors: Params, steps: Array | int, update_period: Array | int
) -> Params:
    """The new tensors at every update_period-th step, the old ones at the others.

    Args:
        new_tensors: a tree of arrays.
        old_tensors: a tree like it.
        steps: the number of the step; at 0 and at multiples of the period the result is new.
        update_period: the period, at least 1.

    Raises:
        ValueError: if the structures or shapes differ; the message names the path.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> target = {"w": jnp.array(0.0)}
        >>> for step in (1, 2, 3):
        ...     target = gradtx.periodic_update({"w": jnp.array(1.0 * step)}, target, step, update_period=2)
        >>> print(target["w"])
        2.0
    """
    errors.check_alike("periodic_update", "new tensors", new_tensors, "old tensors", old_tensors)
    due = jnp.asarray(steps) % update_period == 0
    return jax.tree.map(partial(jnp.where, due), new_tensors, old_tensors)


def jit_step(
    tx: GradientTransformation, grads: Updates, state: KnownState, params: Params, **extra: Any
) -> tuple[Params, State]:
    """One compiled step: ``params, state = jit_step(tx, grads, state, params)``.

    The transformation is an argument of the compiled function, so changing any of its numbers
    compiles nothing. The buffers of `params` and `state` are donated: use the returned ones. An array that
    stands in several places, as tied params do, is a param in each of them and moves apart.

    Args:
        tx: the optimizer.
        grads: gradients, a tree like the params.
        state: from ``tx.init(params)`` or the step before.
        params: the parameters.
        **extra: arrays that `update` may need, such as ``value=loss``. A function, such as the objective of a
            line search, cannot be among them: compile a step of your own around it.

    Raises:
        TypeError: if `tx` is no transformation of this library; `chain` makes one of Optax's. For an extra
            argument that is no array.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.sgd(0.5), {"w": jnp.array(1.0)}
        >>> params, state = gradtx.jit_step(tx, {"w": jnp.array(1.0)}, tx.init(params), params)
        >>> print(params["w"])
        0.5
    """
    check_transformation("jit_step", "tx", tx)
    try:
        program, numbers = _STEPS([tx])
        # What is in force around the call decides what is traced.
        around = batch_in_force(), shards_in_force()
        state, params = _apart((state, params), (grads, extra))
        return program.run(around, numbers, grads, state, params, extra)
    except Exception as error:
        errors.check_arrays("jit_step", "the extra argument", extra)  # which JAX calls by another name
        errors.hide_engine(error)
        raise


def _apart(donated: PyTree, beside: PyTree) -> PyTree:
    """Trees whose buffers are given away, each of them once: with a copy in every further place."""
    leaves, treedef = jax.tree.flatten(donated)
    others = jax.tree.leaves(beside)
    if len({id(x) for x in (*others, *leaves)}) == len(others) + len(leaves):
        return donated
    seen = {id(x) for x in others}
    for i, x in enumerate(leaves):
        leaves[i] = jnp.copy(x) if id(x) in seen and isinstance(x, jax.Array) else x
        seen.add(id(x))
    return treedef.unflatten(leaves)


class _Step:
    """A compiled step: ``run(around, numbers, grads, state, params, extra)``."""

    def __init__(self, template: Template):
        def step(
            around: Hashable,
            numbers: list[Scalar],
            grads: Updates,
            state: State,
            params: Params,
            extra: Mapping[str, Any],
        ) -> tuple[Params, State]:
            del around
            (tx,) = template.fill(numbers)
            updates, state = tx.update(grads, state, params, **extra)
            return apply_updates(params, updates), state

        self.run = jax.jit(step, static_argnums=0, donate_argnums=(3, 4))


_STEPS = Programs(_Step, is_argument=lambda name: True)

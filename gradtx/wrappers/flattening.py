"""Flattening: all tensors as one vector."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.types import Array
from gradtx.arrays.vectors import as_vector, pieces
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import treewise
from gradtx.wrappers.groups import whole_state


@treewise(inner_states=whole_state)
def flatten(inner: GradientTransformation):
    """Run a transformation on all tensors as one vector.

    For many small tensors this is one operation where there were many; large ones it copies, and
    sharded ones it gathers. What works tensor by tensor (`clip_by_block_rms`, `scale_by_trust_ratio`)
    sees a single tensor. Tensors of several dtypes become the promoted one.

    The state is of the whole vector. Where an update is None the vector has zeros, so for that param
    too the moments decay, as with a gradient of 0; the returned update is None and the param stays.
    Such updates need the params, for the number of the zeros, unless there is no param either.

    Args:
        inner: the transformation.

    Raises:
        TypeError: at `update` without params, where an update is None and its param is not.
    """

    def init(params):
        return inner.init(_vector(jax.tree.leaves(params)))

    def update(updates, state, params=None, **extra):
        leaves, treedef = jax.tree.flatten(updates, is_leaf=errors.is_none)
        beside = leaves if params is None else treedef.flatten_up_to(params)
        filled = [
            jnp.zeros_like(param) if grad is None and param is not None else grad
            for grad, param in zip(leaves, beside, strict=True)
        ]
        flat_params = None if params is None else _vector(beside)
        try:
            new, state = inner.update(_vector(filled), state, flat_params, **extra)
        except (TypeError, ValueError) as error:
            absent = [path for path, grad in errors.paths(updates).items() if grad is None]
            if params is not None or not absent:
                raise
            # A vector that lacks zeros does not fit the state.
            raise errors.NotGiven(
                f"flatten needs params for the number of zeros at {absent[0]}, where the update is None: "
                "call update(grads, state, params)"
            ) from error
        pieces = [
            None if grad is None else piece for grad, piece in zip(leaves, _split(new, filled), strict=True)
        ]
        return treedef.unflatten(pieces), state

    return init, update


def _vector(tensors: list[Any]) -> Array:
    present = [x for x in tensors if x is not None]
    return as_vector(present) if present else jnp.zeros((0,))


def _split(vector: Array, like: list[Any]) -> Iterator[Array | None]:
    """The pieces of a vector in the shapes of these tensors, real where they are."""
    found = pieces(vector, [x for x in like if x is not None])
    for x in like:
        piece = None if x is None else next(found)
        yield piece if piece is None or jnp.iscomplexobj(x) else piece.real

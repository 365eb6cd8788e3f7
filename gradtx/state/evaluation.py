"""The parameters to evaluate with, where these are not the ones that are trained."""

from typing import Any

import jax

from gradtx.arrays import errors
from gradtx.arrays.numerics import cast
from gradtx.arrays.select import unboxed
from gradtx.arrays.types import Params, State
from gradtx.core.layout import is_coded


def evaluation_params(state: State, params: Params) -> Params:
    """The parameters to evaluate and to publish with.

    Some optimizers train at one point and know a better one: an average, or the slow weights of
    `lookahead`. This asks the state for it, wherever in a chain, a mask or a wrapper that optimizer
    is; where several know one, the outermost decides. Params of which the state knows nothing better
    are returned as they are.

    A state takes part by a method ``evaluation_params(params)`` of its named tuple, which returns a tree
    like the params.

    Args:
        state: the state of an optimizer, as `update` returned it.
        params: the params that are trained, after that update was applied.

    Returns:
        A tree like the params, in their dtypes.

    Raises:
        ValueError: if what a state knows is no tree like the params (within `flatten`, for instance).

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.lookahead(gradtx.sgd(0.5), sync_period=2, slow_step_size=0.5)
        >>> params = {"w": jnp.array(1.0)}
        >>> updates, state = tx.update({"w": jnp.array(1.0)}, tx.init(params), params)
        >>> params = gradtx.apply_updates(params, updates)
        >>> print(params["w"], gradtx.evaluation_params(state, params)["w"])
        0.5 1.0
    """
    given = jax.tree.structure(params, is_leaf=errors.is_none)
    # In Flax's nnx the boxes of a state are others than those of the params.
    state, params = unboxed(state), unboxed(params)
    leaves, treedef = jax.tree.flatten(params, is_leaf=errors.is_none)
    for part in jax.tree.leaves(state, is_leaf=_knows):
        if _knows(part):
            better = _read(part.evaluation_params(treedef.unflatten(leaves)))
            try:
                beside = treedef.flatten_up_to(better)
            except (ValueError, TypeError):
                raise errors.another_structure(
                    "evaluation_params", "params", params, f"what {type(part).__name__} knows", better
                ) from None
            # A param that is masked out, or None, has no array here.
            pairs = zip(leaves, beside, strict=True)
            leaves = [cast(x, p.dtype) if hasattr(x, "dtype") else p for p, x in pairs]
    return given.unflatten(leaves)


def _read(tree: Any) -> Any:
    """The tensors of slots that are kept in another form."""
    return jax.tree.map(lambda x: x.decode() if is_coded(x) else x, tree, is_leaf=is_coded)


def _knows(node: Any) -> bool:
    return hasattr(node, "evaluation_params")

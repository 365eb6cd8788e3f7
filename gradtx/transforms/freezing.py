"""Freezing: parameters that keep their values."""

from gradtx.arrays.select import mask_of
from gradtx.arrays.types import Params, Selector
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation, check_transformation
from gradtx.transforms.scaling import set_to_zero
from gradtx.wrappers.masking import masked, partition


@recipe
def freeze(mask: Selector) -> GradientTransformation:
    """Make the updates of some params 0; the others pass unchanged.

    As the last stage of a chain it stops these params, and what stands before still keeps state for
    them; `selective_transform` and `groups` keep none.

    Args:
        mask: which params are frozen: a bool for all, a path pattern, ``{pattern: bool}``, a function of
            ``(path, leaf)`` or of the whole params, or a tree of bools.

    Raises:
        ValueError: at `init`, if a pattern matches no path, or the mask is a tree unlike the params.
    """
    return masked(set_to_zero(), mask)


@recipe
def selective_transform(
    optimizer: GradientTransformation, *, freeze_mask: Selector
) -> GradientTransformation:
    """Optimize some params and freeze the others, which get updates of 0 and have no state.

    Args:
        optimizer: the transformation of the params that are not frozen; it sees only them.
        freeze_mask: which params are frozen, as in `freeze`.

    Raises:
        ValueError: at `init`, if a pattern matches no path, or the mask is a tree unlike the params.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.selective_transform(gradtx.sgd(0.5), freeze_mask="embedding/.*")
        >>> params = {"embedding": {"table": jnp.array(1.0)}, "out": jnp.array(1.0)}
        >>> updates, _ = tx.update(params, tx.init(params), params)
        >>> print(updates["embedding"]["table"], updates["out"])
        0.0 -0.5
    """

    check_transformation("selective_transform", "optimizer", optimizer)

    def labels(params: Params) -> Params:
        frozen = mask_of("selective_transform", "freeze_mask", freeze_mask, params)
        return frozen.map(lambda one: "freeze" if one else "train")

    return partition({"train": optimizer, "freeze": set_to_zero()}, labels)

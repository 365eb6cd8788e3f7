"""Constraints: updates that keep the params where they may be."""

import jax.numpy as jnp

from gradtx.core.transformation import leafwise


@leafwise(real_only=True)
def keep_params_nonnegative():
    """Shorten the updates that would make a param negative, so that it becomes 0.

    The update is −p where p + g < 0, and g elsewhere. It belongs at the end of a chain. A param that is
    negative before moves to 0, unless its update takes it further up.
    """

    def update(grad, param):
        return jnp.where(param + grad < 0, -param, grad)

    return update

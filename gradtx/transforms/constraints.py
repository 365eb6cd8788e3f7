"""Constraints: updates that keep the params where they may be."""

import jax.numpy as jnp

from gradtx.core.leafwise import leafwise


@leafwise(real_only=True, elementwise=True, others="hidden")
def keep_params_nonnegative():
    """Shorten the updates that would make a param negative, so that it becomes 0.

    The update is −p where p + u < 0, and u elsewhere: the incoming u is what will be added to p, so this
    belongs at the end of a chain. A param that is negative before moves to 0, unless its update takes it
    further up. To hold some params only, `masked` it.

    Raises:
        TypeError: at `update` without params.
        RuntimeError: for complex params.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.keep_params_nonnegative())
        >>> params, grads = {"w": jnp.array([1.0, 1.0])}, {"w": jnp.array([0.5, 3.0])}
        >>> updates, _ = tx.update(grads, tx.init(params), params)
        >>> print(gradtx.apply_updates(params, updates)["w"])
        [0.5 0. ]
    """

    def update(grad, param):
        return jnp.where(param + grad < 0, -param, grad)

    return update

"""Hutchinson: what is on a Hessian's diagonal, from products of the Hessian with random signs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gradtx.arrays.types import Array, Params, Scalar
from gradtx.values.domains import Static


def hutchinson_diagonal(
    obj_fn: Callable[[Params], Scalar], params: Params, key: Array, samples: Static[int] = 1
) -> Params:
    """An estimate of the diagonal of an objective's Hessian: the mean of r·(H r) over random signs r.

    It is right on average, and exact for a diagonal Hessian. A sample costs about two gradients.

    Args:
        obj_fn: the objective, a function of the params.
        params: where, a tree of arrays.
        key: a JAX key.
        samples: how many signs, at least 1.

    Returns:
        A tree like the params.

    Raises:
        ValueError: for a number of samples below 1.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> params = {"w": jnp.array([1.0, 2.0])}
        >>> quartic = lambda params: jnp.sum(params["w"] ** 4)
        >>> print(gradtx.hutchinson_diagonal(quartic, params, jax.random.key(0))["w"])
        [12. 48.]

    Source: Hutchinson, A stochastic estimator of the trace of the influence matrix, 1990.
    """
    if samples < 1:
        raise ValueError(f"hutchinson_diagonal: samples must be at least 1, got {samples}")

    def one(key: Array) -> Params:
        leaves, treedef = jax.tree.flatten(params)
        if not leaves:
            return params
        keys = jax.random.split(key, len(leaves))
        signs = treedef.unflatten(
            [
                jax.random.rademacher(k, jnp.shape(x), jnp.result_type(x))
                for k, x in zip(keys, leaves, strict=True)
            ]
        )
        _, product = jax.jvp(jax.grad(obj_fn), (params,), (signs,))
        return jax.tree.map(jnp.multiply, signs, product)

    if samples == 1:
        return one(key)
    drawn = jax.lax.map(one, jax.random.split(key, samples))
    return jax.tree.map(lambda x: jnp.mean(x, 0), drawn)

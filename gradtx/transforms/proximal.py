"""Proximal steps: params that follow from the sum of all gradients, and of which many may be 0."""

from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, quotient, real_like, sqrt
from gradtx.arrays.types import Params
from gradtx.core.leafwise import leafwise
from gradtx.values.domains import NonNegative, Positive


class FtrlState(NamedTuple):
    """z, n: trees like the params, the sum of gradients less what the params are drawn to, and the sum of
    squares."""

    z: Params
    n: Params


@leafwise(state=FtrlState, elementwise=True, unsigned=("n",))
def ftrl(learning_rate: Positive, beta: NonNegative = 0.0, l1: NonNegative = 0.0, l2: NonNegative = 0.0):
    """FTRL-Proximal: for sparse features, whose weights stay exactly 0 while little speaks for others.

    With rates that fall as Adagrad's: nₜ = nₜ₋₁ + |gₜ|²,  σ = (√nₜ − √nₜ₋₁) / learning_rate,
    zₜ = zₜ₋₁ + gₜ − σ·pₜ; the new param is 0 where |zₜ| ≤ l1, and elsewhere
    −(zₜ − l1·sign(zₜ)) / ((beta + √nₜ)/learning_rate + l2). One that never had a gradient stays as it is.

    It is a whole optimizer: the updates lead to the new params, and must be applied as they are.

    Args:
        learning_rate: the step size, above 0.
        beta: added to the root, at least 0; the paper takes 1.
        l1: strength of the L1 penalty, at least 0.
        l2: strength of the L2 penalty, at least 0.

    Source: McMahan et al., Ad click prediction: a view from the trenches, KDD 2013, algorithm 1.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.ftrl(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """

    def init(param):
        return dict(z=jnp.zeros_like(param), n=real_like(param))

    def update(grad, param, z, n):
        square, old = abs_sq(grad), sqrt(n)
        n = n + square
        root = sqrt(n)
        # √n − √(n − g²) without the difference.
        z = z + grad - quotient(square, root + old) / learning_rate * param
        shrunk = z - jnp.clip(jnp.abs(z), None, l1) * jnp.sign(z)
        none = root == 0  # as n is, which need not be read again
        new = -shrunk / jnp.where(none, 1, (beta + root) / learning_rate + l2)
        return jnp.where(none, 0, new - param), dict(z=z, n=n)

    return init, update

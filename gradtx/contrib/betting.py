"""Coin betting: step sizes from what has been won."""

from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays.types import Params, Selector
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.domains import Number, Positive


class COCOBState(NamedTuple):
    """init_particles, cumulative_gradients, scale, subgradients, reward: trees like the params, where they
    began, the sum of negative gradients, the largest gradient, the sum of sizes, and the winnings."""

    init_particles: Params
    cumulative_gradients: Params
    scale: Params
    subgradients: Params
    reward: Params


@leafwise(state=COCOBState, real_only=True, elementwise=True, unsigned=("scale", "subgradients", "reward"))
def scale_by_cocob(alpha: Positive = 100.0, eps: Positive = 1e-8):
    """COCOB's steps: each coordinate bets a share of its winnings on the sign of the next gradient.

    L = max(L, |gₜ|),  G = G + |gₜ|,  R = max(R − gₜ·(xₜ₋₁ − x₀), 0),  C = C − gₜ;
    the update is x₀ + C / (L·max(G + L, alpha·L))·(L + R) − xₜ₋₁. It descends: no learning rate follows.

    Args:
        alpha: bounds the first bets; the larger, the smaller they are.
        eps: the value that L starts from, above 0.

    Source: Orabona and Tommasi, Training deep networks without learning rates through coin betting,
    arXiv:1705.07795, algorithm 2.
    """

    def init(param):
        return dict(
            init_particles=param,
            cumulative_gradients=jnp.zeros_like(param),
            scale=jnp.full_like(param, eps),
            subgradients=jnp.zeros_like(param),
            reward=jnp.zeros_like(param),
        )

    def update(grad, init_particles, cumulative_gradients, scale, subgradients, reward, param):
        scale = jnp.maximum(scale, jnp.abs(grad))
        subgradients = subgradients + jnp.abs(grad)
        reward = jnp.maximum(reward - grad * (param - init_particles), 0)
        cumulative_gradients = cumulative_gradients - grad
        bet = cumulative_gradients / (scale * jnp.maximum(subgradients + scale, alpha * scale))
        return init_particles + bet * (scale + reward) - param, dict(
            init_particles=init_particles,
            cumulative_gradients=cumulative_gradients,
            scale=scale,
            subgradients=subgradients,
            reward=reward,
        )

    return init, update


@recipe
def cocob(
    learning_rate: Number = 1.0,
    alpha: Positive = 100.0,
    eps: Positive = 1e-8,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """COCOB: descent without a step size, by betting on the signs of gradients.

    p ← x₀ + C / (L·max(G + L, alpha·L))·(L + R), where C is the sum of −g, G that of |g|, L the largest |g|
    and R what was won, as in `scale_by_cocob`.

    Args:
        learning_rate: a factor of the gradients, 1 in the paper.
        alpha, eps: as in `scale_by_cocob`.
        weight_decay: strength of the L2 regularisation.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Orabona and Tommasi, Training deep networks without learning rates through coin betting,
    arXiv:1705.07795.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.cocob(), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.01 0.01
    """
    return chain(
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        scale_by_cocob(alpha, eps),
    )

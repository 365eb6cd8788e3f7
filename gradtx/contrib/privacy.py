"""Differential privacy: gradients of a batch that hide each of its examples."""

from typing import NamedTuple

import jax

from gradtx.arrays.types import Array
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import Treewise, treewise
from gradtx.transforms.momentum import trace
from gradtx.transforms.noise import as_key
from gradtx.transforms.per_example import check_batch, per_example_global_norm_clip
from gradtx.transforms.scaling import identity, scale_by_learning_rate
from gradtx.values.domains import Decay, NonNegative, Number


class DifferentiallyPrivateAggregateState(NamedTuple):
    """rng_key: a JAX key."""

    rng_key: Array


class PerExample(Treewise):
    """A primitive that takes gradients per example, and returns updates like the params."""

    def param_shape(self, shape: tuple[int, ...], param: tuple[int, ...]) -> tuple[int, ...]:
        return shape[1:]


@treewise(state=DifferentiallyPrivateAggregateState, kind=PerExample)
def differentially_private_aggregate(
    l2_norm_clip: NonNegative, noise_multiplier: NonNegative, key: Array | int
):
    """Of gradients per example make one: clip each, add normal noise to the sum, and take the mean.

    With n examples on the first axis of every tensor, the update is
    (Σᵢ gᵢ·min(1, l2_norm_clip / ‖gᵢ‖) + noise) / n, the noise of standard deviation
    l2_norm_clip·noise_multiplier; norms are over all tensors of an example. It stands first in a chain:
    ``tx.update(jax.vmap(jax.grad(loss), (None, 0))(params, batch), state, params)``. Neither `MultiSteps`
    nor `apply_every` around it keeps its promise.

    Args:
        l2_norm_clip: the largest norm of an example's gradient, at least 0.
        noise_multiplier: the standard deviation of the noise over that norm, at least 0.
        key: a seed, or a JAX key. Who knows it can take the noise away.

    Raises:
        ValueError: at `update`, if a tensor has no axis of examples, or another number of them.

    Source: Abadi et al., Deep learning with differential privacy, arXiv:1607.00133.
    """

    def init(params):
        del params
        return DifferentiallyPrivateAggregateState(
            as_key("contrib.differentially_private_aggregate", "key", key)
        )

    def update(updates, state):
        examples = check_batch("contrib.differentially_private_aggregate", updates)
        clipped, _ = per_example_global_norm_clip(updates, l2_norm_clip)
        leaves, treedef = jax.tree.flatten(clipped)
        rng_key, *keys = jax.random.split(state.rng_key, len(leaves) + 1)
        deviation = l2_norm_clip * noise_multiplier
        means = [
            (g + deviation * jax.random.normal(k, g.shape, g.dtype)) / examples
            for g, k in zip(leaves, keys, strict=True)
        ]
        return treedef.unflatten(means), DifferentiallyPrivateAggregateState(rng_key)

    return init, update


@recipe
def dpsgd(
    learning_rate: Number,
    l2_norm_clip: NonNegative,
    noise_multiplier: NonNegative,
    seed: Array | int,
    momentum: Decay | None = None,
    nesterov: bool = False,
) -> GradientTransformation:
    """Gradient descent with differential privacy, on gradients per example.

    p ← p − learning_rate·(Σᵢ gᵢ·min(1, l2_norm_clip / ‖gᵢ‖) + noise) / n, as in
    `differentially_private_aggregate`.

    Args:
        learning_rate: the step size.
        l2_norm_clip, noise_multiplier: as in `differentially_private_aggregate`.
        seed: a seed, or a JAX key.
        momentum: decay of the momentum. Default: none, and no state.
        nesterov: whether the momentum looks ahead.

    Source: Abadi et al., Deep learning with differential privacy, arXiv:1607.00133.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.contrib.dpsgd(0.1, l2_norm_clip=1.0, noise_multiplier=0.0, seed=0)
        >>> params, per_example = {"w": jnp.ones(1)}, {"w": jnp.array([[3.0], [0.5]])}
        >>> updates, state = tx.update(per_example, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.075
    """
    return chain(
        differentially_private_aggregate(l2_norm_clip, noise_multiplier, seed),
        identity() if momentum is None else trace(momentum, nesterov),
        scale_by_learning_rate(learning_rate),
    )

"""Gradients of length 1."""

import jax.numpy as jnp

from gradtx.arrays.trees import global_norm, scale_tree
from gradtx.core.transformation import EmptyState, init_empty_state
from gradtx.core.treewise import treewise

NormalizeState = EmptyState


@treewise(state=EmptyState)
def normalize():
    """Divide all updates by their Euclidean norm, taken over all tensors together.

    The update is g / ‖g‖, and 0 where the norm is 0.
    """

    def update(updates, state):
        size = global_norm(updates)
        known = size > 0
        return scale_tree(updates, jnp.where(known, 1 / jnp.where(known, size, 1), 0)), state

    return init_empty_state, update

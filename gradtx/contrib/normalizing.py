"""Gradients of length 1."""

from gradtx.arrays.numerics import quotient
from gradtx.arrays.trees import global_norm, scale_tree
from gradtx.core.transformation import EmptyState, init_empty_state
from gradtx.core.treewise import treewise

NormalizeState = EmptyState


@treewise(state=EmptyState, on_shards=True)
def normalize():
    """Divide all updates by their Euclidean norm, taken over all tensors together.

    The update is g / ‖g‖, and 0 where the norm is 0. A norm that is NaN makes every update NaN.
    """

    def update(updates, state):
        return scale_tree(updates, quotient(1, global_norm(updates))), state

    return init_empty_state, update

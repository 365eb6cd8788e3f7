"""Weight decay: a pull of the params towards 0."""

from typing import NamedTuple

from gradtx.arrays.types import Array, Selector
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.values.domains import Number
from gradtx.wrappers.masking import masked


class WeightDecaySchedule(NamedTuple):
    """count: int32 scalar, updates so far."""

    count: Array


@leafwise(counted=WeightDecaySchedule, name="add_decayed_weights", elementwise=True)
def _add_decayed_weights(weight_decay: Number):
    def update(grad, param):
        # XLA keeps 0·p, for the sake of infinite p, and with it a pass over the params.
        never = isinstance(weight_decay, float | int) and weight_decay == 0
        return grad if never else grad + weight_decay * param

    return update


@recipe
def add_decayed_weights(weight_decay: Number = 0.0, mask: Selector | None = None) -> GradientTransformation:
    """Add a multiple of the params to the updates.

    The update is g + weight_decay·p. Before the moments of an adaptive method this is L2
    regularisation; after them, as in `adamw`, it is decoupled weight decay.

    Args:
        weight_decay: the factor.
        mask: which params decay: a path pattern, ``{pattern: bool}``, a function of ``(path, leaf)`` or
            of the whole params, or a tree of bools. Default: all.

    Raises:
        TypeError: at `update`, if it is called without params.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization, arXiv:1711.05101.
    """
    decay = _add_decayed_weights(weight_decay)
    return decay if mask is None else masked(decay, mask)

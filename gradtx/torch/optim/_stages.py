"""The stages that PyTorch's optimizers share: gradtx's own primitives, with PyTorch's bookkeeping."""

from collections.abc import Callable, Sequence
from typing import Any

from gradtx.arrays.numerics import rounded
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.transformation import GradientTransformation
from gradtx.torch.optim._domains import LearningRate, WeightDecay
from gradtx.torch.optim._layout import LIKE_TORCH
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import ScaleByScheduleState, scale, scale_by_learning_rate
from gradtx.values.domains import OFF
from gradtx.values.factory import factory_of

TORCH_NAMES: dict[str, dict[str, str]] = {}
"""By stage: what PyTorch calls those slots of its state that have another name here."""


def as_torch(
    primitive: Callable[..., Any], state: type | None = None, **torch_names: str
) -> Callable[..., GradientTransformation]:
    """A primitive of gradtx, the very formula, with its state kept as PyTorch keeps it.

    Args:
        primitive: a leafwise factory.
        state: another named tuple for its state; one with a ``count`` makes each tensor count.
        **torch_names: what PyTorch calls its slots, ``mu="exp_avg"``.
    """
    factory = factory_of(primitive)
    name = f"torch.optim.{factory.name}"
    TORCH_NAMES[name] = torch_names
    kept = {option: factory.options[option] for option in ("elementwise", "unsigned", "batch", "real_only")}
    decorate = leafwise(state=state or factory.options["state"], layout=LIKE_TORCH, name=name, **kept)
    return decorate(factory.body)


def torch_name(stage: str, slot: str) -> str:
    """What PyTorch calls this slot of this stage in its state."""
    return TORCH_NAMES.get(stage, {}).get(slot, "step" if slot == "count" else slot)


def gradient(maximize: bool, weight_decay: Any = OFF) -> list[GradientTransformation]:
    """What PyTorch does to a gradient first: its sign, and L2 regularisation."""
    ascent = [scale(-1.0)] if maximize else []
    return ascent if weight_decay is OFF else [*ascent, add_decayed_weights(weight_decay)]


def descend_along(
    directions: Sequence[GradientTransformation],
    lr: Any,
    weight_decay: Any = OFF,
    maximize: bool = False,
    decoupled: bool = False,
) -> GradientTransformation:
    """Around the stages that make a direction, what PyTorch's optimizers do first and last.

    First the sign of the gradient and L2 regularisation, at last the step, after the params have
    decayed if the decay is decoupled.
    """
    if not decoupled or weight_decay is OFF:
        return chain(*gradient(maximize, weight_decay), *directions, scale_by_learning_rate(lr))
    return chain(*gradient(maximize), *directions, decay_and_descend(lr, weight_decay))


@leafwise(counted=ScaleByScheduleState, elementwise=True)
def decay_and_descend(lr: LearningRate, weight_decay: WeightDecay):
    """Decoupled weight decay and the step along a direction: p ← p·(1 − lr·weight_decay) − lr·g.

    The decayed param is rounded before the step is taken, as PyTorch does.
    """

    def update(grad, param):
        decayed = rounded(param * (1 - lr * weight_decay))
        return (decayed - lr * grad) - param

    return update

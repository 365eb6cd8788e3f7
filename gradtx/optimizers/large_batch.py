"""Layer-wise step sizes, for large batches."""

from gradtx.core.chain import chain
from gradtx.core.transformation import GradientTransformation, recipe
from gradtx.core.types import Decay, NonNegative, Number, Selector
from gradtx.transforms.adaptive import scale_by_adam
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.momentum import trace
from gradtx.transforms.scaling import scale_by_learning_rate, scale_by_trust_ratio
from gradtx.wrappers.masking import masked


@recipe
def lamb(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    eps_root: NonNegative = 0.0,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """LAMB: AdamW's direction, scaled in each tensor to the tensor's own norm.

    Args:
        learning_rate: the step size.
        b1, b2, eps, eps_root: as in `scale_by_adam`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: You et al., Large batch optimization for deep learning, arXiv:1904.00962.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )


@recipe
def lars(
    learning_rate: Number,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector = True,
    trust_coefficient: NonNegative = 0.001,
    eps: NonNegative = 0.0,
    trust_ratio_mask: Selector = True,
    momentum: Number = 0.9,
    nesterov: bool = False,
) -> GradientTransformation:
    """LARS: momentum on gradients that are scaled in each tensor to the tensor's own norm.

    Args:
        learning_rate: the step size; it is applied before the momentum.
        weight_decay: strength of the decay, added to the gradient.
        weight_decay_mask: which params decay, as in `add_decayed_weights`. Default: all.
        trust_coefficient, eps: as in `scale_by_trust_ratio`.
        trust_ratio_mask: which params are scaled. Default: all.
        momentum: decay of the momentum.
        nesterov: whether the momentum looks ahead.

    Source: You et al., Large batch training of convolutional networks, arXiv:1708.03888.
    """
    trust = scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps)
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        masked(trust, trust_ratio_mask),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov),
    )

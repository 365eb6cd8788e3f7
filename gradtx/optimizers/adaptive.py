"""Adagrad, Adadelta and RMSProp."""

from gradtx.arrays.types import Selector
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.adaptive import scale_by_adadelta, scale_by_rms, scale_by_rss, scale_by_stddev
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.momentum import trace
from gradtx.transforms.scaling import identity, scale_by_learning_rate
from gradtx.values.domains import Decay, NonNegative, Number


@recipe
def adagrad(
    learning_rate: Number, initial_accumulator_value: NonNegative = 0.1, eps: NonNegative = 1e-7
) -> GradientTransformation:
    """Adagrad: steps divided by the root of the sum of all squared gradients.

    Args:
        learning_rate: the step size.
        initial_accumulator_value, eps: as in `scale_by_rss`.

    Source: Duchi et al., Adaptive subgradient methods, JMLR 12, 2011.
    """
    return chain(scale_by_rss(initial_accumulator_value, eps), scale_by_learning_rate(learning_rate))


@recipe
def adadelta(
    learning_rate: Number | None = None,
    rho: Decay = 0.9,
    eps: NonNegative = 1e-6,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector | None = None,
) -> GradientTransformation:
    """AdaDelta: gradients over their root mean square, times that of past updates.

    Args:
        learning_rate: the step size, 1 in the paper. Default: none, and then the updates point uphill, as
            those of Optax do.
        rho, eps: as in `scale_by_adadelta`.
        weight_decay: strength of the decay, added to the gradient.
        weight_decay_mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Zeiler, ADADELTA, arXiv:1212.5701.
    """
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_adadelta(rho, eps),
        scale_by_learning_rate(learning_rate),
    )


@recipe
def rmsprop(
    learning_rate: Number,
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: NonNegative = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Number | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> GradientTransformation:
    """RMSProp: steps divided by the root of the moving mean of squared gradients.

    Args:
        learning_rate: the step size; it is applied before the momentum.
        decay, eps, initial_scale, eps_in_sqrt, bias_correction: as in `scale_by_rms`.
        centered: whether to divide by the standard deviation instead, as in `scale_by_stddev`.
        momentum: decay of a momentum on the steps. Default: none.
        nesterov: whether that momentum looks ahead.

    Source: Tieleman and Hinton, lecture 6.5, 2012; centred: Graves, arXiv:1308.0850.
    """
    scale_by = scale_by_stddev if centered else scale_by_rms
    return chain(
        scale_by(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
        identity() if momentum is None else trace(momentum, nesterov),
    )

"""Adafactor and SM3: adaptive steps whose second moments take less memory than the params."""

from gradtx.arrays.types import Selector
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.clipping import clip_by_block_rms
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.factored import scale_by_factored_rms, scale_by_sm3
from gradtx.transforms.momentum import ema
from gradtx.transforms.scaling import scale, scale_by_learning_rate, scale_by_param_block_rms
from gradtx.values.domains import Decay, NonNegative, Number, Positive, Static


@recipe
def adafactor(
    learning_rate: Number | None = None,
    min_dim_size_to_factor: Static[int] = 128,
    decay_rate: Number = 0.8,
    decay_offset: Number = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: Positive | None = 1.0,
    momentum: Decay | None = None,
    dtype_momentum: str | None = None,
    weight_decay_rate: Number | None = None,
    eps: NonNegative = 1e-30,
    factored: bool = True,
    weight_decay_mask: Selector | None = None,
) -> GradientTransformation:
    """Adafactor: Adam without momentum, whose second moments are one row and one column per matrix.

    Args:
        learning_rate: the step size, relative to the params' root mean square. Default: 1.
        min_dim_size_to_factor, decay_rate, factored: as in `scale_by_factored_rms`.
        decay_offset, eps: its `step_offset` and `epsilon`.
        multiply_by_parameter_scale: whether steps are relative to the params. Default: yes.
        clipping_threshold: the largest root mean square of a direction, above 0; None for no bound.
        momentum: decay of an average of the steps. Default: none, and no state for it.
        dtype_momentum: dtype of that average. Default: the params', at least float32.
        weight_decay_rate: strength of the decay per update; it is not multiplied by the learning rate.
            Default: none.
        weight_decay_mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Shazeer and Stern, Adafactor, arXiv:1804.04235.
    """
    stages = [scale_by_factored_rms(factored, decay_rate, decay_offset, min_dim_size_to_factor, eps)]
    if clipping_threshold is not None:
        stages.append(clip_by_block_rms(clipping_threshold))
    if learning_rate is not None:
        stages.append(scale_by_learning_rate(learning_rate, flip_sign=False))
    if multiply_by_parameter_scale:
        stages.append(scale_by_param_block_rms())
    if momentum is not None:
        stages.append(ema(momentum, debias=False, accumulator_dtype=dtype_momentum))
    if weight_decay_rate is not None:
        stages.append(add_decayed_weights(weight_decay_rate, weight_decay_mask))
    return chain(*stages, scale(-1))


@recipe
def sm3(learning_rate: Number, momentum: Decay = 0.9) -> GradientTransformation:
    """SM3: Adagrad whose second moments are one number per row and one per column.

    Args:
        learning_rate: the step size.
        momentum: decay of the average of steps, in [0, 1); it is the larger part of the state.

    Source: Anil et al., Memory-efficient adaptive optimization, arXiv:1901.11150.
    """
    return chain(scale_by_sm3(momentum), scale_by_learning_rate(learning_rate))

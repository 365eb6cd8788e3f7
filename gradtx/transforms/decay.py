"""Weight decay: a pull of the params towards 0."""

from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays.types import Array, Selector
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.values.domains import Number, Positive
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


@leafwise(counted=WeightDecaySchedule, name="add_cautious_decay", elementwise=True)
def _add_cautious_decay(weight_decay: Number):
    def update(grad, param):
        # Not the other way round, so that a NaN decays too.
        against = (grad.conj() * param).real < 0
        return grad + weight_decay * jnp.where(against, 0, param)

    return update


@recipe
def add_cautious_decay(weight_decay: Number = 0.0, mask: Selector | None = None) -> GradientTransformation:
    """Add a multiple of those numbers of the params that the updates shrink anyway.

    The update is u + weight_decay·p where u·p ≥ 0, which a later stage turns into a step towards 0, and u
    where the two have opposite signs: the decay does not pull against the step.

    Args:
        weight_decay: the factor.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Raises:
        TypeError: at `update`, if it is called without params.

    Source: Chen et al., Cautious weight decay, arXiv:2510.12402.
    """
    decay = _add_cautious_decay(weight_decay)
    return decay if mask is None else masked(decay, mask)


@leafwise(counted=WeightDecaySchedule, name="add_corrected_decay", elementwise=True)
def _add_corrected_decay(weight_decay: Number, learning_rate: Number, peak: Positive):
    def update(grad, param):
        return grad + weight_decay * (learning_rate / peak) * param

    return update


@recipe
def add_corrected_decay(
    weight_decay: Number, learning_rate: Number, peak: Positive, mask: Selector | None = None
) -> GradientTransformation:
    """Add a multiple of the params that falls with the learning rate.

    The update is u + weight_decay·γₜ/peak·p, with the learning rate γₜ: after `scale_by_learning_rate` the
    params decay by γₜ²/peak. The norm that weights before a normalisation settle at is then the same all
    along the schedule, and does not grow towards its end as with plain decoupled decay.

    Args:
        weight_decay: the factor at the peak.
        learning_rate: the schedule that `scale_by_learning_rate` has too.
        peak: its largest value, above 0.
        mask: which params decay, as in `add_decayed_weights`. Default: all. The paper corrects weights before
            a normalisation alone.

    Raises:
        TypeError: at `update`, if it is called without params.

    Example:
        >>> import gradtx
        >>> rate = gradtx.warmup_cosine_decay_schedule(0.0, 3e-4, 100, 1000)
        >>> adamc = gradtx.chain(
        ...     gradtx.scale_by_adam(b2=0.95),
        ...     gradtx.add_corrected_decay(0.1, rate, 3e-4),
        ...     gradtx.scale_by_learning_rate(rate),
        ... )

    Source: Defazio, Why gradients rapidly increase near the end of training, arXiv:2506.02285.
    """
    decay = _add_corrected_decay(weight_decay, learning_rate, peak)
    return decay if mask is None else masked(decay, mask)


@leafwise(counted=WeightDecaySchedule, name="shrink_params", elementwise=True)
def _shrink_params(weight_decay: Number):
    def update(grad, param):
        return grad - weight_decay * param

    return update


@recipe
def shrink_params(weight_decay: Number, mask: Selector | None = None) -> GradientTransformation:
    """Let params decay independently of the learning rate: the last stage, after `scale_by_learning_rate`.

    The update is u − weight_decay·p: another learning rate leaves the decay as it is. To let it follow the
    shape of a schedule, give it one of the same shape.

    Args:
        weight_decay: the share of the params that goes at each update: about a thousandth of the decay that
            is multiplied by a learning rate of 1e-3.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Raises:
        TypeError: at `update`, if it is called without params.

    Example:
        >>> import gradtx
        >>> tx = gradtx.chain(gradtx.adam(1e-3), gradtx.shrink_params(1e-4, mask=r".*kernel"))

    Source: Wortsman et al., Small-scale proxies for large-scale Transformer training instabilities,
    arXiv:2309.14322.
    """
    decay = _shrink_params(weight_decay)
    return decay if mask is None else masked(decay, mask)

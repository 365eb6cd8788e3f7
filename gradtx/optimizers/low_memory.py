"""Adafactor, CAME, SM3 and Adam-mini: adaptive steps with less memory for second moments than params."""

from gradtx.arrays.types import Selector
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.blocks import scale_by_adam_mini
from gradtx.transforms.clipping import clip_by_block_rms
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.factored import scale_by_came, scale_by_factored_rms, scale_by_sm3
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

    p ← p − learning_rate·rms(p)·u / max(1, rms(u) / clipping_threshold) with u = g / √(R·C / mean R), where
    R and C are the row and the column of `scale_by_factored_rms`; rms(p) counts as at least 0.001.

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

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.adafactor(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
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

    p ← p − learning_rate·ν, where ν is the mean of g / √(s + eps), and s is bounded by one number per row
    and per column, as in `scale_by_sm3`.

    Args:
        learning_rate: the step size.
        momentum: decay of the average of steps, in [0, 1); it is the larger part of the state.

    Source: Anil et al., Memory-efficient adaptive optimization, arXiv:1901.11150.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.sm3(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.01 0.01
    """
    return chain(scale_by_sm3(momentum), scale_by_learning_rate(learning_rate))


@recipe
def came(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    b3: Decay = 0.9999,
    eps1: NonNegative = 1e-30,
    eps2: NonNegative = 1e-16,
    clipping_threshold: Positive = 1.0,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """CAME: Adafactor with momentum, whose steps are the shorter the less its directions agree.

    p ← p − learning_rate·(m / √(R'·C' / mean R') + weight_decay·p), where m is the mean of Adafactor's
    directions u, and R' and C' are means of |u − m|², as in `scale_by_came`.

    Args:
        learning_rate: the step size.
        b1, b2, b3, eps1, eps2, clipping_threshold: as in `scale_by_came`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Luo et al., CAME: confidence-guided adaptive memory efficient optimization, arXiv:2307.02047.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.came(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.01 0.01
    """
    return chain(
        scale_by_came(b1, b2, b3, eps1, eps2, clipping_threshold),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@recipe
def adam_mini(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    blocks: Selector | None = None,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """Adam-mini: AdamW with one second moment for each block of a param, half the state of Adam.

    p ← p − learning_rate·(m̂ / (√v̂ + eps) + weight_decay·p), with one v for each block, as in
    `scale_by_adam_mini`.

    Args:
        learning_rate: the step size.
        b1, b2, eps, blocks: as in `scale_by_adam_mini`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> heads = {r".*(query|key)/kernel": "1 4", r".*kernel": "1 *", r"embedding": "* 1"}
        >>> tx = gradtx.adam_mini(1e-3, blocks=heads)
        >>> layers = {name: {"kernel": jnp.ones((8, 8))} for name in ("query", "key", "value")}
        >>> state = tx.init({"embedding": jnp.ones((32, 8)), **layers, "norm": jnp.ones(8)})
        >>> found = jax.tree.map(jnp.shape, gradtx.tree.get(state, "nu"))
        >>> found["query"], found["value"], found["embedding"], found["norm"]
        ({'kernel': (1, 4)}, {'kernel': (1, 8)}, (32, 1), (1,))

    Source: Zhang et al., Adam-mini: use fewer learning rates to gain more, arXiv:2406.16793.
    """
    return chain(
        scale_by_adam_mini(b1, b2, eps, blocks),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

"""Schedule-free learning: an average of the params instead of a decaying learning rate."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import as_array, cast, quotient, safe_increment
from gradtx.arrays.trees import advanced, mapped, scalar_dtype, widened
from gradtx.arrays.types import Array, Params, State
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation, InnerStates, check_transformation
from gradtx.core.treewise import treewise
from gradtx.optimizers.sgd import sgd
from gradtx.schedules.warmup import warmup_constant_schedule
from gradtx.transforms.adaptive import scale_by_rms
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.rectified import rectification
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.tree.states import get_all_with_path
from gradtx.values.domains import (
    Decay,
    DType,
    Interval,
    NonNegative,
    Number,
    Scalar,
    ScalarOrSchedule,
    Schedule,
    Static,
)
from gradtx.values.schedule import schedule

Share = Annotated[ScalarOrSchedule, Interval("(0, 1]")]


class ScheduleFreeState(NamedTuple):
    """b1, weight_sum, max_lr: scalars, the share of the average, the sum of weights and the largest learning
    rate so far; step_count: int32 scalar, 1 before the first update; base_optimizer_state: the state of the
    optimizer; z: a tree like the params, where the optimizer has got to."""

    b1: Array
    weight_sum: Array
    step_count: Array
    max_lr: Array
    base_optimizer_state: State
    z: Params

    def evaluation_params(self, params: Params) -> Params:
        """The average x = z + (y − z) / b1."""
        return mapped(lambda y, z: (z + (y - z) / self.b1).astype(jnp.result_type(y)), params, self.z)


def _base_state(arguments: Mapping[str, Any], state: State) -> InnerStates:
    return {"base_optimizer_state": [(arguments["base_optimizer"], state.base_optimizer_state)]}


@treewise(state=ScheduleFreeState, inner_states=_base_state, on_shards=True)
def schedule_free(
    base_optimizer: GradientTransformation,
    learning_rate: ScalarOrSchedule,
    b1: Share = 0.9,
    weight_lr_power: Number = 2.0,
    state_dtype: DType = None,
):
    """Replace an optimizer's momentum and the decay of its learning rate by an average of the params.

    The optimizer steps from zₜ along uₜ, computed from the gradient at the params yₜ:
    zₜ₊₁ = zₜ + uₜ,  xₜ₊₁ = (1 − cₜ)·xₜ + cₜ·zₜ₊₁,  yₜ₊₁ = b1·xₜ₊₁ + (1 − b1)·zₜ₊₁, where cₜ is the share of
    max(learning rates so far)^weight_lr_power in the sum of these. So the update is
    cₜ·(zₜ₊₁ − yₜ) + (1 − cₜ)·(1 − b1)·uₜ. Evaluate at x: `schedule_free_eval_params`.

    Args:
        base_optimizer: an optimizer without momentum.
        learning_rate: its learning rate, for the weights; a schedule may warm up, and need not decay. It
            is called with 1 at the first update.
        b1: the share of the average in the params, in (0, 1].
        weight_lr_power: the power; 0 gives all steps one weight.
        state_dtype: dtype of z. Default: the params', at least float32.

    Source: Defazio et al., The road less scheduled, arXiv:2405.15682.
    """
    check_transformation("contrib.schedule_free", "base_optimizer", base_optimizer)

    def init(params):
        dtype = scalar_dtype("contrib.schedule_free", params)
        z = jax.tree.map(lambda x: x if state_dtype is None else x.astype(state_dtype), widened(params))
        return ScheduleFreeState(
            b1=jnp.asarray(b1, dtype),
            weight_sum=jnp.zeros([], dtype),
            step_count=jnp.ones([], jnp.int32),
            max_lr=jnp.zeros([], dtype),
            base_optimizer_state=base_optimizer.init(params),
            z=z,
        )

    def update(updates, state, params, **extra):
        rate: Any = learning_rate(state.step_count) if callable(learning_rate) else learning_rate
        max_lr = jnp.maximum(state.max_lr, rate)
        weight = max_lr**weight_lr_power
        weight_sum = state.weight_sum + weight
        c = quotient(weight, weight_sum)

        steps, base_state = base_optimizer.update(updates, state.base_optimizer_state, params, **extra)
        z = advanced(lambda u, z: cast(z + u, z.dtype), steps, state.z)
        updates = mapped(lambda u, z, y: c * (z - y) + (1 - c) * (1 - b1) * u, steps, z, params)
        return updates, ScheduleFreeState(
            jnp.asarray(b1), weight_sum, safe_increment(state.step_count), max_lr, base_state, z
        )

    return init, update


def schedule_free_eval_params(state: State, params: Params) -> Params:
    """The params to evaluate a `schedule_free` optimizer with: the average x = z + (y − z) / b1.

    `gradtx.evaluation_params` finds them too, as those of every optimizer that has such.

    Args:
        state: its state, or one that has it somewhere inside, such as a chain's.
        params: the params y that it trains.

    Returns:
        A tree in the dtypes of the params.

    Raises:
        ValueError: if there is no state of schedule_free, or several.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.schedule_free_sgd(0.5), {"w": jnp.array(1.0)}
        >>> updates, state = tx.update({"w": jnp.array(1.0)}, tx.init(params), params)
        >>> params = gradtx.apply_updates(params, updates)
        >>> print(gradtx.contrib.schedule_free_eval_params(state, params)["w"])
        0.5
    """
    found = [part for _, part in get_all_with_path(state, "ScheduleFreeState")]
    if len(found) != 1:
        raise ValueError(
            "schedule_free_eval_params: the state must hold one ScheduleFreeState, the state of an "
            f"optimizer made by schedule_free; it holds {len(found)}"
        )
    (inner,) = found
    return inner.evaluation_params(params)


@recipe
def schedule_free_sgd(
    learning_rate: Number = 1.0,
    warmup_steps: NonNegative | None = None,
    b1: Share = 0.9,
    weight_decay: Number | None = None,
    weight_lr_power: Number = 2.0,
    state_dtype: DType = None,
) -> GradientTransformation:
    """Gradient descent, schedule-free.

    zₜ₊₁ = zₜ − learning_rate·gₜ, and the params are yₜ = b1·xₜ + (1 − b1)·zₜ with the average x of all z,
    as in `schedule_free`.

    Args:
        learning_rate: the step size, after the warm-up.
        warmup_steps: length of the linear warm-up. Default: none.
        b1, weight_lr_power, state_dtype: as in `schedule_free`.
        weight_decay: strength of the decay, which is multiplied by the learning rate.

    Source: Defazio et al., The road less scheduled, arXiv:2405.15682.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.schedule_free_sgd(), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -1 0.5
    """
    if warmup_steps is not None:
        learning_rate = warmup_constant_schedule(0.0, learning_rate, warmup_steps)
    optimizer = sgd(learning_rate)
    if weight_decay is not None:
        optimizer = chain(add_decayed_weights(weight_decay), optimizer)
    return schedule_free(optimizer, learning_rate, b1, weight_lr_power, state_dtype)


@recipe
def schedule_free_adamw(
    learning_rate: Number = 0.0025,
    warmup_steps: NonNegative | None = None,
    b1: Share = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    weight_decay: Number = 0.0,
    weight_lr_power: Number = 2.0,
    state_dtype: DType = None,
) -> GradientTransformation:
    """AdamW without its first moment, schedule-free.

    zₜ₊₁ = zₜ − learning_rate·(gₜ / (√v̂ + eps) + weight_decay·yₜ), and the params are yₜ = b1·xₜ + (1 −
    b1)·zₜ with the average x of all z, as in `schedule_free`.

    Args:
        learning_rate: the step size, after the warm-up.
        warmup_steps: length of the linear warm-up. Default: none.
        b1, weight_lr_power, state_dtype: as in `schedule_free`.
        b2: decay of the second moment, in [0, 1).
        eps: added to the root, at least 0.
        weight_decay: strength of the decay, which is multiplied by the learning rate.

    Source: Defazio et al., The road less scheduled, arXiv:2405.15682.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.schedule_free_adamw(), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.0025 0.0025
    """
    if warmup_steps is not None:
        learning_rate = warmup_constant_schedule(0.0, learning_rate, warmup_steps)
    optimizer = chain(
        scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(learning_rate),
    )
    return schedule_free(optimizer, learning_rate, b1, weight_lr_power, state_dtype)


@schedule
def rectified_rate(learning_rate: NonNegative, b2: Decay, ahead: Static[int] = 0) -> Schedule:
    """The rate times what RAdam's root is off by at the step count + ahead, and 0 before that is known.

    Args:
        learning_rate: the rate, or a schedule of the updates so far.
        b2: decay of the second moment, in [0, 1).
        ahead: 1 for a count of the updates so far.
    """

    def rate(count: Any) -> Scalar:
        step = as_array(count).astype(float) + ahead
        known, r = rectification(b2, step, 4.0)
        given: Any = learning_rate(count + ahead - 1) if callable(learning_rate) else learning_rate
        return jnp.where(known, given * r, 0)

    return rate


@recipe
def schedule_free_radam(
    learning_rate: NonNegative = 0.0025,
    b1: Share = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    weight_decay: Number = 0.0,
    weight_lr_power: Number = 2.0,
    state_dtype: DType = None,
) -> GradientTransformation:
    """RAdam without its first moment, schedule-free: it needs no warm-up.

    zₜ₊₁ = zₜ − r·learning_rate·(gₜ / (√v̂ + eps) + weight_decay·yₜ), and the params are yₜ = b1·xₜ + (1 −
    b1)·zₜ with the average x of all z, as in `schedule_free`.

    The learning rate is multiplied by r of `scale_by_radam`, and 0 for the first updates, until the second
    moment has averaged four gradients: with b2 = 0.999 it is five updates before the params move.

    Args:
        learning_rate: the step size.
        b1, weight_lr_power, state_dtype: as in `schedule_free`.
        b2: decay of the second moment, in [0, 1).
        eps: added to the root, at least 0.
        weight_decay: strength of the decay, which is multiplied by the learning rate.

    Source: Defazio et al., The road less scheduled, arXiv:2405.15682; Liu et al., arXiv:1908.03265.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.schedule_free_radam(), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        0 0
    """
    optimizer = chain(
        scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(rectified_rate(learning_rate, b2, 1)),
    )
    return schedule_free(optimizer, rectified_rate(learning_rate, b2), b1, weight_lr_power, state_dtype)

"""Schedules of the decay of an average."""

from typing import Annotated, Any

import jax.numpy as jnp

from gradtx.arrays.types import Array
from gradtx.schedules.arithmetic import since
from gradtx.values.domains import Interval, Number, Positive, ScalarOrSchedule, Schedule
from gradtx.values.schedule import schedule


@schedule
def ema_warmup(
    decay: Annotated[ScalarOrSchedule, Interval("[0, 1]")],
    gamma: Positive = 1.0,
    power: Positive = 2 / 3,
    begin: Number = 0,
) -> Schedule:
    """The decay of an average that at first looks back less far: over what it has seen.

    value(count) = min(decay, 1 − (1 + (count − begin) / gamma)^−power), and 0 until `begin`.

    Args:
        decay: where it ends, in [0, 1].
        gamma: how many updates it takes to begin, above 0. Where gamma and power are 1, all count the same
            until the decay is reached.
        power: how fast it goes on, above 0. timm proposes 2/3 for a million updates and more (0.999 after
            31,600, 0.9999 after a million), 3/4 for fewer (0.999 after 10,000, 0.9999 after 215,000).
        begin: the count of the update that is averaged first. With −1, gamma = 9 and power = 1 it is the
            (1 + count) / (10 + count) of TensorFlow's averages.

    Source: ``ModelEmaV3`` of timm, after K. Crowson.

    Example:
        >>> import gradtx
        >>> decay = gradtx.ema_warmup(0.99, power=1.0)
        >>> [round(float(decay(count)), 3) for count in (0, 1, 3, 9, 1000)]
        [0.0, 0.5, 0.75, 0.9, 0.99]
    """

    def value(count: Any) -> Array:
        passed = since(count, begin)
        return jnp.minimum(-jnp.expm1(-power * jnp.log1p(1.0 * passed / gamma)), decay)

    return value

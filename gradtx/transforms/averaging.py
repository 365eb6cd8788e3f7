"""Averages of the params along the training, kept beside them, to evaluate with."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.cond import cond
from gradtx.arrays.errors import is_none
from gradtx.arrays.numerics import decay_towards, safe_increment
from gradtx.arrays.trees import moved, widened
from gradtx.arrays.types import Array, Params
from gradtx.core.leafwise import leafwise
from gradtx.core.treewise import Treewise, treewise
from gradtx.formats.rounding import rounded_to
from gradtx.values.domains import Count, Interval, ScalarOrSchedule

Start = Annotated[ScalarOrSchedule, Interval("[0, inf]", whole=True)]
Every = Annotated[ScalarOrSchedule, Interval("[1, inf]", whole=True)]


class AverageParamsState(NamedTuple):
    """count: int32 scalar, updates so far; average: a tree like the params, in at least float32; the params
    themselves until the second that is averaged."""

    count: Array
    average: Params

    def evaluation_params(self, params: Params) -> Params:
        """The average."""
        del params
        return self.average


# Wide, so that of params of half precision an update leads to the sum, rounded once.
@leafwise(state=AverageParamsState, elementwise=True, wide=True)
def average_params(
    decay: Annotated[ScalarOrSchedule, Interval("[0, 1]")] | None = None,
    *,
    start: Start = 0,
    every: Every = 1,
):
    """Keep an average of the params beside them: exponential (EMA), or equal (SWA, the average of a tail).

    With θ the params after the n-th of the updates that are averaged, the average becomes

        decay·average + (1 − decay)·θ,   or, without a decay,   average + (θ − average) / n

    and for n = 1 it is θ: there is nothing to correct for. It is the last stage of a chain, where updates
    are the steps that the params take, and leaves them as they are. Evaluate with the average:
    ``evaluation_params(state, params)``. Updates that a wrapper leaves out are not averaged if it is around
    the whole chain, as with `apply_if_finite` and `MultiSteps`.

    A decay of 0.999 looks back over some 1000 updates. In the first thousand, let it warm up:
    ``average_params(ema_warmup(0.999))``.

    Args:
        decay: the share of the old average that is kept, in [0, 1]. Default: none, all count the same.
        start: how many updates come before those that are averaged. Default: none. The average of a tail is
            ``average_params(start=9_000)``.
        every: average after every so many updates, at least 1.

    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992); Izmailov et
    al., Averaging weights leads to wider optima and better generalization, arXiv:1803.05407. Numbers are
    those of PyTorch's ``AveragedModel``.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.average_params(0.5))
        >>> params = {"w": jnp.array(0.0)}
        >>> state = tx.init(params)
        >>> for _ in range(3):
        ...     updates, state = tx.update({"w": jnp.array(-1.0)}, state, params)
        ...     params = gradtx.apply_updates(params, updates)
        ...     print(params["w"], gradtx.evaluation_params(state, params)["w"])
        1.0 1.0
        2.0 1.5
        3.0 2.25
    """

    def init(param):
        return dict(average=param)

    def update(grad, param, dtype, average, step):
        x = param + grad
        if x.dtype != dtype and not jnp.iscomplexobj(x):
            x = rounded_to(x, dtype)
        passed = step - start
        if decay is None:
            n = jnp.maximum(passed // every, 1)
            mean = average + (x - average) / n.astype(average.real.dtype)
        else:
            mean = decay_towards(average, x, decay)
        # Selected: a conditional would save this pass over memory, but XLA copies what goes through one.
        later = jnp.where(passed % every == 0, mean, average)
        return grad, dict(average=jnp.where(passed <= every, x, later))

    return init, update


class Averaging(Treewise):
    """A stage that has to know where the params arrive."""

    # As `average_params`.
    is_wide = True  # pyright: ignore[reportAssignmentType]  # read only


class AverageLatestParamsState(NamedTuple):
    """The latest params.

    count: int32 scalar, updates so far;
    averaged: int32 scalar, how many params have been taken so far;
    latest: as many trees like the params as the window is long, in at least float32, the latest first;
        before they have been taken, the params at `init`.
    """

    count: Array
    averaged: Array
    latest: tuple[Params, ...]

    several = ("latest",)  # fields of several trees like the params

    def evaluation_params(self, params: Params) -> Params:
        """The mean of those that have been taken, or the params while there is none."""
        held = jnp.minimum(self.averaged, len(self.latest))

        def mean(*latest):
            taken = [jnp.where(i < held, x, 0) for i, x in enumerate(latest)]
            return sum(taken[1:], taken[0]) / jnp.maximum(held, 1).astype(taken[0].real.dtype)

        return _if_any(self.averaged, jax.tree.map(mean, *self.latest), params)


@treewise(state=AverageLatestParamsState, kind=Averaging, on_shards=True)
def average_latest_params(window: Count = 5, *, start: Start = 0, every: Every = 1):
    """Keep the latest few params, whose mean is the one to evaluate with (LAWA).

    It is the last stage of a chain, and leaves updates as they are; the state holds `window` copies of the
    params. Evaluate with ``evaluation_params(state, params)``.

    Args:
        window: of how many params the mean is, at least 1.
        start: how many updates come before the first that is taken. Default: none.
        every: take the params after every so many updates, at least 1: as far apart as epochs, or hundreds of
            steps.

    Source: Kaddour, Stop wasting my time! Saving days of ImageNet and BERT training with latest weight
    averaging, arXiv:2209.14981.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.average_latest_params(2))
        >>> params = {"w": jnp.array(0.0)}
        >>> state = tx.init(params)
        >>> for _ in range(3):
        ...     updates, state = tx.update({"w": jnp.array(-1.0)}, state, params)
        ...     params = gradtx.apply_updates(params, updates)
        ...     print(params["w"], gradtx.evaluation_params(state, params)["w"])
        1.0 1.0
        2.0 1.5
        3.0 2.5
    """

    def init(params):
        zero = jnp.zeros([], jnp.int32)
        latest = tuple(jax.tree.map(jnp.copy, widened(params)) for _ in range(window))
        return AverageLatestParamsState(zero, jnp.copy(zero), latest)

    def update(updates, state, params):
        count = safe_increment(state.count)

        def take(averaged, latest):
            now = widened(moved(params, 1, updates))
            return safe_increment(averaged), (now, *latest[:-1])

        due = (count > start) & ((count - start) % every == 0)
        averaged, latest = cond(due, take, lambda *kept: kept, state.averaged, state.latest)
        return updates, AverageLatestParamsState(count, averaged, latest)

    return init, update


def _if_any(averaged: Array, average: Params, params: Params) -> Params:
    """The average, or the params while there is none."""
    leaves, treedef = jax.tree.flatten(params, is_leaf=is_none)
    try:
        means = treedef.flatten_up_to(average)
    except (ValueError, TypeError):
        return average  # no tree like the params: whoever asked says so
    pairs = zip(means, leaves, strict=True)
    # A param that is masked out, or None, has no average.
    return treedef.unflatten([jnp.where(averaged > 0, x, p) if hasattr(x, "dtype") else x for x, p in pairs])

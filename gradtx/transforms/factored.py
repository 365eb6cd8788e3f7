"""Second moments in less memory than the tensor: means (Adafactor, CAME) or maxima (SM3) along its axes."""

from collections.abc import Callable
from functools import reduce
from typing import Annotated, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, between, decay_towards, extreme, real_dtype, real_like, rms, sqrt
from gradtx.arrays.types import Array, Params, Scalar
from gradtx.core.leafwise import leafwise
from gradtx.schedules.arithmetic import since
from gradtx.transforms.adaptive import divide_where_seen
from gradtx.values.counting import number_at
from gradtx.values.domains import Decay, Interval, NonNegative, Number, Positive, ScalarOrSchedule, Static


class FactoredState(NamedTuple):
    """count: int32 scalar, updates so far; v_row, v_col, v: trees like the params, the mean squares over
    the longest axis and the second longest, or of each number; those that a param does not need are one
    0."""

    count: Array
    v_row: Params
    v_col: Params
    v: Params


@leafwise(state=FactoredState, unsigned=("v_row", "v_col", "v"))
def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: Number = 0.8,
    step_offset: Number = 0,
    min_dim_size_to_factor: Static[int] = 128,
    epsilon: NonNegative = 1e-30,
    decay_rate_fn: Callable[[Array, Scalar], Scalar] | None = None,
):
    """Adafactor's direction: divided by a root mean square that is kept as one row and one column.

    b = 1 − max(t − step_offset, 1)^−decay_rate for the t-th update; R and C are means of |g|² + epsilon
    over the longest and the second longest axis, decaying by b; the update is g / √(R·C / mean R). A tensor
    whose second longest axis is shorter than min_dim_size_to_factor keeps the mean square V of each number,
    and its update is g / √V.

    Args:
        factored: whether to keep rows and columns. Default: yes.
        decay_rate: power of the decay.
        step_offset: number of updates to leave out of the count, as when a trained model is trained on. Until
            there were as many, every update is as the first: nothing of earlier squares is kept.
        min_dim_size_to_factor: the least length of an axis worth factoring.
        epsilon: added to the squares; keeps the divisor above 0.
        decay_rate_fn: ``f(max(count − step_offset, 0), decay_rate)``, b as another function of the updates so
            far.

    Source: Shazeer and Stern, Adafactor, arXiv:1804.04235; other decays: Zhai et al., Scaling vision
    transformers, arXiv:2106.04560.
    """

    def longest_axes(x):
        """The second longest axis and the longest, if there is anything to gain from them."""
        axes = sorted(range(x.ndim), key=lambda axis: x.shape[axis])[-2:]
        worth = factored and len(axes) == 2 and x.shape[axes[0]] >= min_dim_size_to_factor
        return axes if worth else None

    def weights(step, dtype):
        """b and 1 − b."""
        if decay_rate_fn is None:
            taken = jnp.maximum(since(step, step_offset), 1).astype(dtype) ** -decay_rate
            return 1 - taken, taken
        kept = number_at(decay_rate_fn, since(step - 1, step_offset), decay_rate)
        return kept, 1 - kept

    def init(param):
        none = jnp.zeros(1, real_dtype(param))
        axes = longest_axes(param)
        if axes is None:
            return dict(v_row=none, v_col=jnp.copy(none), v=real_like(param))
        # Sums, for their axes are sharded as those of the param.
        col, row = (jnp.zeros_like(jnp.sum(param.real, axis)) for axis in axes)
        return dict(v_row=row, v_col=col, v=none)

    def update(grad, v_row, v_col, v, step):
        squares, axes = abs_sq(grad) + epsilon, longest_axes(grad)
        kept, taken = weights(step, squares.dtype)
        if axes is None:
            v = between(v, squares, kept, taken)
            return grad / sqrt(v), dict(v_row=v_row, v_col=v_col, v=v)
        second, first = axes
        v_row = between(v_row, jnp.mean(squares, first), kept, taken)
        v_col = between(v_col, jnp.mean(squares, second), kept, taken)
        row, col = jnp.expand_dims(v_row, first), jnp.expand_dims(v_col, second)
        # Roots before quotients: the square of a divisor of size epsilon would not be representable.
        root = sqrt(row) / sqrt(jnp.mean(row, second, keepdims=True)) * sqrt(col)
        return grad / root, dict(v_row=v_row, v_col=v_col, v=v)

    return init, update


class ScaleByCameState(NamedTuple):
    """mu: a tree like the params, the mean of directions; v_row, v_col, res_row, res_col, v: trees like the
    params, the mean squares of gradients over rows and over columns, those of what directions differ from
    their mean by, and that of each number; those that a param does not need are one 0."""

    mu: Params
    v_row: Params
    v_col: Params
    res_row: Params
    res_col: Params
    v: Params


@leafwise(state=ScaleByCameState, unsigned=("v_row", "v_col", "res_row", "res_col", "v"))
def scale_by_came(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    b3: Decay = 0.9999,
    eps1: NonNegative = 1e-30,
    eps2: NonNegative = 1e-16,
    clipping_threshold: Positive = 1.0,
):
    """CAME's direction: the mean of Adafactor's directions, the smaller the less these agree with it.

    R and C are the means of |g|² + eps1 over the last axis and over the one before, decaying by b2;
    u = g / √(R·C / mean R), scaled down to a root mean square of clipping_threshold; m = b1·m + (1 − b1)·u.
    R' and C' are the means of |u − m|² + eps2, decaying by b3; the update is m / √(R'·C' / mean R'). A tensor
    with fewer than two axes keeps the mean square V of each number: u = g / √V, and the update is m.

    Args:
        b1: decay of the mean of directions, in [0, 1).
        b2: decay of the mean squares, in [0, 1).
        b3: decay of those of the differences, in [0, 1).
        eps1: added to the squares; keeps the divisor above 0.
        eps2: added to the squared differences.
        clipping_threshold: the largest root mean square of a direction, above 0.

    Source: Luo et al., CAME: confidence-guided adaptive memory efficient optimization, arXiv:2307.02047.
    """

    def init(param):
        none, mu = jnp.zeros(1, real_dtype(param)), jnp.zeros_like(param)
        if param.ndim < 2 or not param.size:
            nones = {name: jnp.copy(none) for name in ("v_row", "v_col", "res_row", "res_col")}
            return dict(mu=mu, v=real_like(param), **nones)
        # Sums, for their axes are sharded as those of the param.
        lines = {
            f"{of}_{line}": jnp.zeros_like(jnp.sum(param.real, axis))
            for of in ("v", "res")
            for line, axis in (("row", -1), ("col", -2))
        }
        return dict(mu=mu, v=none, **lines)

    def root(row, col):
        row, col = row[..., None], col[..., None, :]
        return sqrt(row) / sqrt(jnp.mean(row, -2, keepdims=True)) * sqrt(col)

    def lines(row, col, squares, decay):
        means = jnp.mean(squares, -1), jnp.mean(squares, -2)
        return [decay_towards(old, new, decay) for old, new in zip((row, col), means, strict=True)]

    def update(grad, mu, v_row, v_col, res_row, res_col, v):
        squares = abs_sq(grad) + eps1
        factored = grad.ndim >= 2 and grad.size
        if factored:
            v_row, v_col = lines(v_row, v_col, squares, b2)
        else:
            v = decay_towards(v, squares, b2)
        # Inverses first: a derivative multiplies by them before it does by a gradient, which may be 0.
        direction = grad * (1 / (root(v_row, v_col) if factored else sqrt(v)))
        direction = direction / jnp.maximum(1, rms(direction) / clipping_threshold)
        mu = new = decay_towards(mu, direction, b1)
        if factored:
            res_row, res_col = lines(res_row, res_col, abs_sq(direction - mu) + eps2, b3)
            new = mu * (1 / root(res_row, res_col))
        return new, dict(mu=mu, v_row=v_row, v_col=v_col, res_row=res_row, res_col=res_col, v=v)

    return init, update


class ScaleBySM3State(NamedTuple):
    """mu: a tree of lists, for each axis of a param a bound of its squares; nu: a tree like the params,
    the mean of past directions."""

    mu: Params
    nu: Params


@leafwise(state=ScaleBySM3State, real_only=True, unsigned=("mu",))
def scale_by_sm3(
    b1: Decay = 0.9,
    b2: Annotated[ScalarOrSchedule, Interval("[0, 1]")] = 1.0,
    eps: NonNegative = 1e-8,
):
    """SM3's direction: Adagrad's, whose sums of squares are bounded by one number per row and per column.

    A number at (i, j, ...) of a tensor has the sum s = b2·min(μ¹ᵢ, μ²ⱼ, ...) + (1 − b2)·g², with 1 in place
    of 1 − b2 for b2 = 1; then each μ becomes the largest s along the other axes. The direction is
    u = g / √(s + eps), and 0 where s is 0; the update is the average νₜ = b1·νₜ₋₁ + (1 − b1)·uₜ.

    Args:
        b1: decay of the average of directions, in [0, 1).
        b2: share of the old bounds that is kept, in [0, 1]; with 1 squares add up.
        eps: added inside the root, at least 0.

    Source: Anil et al., Memory-efficient adaptive optimization, arXiv:1901.11150.
    """

    def other_axes(x):
        """For each axis, the others; a scalar has one bound, as if it had an axis."""
        return [tuple(a for a in range(x.ndim) if a != axis) for axis in range(max(x.ndim, 1))]

    def init(param):
        # Sums, for their axes are sharded as those of the param.
        bounds = [jnp.zeros_like(jnp.sum(param, axes)) for axes in other_axes(param)]
        return dict(mu=bounds, nu=jnp.zeros_like(param))

    def update(grad, mu, nu):
        others = other_axes(grad)
        bounds = [jnp.expand_dims(bound, axes) for bound, axes in zip(mu, others, strict=True)]
        taken = jnp.where(b2 == 1, 1, 1 - b2)
        squares = b2 * reduce(jnp.minimum, bounds) + taken * grad**2
        nu = decay_towards(nu, divide_where_seen(grad, squares, eps), b1)
        return nu, dict(mu=[extreme("max", squares, axes, initial=0) for axes in others], nu=nu)

    return init, update

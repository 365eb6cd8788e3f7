"""The zoom line search: step sizes grow until they enclose a good one, then the interval shrinks."""

from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.loops import while_loop
from gradtx.arrays.numerics import cast
from gradtx.arrays.trees import filled, norm_dtype, scale_tree, select_tree
from gradtx.arrays.types import Array, Updates
from gradtx.arrays.units import unit_of
from gradtx.core.treewise import treewise
from gradtx.transforms.linesearch import Line, ValueFn, report
from gradtx.values.domains import Interval, NonNegative, Positive, ScalarOrSchedule


class ZoomLinesearchInfo(NamedTuple):
    """How a search ended, with the errors of the step that was taken.

    num_linesearch_steps: int32 scalar, evaluations;
    decrease_error: scalar, by how much the decrease misses its condition; above 0 the search failed,
    and infinite if no value was finite;
    curvature_error: scalar, by how much the slope is too steep; above 0 the step is safe, but short.
    """

    num_linesearch_steps: Array
    decrease_error: Array
    curvature_error: Array


class ScaleByZoomLinesearchState(NamedTuple):
    """The result of the last search.

    learning_rate: scalar, the step size taken, and `value`, that of the objective after the step;
    grad: a tree like the params, the gradient after the step as `jax.grad` gives it;
    info: how the search ended.
    """

    learning_rate: Array
    value: Array
    grad: Updates
    info: ZoomLinesearchInfo


class Point(NamedTuple):
    """A step size on the line, with the value and the slope there."""

    t: Array
    value: Array
    slope: Array


class Trial(NamedTuple):
    """A point with its gradient, and by how much it misses the two conditions."""

    point: Point
    grad: Updates
    decrease_error: Array
    curvature_error: Array


class Search(NamedTuple):
    """Where a search stands.

    steps: evaluations so far; trial: the last one; safe: the best with enough decrease, or the start;
    low, high: once `bracketed`, ends of an interval with a good step size in it, low the better one;
    before, low is the last trial. reference: an end that was given up, for the interpolation;
    done: whether the trial is the result; failed: whether to make do with the safe one.
    """

    steps: Array
    trial: Trial
    safe: Trial
    low: Point
    high: Point
    reference: Point
    bracketed: Array
    done: Array
    failed: Array


@treewise(state=ScaleByZoomLinesearchState)
def scale_by_zoom_linesearch(
    max_linesearch_steps: Annotated[ScalarOrSchedule, Interval("[1, inf]")],
    max_learning_rate: Positive | None = None,
    tol: NonNegative = 0.0,
    increase_factor: Annotated[ScalarOrSchedule, Interval("(1, inf]")] = 2.0,
    slope_rtol: NonNegative = 1e-4,
    curv_rtol: NonNegative = 0.9,
    approx_dec_rtol: NonNegative | None = 1e-6,
    stepsize_precision: NonNegative = 1e-5,
    initial_guess_strategy: str = "keep",
    verbose: bool = False,
):
    """Scale updates u by a step size t that meets the strong Wolfe conditions.

    With φ(t) = f(x + t·u) these are enough decrease, φ(t) ≤ φ(0) + slope_rtol·t·φ′(0), and a flat slope,
    |φ′(t)| ≤ curv_rtol·|φ′(0)|. So near a minimum that rounding hides the first, it may be replaced by
    φ′(t) ≤ (2·slope_rtol − 1)·φ′(0) where φ(t) ≤ φ(0) + approx_dec_rtol·|φ(0)|.

    ``update(updates, state, params, value=f(x), grad=∇f(x), value_fn=f)``: `grad` is what `jax.grad`
    gives. Further extra arguments go to `value_fn` by name. It stands at the end of a chain, whose
    direction must be one of descent, φ′(0) < 0. The search ends after max_linesearch_steps evaluations:
    then it takes the best t with enough decrease; if there is none, the last t, with
    info.decrease_error > 0; and 0 if its value is not finite. The state has the size of the params.
    Call it inside `jit`: outside, its loop is compiled anew by each call.

    Args:
        max_linesearch_steps: evaluations at most, at least 1.
        max_learning_rate: the largest t. Default: any.
        tol: absolute tolerance of both conditions.
        increase_factor: by which t grows until an interval is found, above 1.
        slope_rtol: how much of the decrease that the slope promises is needed.
        curv_rtol: how flat the slope must become; inf asks for the decrease alone.
        approx_dec_rtol: see above; None never replaces.
        stepsize_precision: an interval shorter than this share of its larger end is not searched further,
            if there is enough decrease somewhere.
        initial_guess_strategy: the first t: ``"one"``, which suits Newton directions, or ``"keep"``, that
            of the last step, which suits gradients.
        verbose: whether to print when the search fails.

    Raises:
        ValueError: for another initial_guess_strategy.

    Source: Nocedal and Wright, Numerical optimization, algorithms 3.5 and 3.6; Hager and Zhang,
    Algorithm 851: CG_DESCENT, 2006.
    """
    if initial_guess_strategy not in ("one", "keep"):
        raise ValueError(
            "scale_by_zoom_linesearch: initial_guess_strategy must be 'one' or 'keep', got "
            f"{initial_guess_strategy!r}"
        )

    def init(params):
        dtype = norm_dtype(params)
        unknown = jnp.full([], jnp.inf, dtype)
        return ScaleByZoomLinesearchState(
            learning_rate=jnp.ones([], dtype),
            value=unknown,
            grad=jax.tree.map(jnp.zeros_like, filled(params, params)),
            info=ZoomLinesearchInfo(jnp.zeros([], jnp.int32), jnp.copy(unknown), jnp.copy(unknown)),
        )

    def violation(error):
        return jnp.where(jnp.isnan(error), jnp.inf, jnp.maximum(error, 0))

    def evaluate(line, start, t):
        value, pull = line.pullback(t)
        grad = pull()
        slope = line.slope(grad)
        decrease = value - start.value - slope_rtol * t * start.slope
        if approx_dec_rtol is not None:
            rise = value - start.value - approx_dec_rtol * jnp.abs(start.value)
            decrease = jnp.minimum(decrease, jnp.maximum(rise, slope - (2 * slope_rtol - 1) * start.slope))
        # Any step would do beside a slope of infinity.
        decrease = jnp.where(jnp.isfinite(start.slope), decrease, jnp.inf)
        curvature = jnp.abs(slope) - curv_rtol * jnp.abs(start.slope)
        violations = (cast(violation(error), value.dtype) for error in (decrease, curvature))
        return Trial(Point(t, value, slope), grad, *violations)

    def searched(line, start, first, now: Search) -> Search:
        grown = jnp.where(now.steps == 0, first, increase_factor * now.low.t)
        largest = jnp.inf if max_learning_rate is None else max_learning_rate
        t = jnp.where(now.bracketed, between(now.low, now.high, now.reference), jnp.minimum(grown, largest))
        trial = evaluate(line, start, cast(t, start.t.dtype))
        met = trial.decrease_error <= tol
        better = met & (~now.bracketed | (trial.point.value < now.safe.point.value))
        safe = select_tree(better, trial, now.safe)
        low, high, reference, bracketed = narrowed(now, trial)
        # Without an interval, the largest step decreases enough and is too steep: no other is better.
        done = (met & (trial.curvature_error <= tol)) | (~bracketed & (grown >= largest))
        ends = now.low.t, now.high.t
        precise = jnp.abs(ends[1] - ends[0]) <= stepsize_precision * jnp.maximum(*ends)
        short = now.bracketed & precise & (safe.point.t > 0)
        failed = ~done & (short | (now.steps + 1 >= max_linesearch_steps))
        return Search(now.steps + 1, trial, safe, low, high, reference, bracketed, done, failed)

    def update(updates, state, params, *, value, grad, value_fn: ValueFn, **extra):
        dtype = norm_dtype(params)
        line = Line("scale_by_zoom_linesearch", value_fn, extra, params, updates, dtype)
        value, grad = line.start(value, grad)
        start = Point(jnp.zeros([], dtype), value, line.slope(grad))
        # A search that failed altogether left 0, from which none could begin.
        keep = (initial_guess_strategy == "keep") & (state.learning_rate > 0)
        search = partial(searched, line, start, jnp.where(keep, state.learning_rate, 1))
        end = while_loop(lambda now: ~(now.done | now.failed), search, beginning(start, grad))
        is_safe = (end.safe.point.t > 0) | jnp.isinf(end.trial.decrease_error)
        found = select_tree(end.failed & is_safe, end.safe, end.trial)
        if verbose:
            report_failure(start, end, found)
        info = ZoomLinesearchInfo(end.steps, found.decrease_error, found.curvature_error)
        t, value, _ = found.point
        return scale_tree(updates, t), ScaleByZoomLinesearchState(t, value, found.grad, info)

    return init, update


def beginning(start: Point, grad: Updates) -> Search:
    """A search before its first trial."""
    unknown, no = jnp.full_like(start.t, jnp.inf), jnp.zeros([], bool)
    trial = Trial(start, grad, unknown, unknown)
    return Search(jnp.zeros([], jnp.int32), trial, trial, start, start, start, no, no, no)


def narrowed(now: Search, trial: Trial) -> tuple[Point, Point, Point, Array]:
    """Low, high and reference after a trial, and whether there is an interval."""
    low, high, bracketed, new = now.low, now.high, now.bracketed, trial.point
    rises = (trial.decrease_error > 0) | ((new.value >= low.value) & (bracketed | (now.steps > 0)))
    turns = ~rises & (new.slope * jnp.where(bracketed, high.t - low.t, 1) >= 0)
    next_low = select_tree(rises, low, new)
    next_high = select_tree(rises, new, select_tree(turns, low, high))
    given_up = select_tree(rises | turns, high, low)
    return next_low, next_high, select_tree(bracketed, given_up, next_low), bracketed | rises | turns


def between(low: Point, high: Point, reference: Point) -> Array:
    """Where in the interval to try next: the minimum of a cubic, else of a parabola, else the middle.

    The cubic has the value and slope at low and the values at the two others, the parabola those at low
    and the value at high. A minimum too close to an end, by 0.2 and 0.1 of the interval, is not taken.
    """
    of_t = unit_of(high.t - low.t)
    of_value = unit_of(low.slope * of_t)
    h, r, slope = (high.t - low.t) / of_t, (reference.t - low.t) / of_t, low.slope / of_value * of_t
    above_h = (high.value - low.value) / of_value - slope * h
    above_r = (reference.value - low.value) / of_value - slope * r
    divisor = h * h * r * r * (h - r)
    a = (r * r * above_h - h * h * above_r) / divisor
    b = (h * h * h * above_r - r * r * r * above_h) / divisor
    cubic = low.t + of_t * ((jnp.sqrt(b * b - 3 * a * slope) - b) / (3 * a))
    parabola = low.t - of_t * (slope * h * h / (2 * above_h))
    left, right = jnp.minimum(low.t, high.t), jnp.maximum(low.t, high.t)

    def inside(t: Array, margin: float) -> Array:
        room = margin * jnp.abs(high.t - low.t)
        return (t > left + room) & (t < right - room)  # not where t is NaN

    otherwise = jnp.where(inside(parabola, 0.1), parabola, (low.t + high.t) / 2)
    return jnp.where(inside(cubic, 0.2), cubic, otherwise)


def report_failure(start: Point, end: Search, found: Trial) -> None:
    """Print what a failed search found."""
    message = (
        "scale_by_zoom_linesearch: from value {} and slope {}, {} evaluations found no step that meets both "
        "conditions; taken is {}, which misses the decrease by {} and the curvature by {}"
    )
    what: tuple[Any, ...] = (start.value, start.slope, end.steps, found.point.t, *found[2:])
    bad = end.failed | (found.curvature_error > 0)
    report(bad, message, *what)

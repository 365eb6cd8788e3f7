"""The backtracking line search."""

from functools import partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.cond import cond
from gradtx.arrays.loops import while_loop
from gradtx.arrays.numerics import cast
from gradtx.arrays.trees import filled, norm_dtype, scale_tree
from gradtx.arrays.types import Array, Updates
from gradtx.core.treewise import treewise
from gradtx.transforms.linesearch import Line, ValueFn, report
from gradtx.values.domains import Fraction, Interval, NonNegative, Positive, ScalarOrSchedule

MISSED = "scale_by_backtracking_linesearch: value {} and slope {}; no step down to {} decreases enough, by {}"


class BacktrackingLinesearchInfo(NamedTuple):
    """How a search ended.

    num_linesearch_steps: int32 scalar, step sizes tried;
    decrease_error: scalar, by how much the decrease misses the condition; above 0 the search failed,
    and infinite if no value was finite.
    """

    num_linesearch_steps: Array
    decrease_error: Array


class ScaleByBacktrackingLinesearchState(NamedTuple):
    """The result of the last search.

    learning_rate: scalar, the step size taken, and `value`, that of the objective after the step;
    grad: a tree like the params, the gradient after the step as `jax.grad` gives it; None unless stored;
    info: how the search ended.
    """

    learning_rate: Array
    value: Array
    grad: Updates | None
    info: BacktrackingLinesearchInfo


@treewise(state=ScaleByBacktrackingLinesearchState)
def scale_by_backtracking_linesearch(
    max_backtracking_steps: Annotated[ScalarOrSchedule, Interval("[0, inf]")],
    slope_rtol: NonNegative = 1e-4,
    decrease_factor: Fraction = 0.8,
    increase_factor: Annotated[ScalarOrSchedule, Interval("[1, inf]")] = 1.5,
    max_learning_rate: Positive = 1.0,
    atol: NonNegative = 0.0,
    rtol: NonNegative = 0.0,
    store_grad: bool = False,
    verbose: bool = False,
):
    """Scale updates u by the first step size t, of ever smaller ones, that lowers the objective enough.

    Enough is f(x + t·u) ≤ (1 + rtol)·f(x) + slope_rtol·t·f′(x)·u + atol, the condition of Armijo. The
    first t is increase_factor times that of the last step, at most max_learning_rate; each next one is
    decrease_factor times the one before.

    ``update(updates, state, params, value=f(x), grad=∇f(x), value_fn=f)``: `grad` is what `jax.grad`
    gives. Further extra arguments go to `value_fn` by name. It stands at the end of a chain, whose
    direction must be one of descent, f′(x)·u < 0: otherwise the search ends after its last trial, with
    info.decrease_error > 0, and takes that. If no value was finite, the step is 0.
    Call it inside `jit`: outside, its loop is compiled anew by each call.

    Args:
        max_backtracking_steps: how often t may shrink.
        slope_rtol: how much of the decrease that the slope promises is needed.
        decrease_factor: from one trial to the next, in (0, 1).
        increase_factor: from the last step to the first trial, at least 1; inf begins with
            max_learning_rate each time.
        max_learning_rate: the largest t.
        atol: absolute tolerance of the condition.
        rtol: its tolerance relative to the value.
        store_grad: whether to keep the gradient after the step, for `value_and_grad_from_state`.
        verbose: whether to print when the search fails.

    Source: Nocedal and Wright, Numerical optimization, algorithm 3.1; Vaswani et al., Painless
    stochastic gradient, arXiv:1905.09997.
    """

    def init(params):
        dtype = norm_dtype(params)
        return ScaleByBacktrackingLinesearchState(
            learning_rate=jnp.ones([], dtype),
            value=jnp.full([], jnp.inf, dtype),
            grad=jax.tree.map(jnp.zeros_like, filled(params, params)) if store_grad else None,
            info=BacktrackingLinesearchInfo(jnp.zeros([], jnp.int32), jnp.full([], jnp.inf, dtype)),
        )

    def unmet(now):
        _, _, _, error, steps = now
        return (steps == 0) | (~(error <= atol) & (steps <= max_backtracking_steps))

    def attempt(line, start, slope, now):
        t, _, kept, _, steps = now
        t = cast(jnp.where(steps > 0, decrease_factor * t, t), t.dtype)
        new, pull = line.pullback(t) if store_grad else (line.value(t), None)
        error = new - (1 + rtol) * start - t * slope_rtol * slope
        error = cast(jnp.where(jnp.isfinite(error), jnp.maximum(error, 0), jnp.inf), t.dtype)
        if pull is not None:
            last = (error <= atol) | (steps >= max_backtracking_steps)
            kept = cond(last, pull, lambda: kept)
        return t, new, kept, error, steps + 1

    def update(updates, state, params, *, value, grad, value_fn: ValueFn, **extra):
        dtype = norm_dtype(params)
        line = Line("scale_by_backtracking_linesearch", value_fn, extra, params, updates, dtype)
        start, grad = line.start(value, grad)
        slope = line.slope(grad)
        # A search that failed altogether left 0, from which none could begin.
        last = jnp.where(state.learning_rate > 0, state.learning_rate, 1)
        first = cast(jnp.minimum(increase_factor * last, max_learning_rate), dtype)
        stored = grad if store_grad else None
        begin = (first, start, stored, jnp.full([], jnp.inf, dtype), jnp.zeros([], jnp.int32))
        search = partial(attempt, line, start, slope)
        t, new, stored, error, steps = while_loop(unmet, search, begin)
        stuck = jnp.isinf(error)
        t, new = jnp.where(stuck, 0, t), jnp.where(stuck, start, new)
        if store_grad:
            stored = jax.tree.map(lambda old, at: jnp.where(stuck, old, at), grad, stored)
        if verbose:
            report(error > atol, MISSED, start, slope, t, error)
        info = BacktrackingLinesearchInfo(steps, error)
        return scale_tree(updates, t), ScaleByBacktrackingLinesearchState(t, new, stored, info)

    return init, update

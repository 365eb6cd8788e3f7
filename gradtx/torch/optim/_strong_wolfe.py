"""A line search for the strong Wolfe conditions, with PyTorch's decisions, as one bounded loop.

Each pass evaluates one step size and then decides, so that the function is traced once.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays.loops import while_loop
from gradtx.arrays.trees import select_tree
from gradtx.arrays.types import Array, Scalar


class Point(NamedTuple):
    """A point on the line: step size t, loss f and gradient g there, and the slope gtd = g·d along it."""

    t: Array
    f: Array
    g: Array
    gtd: Array


class Search(NamedTuple):
    """Where a search stands.

    t: the step size to evaluate next, and `evals`, how many were;
    bracketed: whether low and high enclose a minimum, low the better of them. Before, low is the last
    point and high the one before it;
    low_first: whether low stands before high in PyTorch's bracket; it settles ties;
    near_end: whether the last trial was close to an end of the bracket; done: whether low is the result.
    """

    t: Array
    evals: Array
    low: Point
    high: Point
    low_first: Array
    bracketed: Array
    near_end: Array
    done: Array


def strong_wolfe(
    evaluate: Callable[[Array], Point],
    start: Point,
    t: Array,
    d_norm: Array,
    tolerance_change: Scalar,
    max_ls: Array,
    c1: float = 1e-4,
    c2: float = 0.9,
) -> tuple[Point, Array]:
    """A step size t with f(t) ≤ f(0) + c1·t·f′(0) and |f′(t)| ≤ c2·|f′(0)|, or the best one found.

    Step sizes grow until they enclose such a t; then trials by cubic interpolation narrow the bracket.

    Args:
        evaluate: the point at a step size.
        start: the point at 0, with a negative slope.
        t: the first step size to try.
        d_norm: the largest magnitude in the direction d.
        tolerance_change: a bracket whose length times `d_norm` is below this is not narrowed further.
        max_ls: evaluations after the first, at most.
        c1, c2: how much the loss must fall, and how flat it must become.

    Returns:
        The point, and how often `evaluate` was called. After `max_ls` trials without a bracket it is
        the better of the start and the last trial.

    Source: Nocedal and Wright, Numerical optimization, algorithms 3.5 and 3.6.
    """

    def probe(now: Search) -> Search:
        new, low, high, bracketed = evaluate(now.t), now.low, now.high, now.bracketed
        last = now.evals >= max_ls
        # A last trial without a bracket is taken or left, but never tested.
        untested = last & ~bracketed
        rises = (new.f >= low.f) & (bracketed | (now.evals > 1))
        worse = untested | rises | (new.f > start.f + c1 * new.t * start.gtd)
        flat = jnp.abs(new.gtd) <= -c2 * start.gtd
        closes = worse | (~bracketed & ~flat & (new.gtd >= 0))

        end = select_tree(untested, start, low)
        falls = jnp.where(now.low_first, ~(end.f <= new.f), new.f <= end.f)
        turns = ~bracketed | (new.gtd * (high.t - low.t) >= 0)
        low, high = select_tree(
            closes,
            select_tree(falls, (new, end), (end, new)),
            (new, select_tree(turns, low, high)),
        )
        low_first = now.low_first ^ (closes & falls)
        bracketed = bracketed | closes

        lower, upper = jnp.minimum(low.t, high.t), jnp.maximum(low.t, high.t)
        small = bracketed & ((upper - lower) * d_norm < tolerance_change)
        t = cubic_minimum(
            low,
            high,
            jnp.where(bracketed, lower, low.t + 0.01 * (low.t - high.t)),
            jnp.where(bracketed, upper, 10 * low.t),
        )
        # Twice in a row close to an end, or on it, and the trial moves away by a tenth of the bracket.
        margin = 0.1 * (upper - lower)
        near_end = bracketed & (jnp.minimum(upper - t, t - lower) < margin)
        moves = near_end & (now.near_end | (t >= upper) | (t <= lower))
        inside = jnp.where(jnp.abs(t - upper) < jnp.abs(t - lower), upper - margin, lower + margin)
        return Search(
            t=jnp.where(moves, inside, t),
            evals=now.evals + 1,
            low=low,
            high=high,
            low_first=low_first,
            bracketed=bracketed,
            near_end=near_end & ~moves,
            done=last | small | (flat & ~worse),
        )

    no, yes = jnp.zeros([], bool), jnp.ones([], bool)
    first = Search(t, jnp.zeros([], jnp.int32), start, start, yes, no, no, no)
    found = while_loop(lambda now: ~now.done, probe, first)
    return found.low, found.evals


def cubic_minimum(a: Point, b: Point, lower: Array, upper: Array) -> Array:
    """Where the cubic with the losses and slopes of two points has its minimum, kept within bounds.

    If it has none: the middle of the bounds.
    """
    d1 = a.gtd + b.gtd - 3 * (a.f - b.f) / (a.t - b.t)
    square = d1 * d1 - a.gtd * b.gtd
    d2 = jnp.sqrt(square)
    ends = (a.t, a.gtd), (b.t, b.gtd)
    (x1, g1), (x2, g2) = select_tree(a.t <= b.t, ends, ends[::-1])
    minimum = x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
    return jnp.where(square >= 0, jnp.minimum(jnp.maximum(minimum, lower), upper), (lower + upper) / 2)

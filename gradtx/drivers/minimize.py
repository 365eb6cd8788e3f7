"""The minimum of a function without noise: an optimizer, run until a rule says stop."""

import importlib
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.loops import while_loop
from gradtx.arrays.numerics import at_least_float32, cast, safe_increment
from gradtx.arrays.per_tensor import is_traced
from gradtx.arrays.trees import filled
from gradtx.arrays.types import Array, Params, Scalar, State, Updates
from gradtx.arrays.units import largest_magnitude
from gradtx.arrays.varying import varied_as_value
from gradtx.core.transformation import GradientTransformation, check_transformation
from gradtx.optimizers.lbfgs import lbfgs
from gradtx.step import apply_updates
from gradtx.transforms.linesearch import searches
from gradtx.tree.states import get_all_with_path
from gradtx.values.programs import CompiledFor


class Stop(IntEnum):
    """Why a minimization stopped."""

    RUNNING = 0
    GRADIENT = 1
    STEP = 2
    VALUE = 3
    ITERATIONS = 4
    EVALUATIONS = 5
    NO_LOWER = 6
    NOT_FINITE = 7
    CALLBACK = 8
    RANGE = 9


MESSAGES = {
    Stop.RUNNING: "still running",
    Stop.GRADIENT: "converged: the gradient is small enough (gradient_tolerance)",
    Stop.STEP: "converged: the last step was small enough (step_tolerance)",
    Stop.VALUE: "converged: the value changed little enough (value_tolerance)",
    Stop.ITERATIONS: "max_iterations was reached",
    Stop.EVALUATIONS: "max_evaluations was reached",
    Stop.NO_LOWER: "the line search found no lower value: the direction may not descend, the objective may "
    "have noise or a wrong gradient, or the digits or the range of its dtype may be used up (try double "
    "precision)",
    Stop.NOT_FINITE: "the value or the gradient is not finite: begin elsewhere, or with smaller steps",
    Stop.CALLBACK: "the callback asked to stop",
    Stop.RANGE: "the gradient or the step is too small or too large for its dtype: multiply the objective by "
    "another number, or use double precision",
}


class MinimizeResult(NamedTuple):
    """What `minimize` found, and why it stopped.

    x: a tree like x0; fun: scalar, the value there; grad_norm: scalar, the largest magnitude in the
    gradient there;
    iterations, evaluations: int32 scalars, updates of x, and evaluations of value and gradient;
    success: bool scalar, whether a tolerance was met; status: int32 scalar, which rule stopped it.
    """

    x: Params
    fun: Array
    grad_norm: Array
    iterations: Array
    evaluations: Array
    success: Array
    status: Array

    @property
    def message(self) -> str:
        """Why it stopped, in words; not inside `jit`."""
        return MESSAGES[Stop(int(self.status))]


SHARE = 1e-7
"""Of the first gradient, what is small enough unless one says."""


class Limits(NamedTuple):
    """The stopping rules; see `minimize`.

    gradient_share: of the largest number of the first gradient, what is added to `gradient_tolerance`.
    """

    gradient_tolerance: Scalar
    gradient_share: Scalar
    step_tolerance: Scalar
    value_tolerance: Scalar
    max_iterations: Scalar
    max_evaluations: Scalar


class Progress(NamedTuple):
    """Where a minimization stands: at x, with its value, its gradient and the optimizer's state.

    small: what no number of the gradient has to be larger than.
    """

    x: Params
    value: Array
    grad: Updates
    state: State
    small: Array
    iterations: Array
    evaluations: Array
    status: Array


def minimize(
    fun: Callable[..., Any],
    x0: Params,
    optimizer: GradientTransformation | None = None,
    *,
    args: tuple[Any, ...] = (),
    gradient_tolerance: Scalar | None = None,
    step_tolerance: Scalar = 0.0,
    value_tolerance: Scalar = 2.2e-9,
    max_iterations: int = 15000,
    max_evaluations: int = 15000,
    callback: Callable[[MinimizeResult], Any] | None = None,
    progress: bool = False,
) -> MinimizeResult:
    """Minimize a function that has no noise.

    It stops at the first iteration where

    - no number of the gradient is larger than `gradient_tolerance`,
    - or none of the step is larger than `step_tolerance`,
    - or the value changed by at most value_tolerance·max(\\|f\\|, \\|f before\\|),
    - or a limit is reached, no lower value was found, a value is not finite, or numbers leave the range
      of their dtype; x is then the last with a finite value, and `success` false.

    So it goes the same way in any unit of the objective: with the default optimizer, c·f for c > 0 takes
    the steps of f, until rounding shows. A step of 0 stops nothing, for it may be the first of a warmup.

    The whole loop is one compiled program, which a second call with the same `fun`, shapes and choices
    reuses: pass data as `args` rather than in a new lambda. It works inside `jit` and `vmap`; gradients do
    not go through it. With a callback or a progress bar each iteration is one compiled call.

    Args:
        fun: ``fun(x, *args)``, a real scalar that `jax.grad` can differentiate.
        x0: where to begin: an array or a tree of arrays.
        optimizer: any transformation; it is given ``value``, ``grad`` and ``value_fn``. Default: `lbfgs()`.
        args: further arguments of `fun`, trees of arrays. A function or a word is bound to `fun` beforehand.
        gradient_tolerance: see above; a number of the gradient's own unit, negative for never. Default:
            1e-7 times the largest number of the first gradient.
        step_tolerance: see above; in the unit of x. 0, or a negative number, for never.
        value_tolerance: see above; relative. 0 stops only where the value stays, and a negative number
            never.
        max_iterations: updates of x at most.
        max_evaluations: evaluations of value and gradient after which no further iteration begins.
        callback: called with the `MinimizeResult` so far after each iteration; true stops.
        progress: whether to show a progress bar, with tqdm.

    Raises:
        TypeError: if x0 has integers, `args` anything but arrays, or `fun` returns no real scalar.
        ValueError: if a callback or a progress bar is asked for inside `jit`.
        ModuleNotFoundError: if a progress bar is asked for and tqdm is not installed.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        >>> found = gradtx.minimize(rosenbrock, jnp.array([-1.2, 1.0]))
        >>> print(found.x.round(2), found.success)
        [1. 1.] True
    """
    tx: GradientTransformation = GradientTransformation.adopt(lbfgs() if optimizer is None else optimizer)
    check_transformation("minimize", "optimizer", tx)
    errors.check_callable("minimize", "fun", fun)
    if not isinstance(args, tuple):
        raise TypeError(f"minimize: args must be a tuple, as in args=(data,), got {type(args).__name__}")
    gradient = (0.0, SHARE) if gradient_tolerance is None else (gradient_tolerance, 0.0)
    limits = Limits(*gradient, step_tolerance, value_tolerance, max_iterations, max_evaluations)
    errors.check_inexact("minimize", x0)
    x0 = jax.tree.map(lambda x: cast(jnp.asarray(x), jnp.result_type(x)), x0)
    traced = is_traced(jax.tree.leaves((x0, args, tx, limits)))
    if not traced:
        errors.check_arrays("minimize", "args", args)
    if callback is None and not progress:
        run = _run if traced else _run_compiled
        return _result(run(fun, x0, tx, args, limits))
    if traced:
        raise ValueError(
            "minimize: a callback or a progress bar needs numbers; call minimize outside of jit, or "
            "without them"
        )
    now = _begin(fun, x0, tx, args, limits)
    bar = _tqdm()(total=max_iterations) if progress else None
    while now.status == Stop.RUNNING:
        now = _advance_compiled(fun, now, tx, args, limits)
        so_far = _result(now)
        if bar is not None:
            bar.update()
            bar.set_postfix(value=float(so_far.fun), gradient=float(so_far.grad_norm))
        if callback is not None and callback(so_far) and now.status == Stop.RUNNING:
            now = now._replace(status=jnp.full_like(now.status, Stop.CALLBACK))
    if bar is not None:
        bar.close()
    return _result(now)


def _tqdm() -> Any:
    try:
        return importlib.import_module("tqdm").tqdm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("minimize: progress=True needs tqdm: pip install tqdm") from error


def _run(fun: Any, x0: Params, tx: GradientTransformation, args: Any, limits: Limits) -> Progress:
    begin = _begin(fun, x0, tx, args, limits)
    return while_loop(
        lambda now: now.status == Stop.RUNNING, lambda now: _advance(fun, now, tx, args, limits), begin
    )


def _begin(fun: Any, x0: Params, tx: GradientTransformation, args: Any, limits: Limits) -> Progress:
    x0 = varied_as_value(lambda x: fun(x, *args), x0)
    value, grad = _evaluate(fun, x0, args)
    none = jnp.zeros([], jnp.int32)
    size = largest_magnitude(grad)
    share = limits.gradient_share * size
    at = Progress(x0, value, grad, tx.init(x0), limits.gradient_tolerance + share, none, none + 1, none)
    unreachable = (limits.gradient_share > 0) & (size > 0) & (share < jnp.finfo(size.dtype).tiny)
    rules = [
        (~_finite(value, grad), Stop.NOT_FINITE),
        (unreachable | _vanished(value, size), Stop.RANGE),
        (size <= at.small, Stop.GRADIENT),
        (limits.max_iterations <= none, Stop.ITERATIONS),
    ]
    return at._replace(status=_first(rules))


def _advance(fun: Any, now: Progress, tx: GradientTransformation, args: Any, limits: Limits) -> Progress:
    value_fn = lambda x: fun(x, *args)  # noqa: E731
    # Downhill is against the conjugate of what jax.grad gives for a complex tensor.
    downhill = jax.tree.map(jnp.conj, now.grad)
    updates, state = tx.update(downhill, now.state, now.x, value=now.value, grad=now.grad, value_fn=value_fn)
    x = apply_updates(now.x, updates)
    # What the last stage evaluated is at x; what an earlier one did may be elsewhere.
    last = _last(tx, state)
    end = searches(last)
    value, grad = (end[0].value, end[0].grad) if end else _evaluate(fun, x, args)
    value = value.astype(now.value.dtype)
    tried = [jnp.int32(steps) for _, steps in get_all_with_path(state, "num_linesearch_steps")]
    evaluations = sum(tried, now.evaluations + (0 if end else 1))
    iterations = safe_increment(now.iterations)

    conditions = ("decrease_error", "curvature_error")
    missed = [error > 0 for name in conditions for _, error in get_all_with_path(state, name)]
    stuck = jnp.any(jnp.stack(missed)) & ~(value < now.value) if missed else jnp.zeros([], bool)
    finite = _finite(value, grad)
    size, step = largest_magnitude(grad), largest_magnitude(updates)
    moved = step > 0
    scale = jnp.maximum(jnp.abs(value), jnp.abs(now.value))
    same = ~_lacks_digits(scale) & (jnp.abs(value - now.value) <= limits.value_tolerance * scale)
    status = _first(
        [
            (~finite, Stop.NOT_FINITE),
            (_vanished(value, size), Stop.RANGE),
            (size <= now.small, Stop.GRADIENT),
            (stuck, Stop.NO_LOWER),
            (~moved & (size > 0) & bool(last), Stop.RANGE),
            ((moved | bool(last)) & (step <= limits.step_tolerance), Stop.STEP),
            (moved & same, Stop.VALUE),
            (iterations >= limits.max_iterations, Stop.ITERATIONS),
            (evaluations >= limits.max_evaluations, Stop.EVALUATIONS),
        ]
    )
    good = finite & ~stuck
    kept = jax.tree.map(
        lambda new, old: jnp.where(good, new, old), (x, value, grad), (now.x, now.value, now.grad)
    )
    x, value, grad = kept
    return Progress(x, value, grad, state, now.small, iterations, evaluations, status)


def _last(tx: GradientTransformation, state: State) -> State:
    """The state of what runs last: of another library's chain, the last one in it."""
    state = tx.unpack(state)[-1]
    while type(state) is tuple and state:
        state = state[-1]
    return state if hasattr(state, "value") else ()


_run_compiled = CompiledFor(_run)
_advance_compiled = CompiledFor(_advance)


def _evaluate(fun: Any, x: Params, args: Any) -> tuple[Array, Updates]:
    value, grad = jax.value_and_grad(_scalar(fun))(x, *args)
    return jnp.asarray(value, at_least_float32(value.dtype)), filled(grad, x)


def _scalar(fun: Any) -> Any:
    def checked(x: Params, *args: Any) -> Array:
        value = fun(x, *args)
        errors.check_scalar("minimize", "what fun returns", value)
        return value

    return checked


def _first(rules: list[tuple[Array, Stop]]) -> Array:
    """The status of the first rule that holds."""
    holds, statuses = zip(*rules, strict=True)
    return jnp.select(list(holds), [jnp.int32(status) for status in statuses], jnp.int32(Stop.RUNNING))


def _finite(value: Array, grad: Updates) -> Array:
    return jnp.isfinite(value) & jnp.isfinite(largest_magnitude(grad))


def _lacks_digits(x: Array) -> Array:
    """Whether x is so small that its dtype has no numbers as near to it as its last digit."""
    digits = jnp.finfo(x.dtype)
    return jnp.abs(x) < digits.tiny / digits.eps


def _vanished(value: Array, size: Array) -> Array:
    """Whether a gradient of 0 may have been too small: the value nearly is."""
    return (size == 0) & (value != 0) & _lacks_digits(value)


def _result(now: Progress) -> MinimizeResult:
    success = (now.status >= Stop.GRADIENT) & (now.status <= Stop.VALUE)
    return MinimizeResult(
        now.x, now.value, largest_magnitude(now.grad), now.iterations, now.evaluations, success, now.status
    )

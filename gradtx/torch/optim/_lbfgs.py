"""L-BFGS, and its state as PyTorch saves it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.cond import cond
from gradtx.arrays.errors import is_none
from gradtx.arrays.loops import while_loop
from gradtx.arrays.numerics import as_complex, as_real, at_least_float32, cast, largest, safe_increment
from gradtx.arrays.trees import dot
from gradtx.arrays.types import Array, Params
from gradtx.arrays.varying import varied_as_value
from gradtx.arrays.vectors import as_vector, pieces
from gradtx.core.treewise import treewise
from gradtx.torch.optim._domains import LearningRate
from gradtx.torch.optim._strong_wolfe import Point, strong_wolfe
from gradtx.transforms.quasi_newton import inverse_hessian_times
from gradtx.values.domains import Count, Number, Static


class LBFGSState(NamedTuple):
    """What L-BFGS remembers, under PyTorch's names; vectors hold the n numbers of all params.

    func_evals, n_iter: int32 scalars, evaluations and inner iterations so far;
    d, t: direction, of shape (n,), and step size of the last iteration;
    old_dirs, old_stps, ro: a ring of the pairs that are kept, of shapes (history_size, n) twice and
    (history_size,): changes y of the gradient, steps s, and 1 / y·s;
    H_diag: the first approximation of the inverse Hessian, a multiple of the identity;
    prev_flat_grad, prev_loss: gradient, of shape (n,), and loss at which the last iteration began;
    num_old, newest: int32 scalars, how many pairs are kept, and the row of the newest;
    orig_loss: the loss at which the last update began, which PyTorch's `step` returns.
    """

    func_evals: Array
    n_iter: Array
    d: Array
    t: Array
    old_dirs: Array
    old_stps: Array
    ro: Array
    H_diag: Array
    prev_flat_grad: Array
    prev_loss: Array
    num_old: Array
    newest: Array
    orig_loss: Array


class Progress(NamedTuple):
    """Where the inner iterations of one update stand: at x, with its loss and gradient."""

    x: Array
    loss: Array
    grad: Array
    state: LBFGSState
    iterations: Array
    evals: Array
    done: Array


@treewise(state=LBFGSState, others="refused")
def lbfgs(
    lr: LearningRate = 1,
    max_iter: Static[int] = 20,
    max_eval: Static[int | None] = None,
    tolerance_grad: Number = 1e-7,
    tolerance_change: Number = 1e-9,
    history_size: Count = 100,
    line_search_fn: str | None = None,
):
    """PyTorch's L-BFGS: up to `max_iter` quasi-Newton iterations in each update.

    An iteration moves x along d = −H·g by t·d. With s the last step and y the change of the gradient
    over it, H is built from the last `history_size` pairs with y·s > 1e-10, by the two-loop recursion,
    on top of (y·s / y·y)·I of the newest pair. t is lr, in the very first iteration
    min(1, 1 / ‖g‖₁)·lr; the line search starts from there.

    ``update(updates, state, params, value_fn=f)`` evaluates ``f(params)``, a real scalar, and its
    gradient by itself, as often as it needs to: for a mini-batch, pass a function of that batch. The
    incoming updates are not looked at, save that where they are None the param stays: any tree like
    the params will do. Call it inside `jit`: outside, its loops are compiled anew by each call.

    The state has 2·history_size + 2 times the size of the params from the start. Vectors are float32
    for half-precision params; complex params count as pairs of real ones.

    Args:
        lr: the step size, at least 0.
        max_iter: inner iterations per update.
        max_eval: evaluations per update after which no further iteration begins. Default: max_iter·5/4.
        tolerance_grad: an update ends where no number of the gradient is larger.
        tolerance_change: an update ends where the loss changes by less, or no number of a step is larger.
        history_size: how many pairs are kept.
        line_search_fn: ``"strong_wolfe"``, or None for steps of length lr.

    Raises:
        RuntimeError: for another `line_search_fn`.

    Source: Nocedal and Wright, Numerical optimization, algorithms 7.4 and 7.5; Schmidt, minFunc, 2005.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> from gradtx.torch import optim
        >>> tx = optim.lbfgs(line_search_fn="strong_wolfe")
        >>> f = lambda x: jnp.sum((x[1:] - x[:-1] ** 2) ** 2) + jnp.sum((1 - x) ** 2)
        >>> x = jnp.array([-1.0, 2.0])
        >>> updates, state = jax.jit(lambda x, state: tx.update(x, state, x, value_fn=f))(x, tx.init(x))
        >>> print(gradtx.apply_updates(x, updates).round(3), state.orig_loss)
        [1. 1.] 6.0
    """
    if line_search_fn not in (None, "strong_wolfe"):
        raise RuntimeError(f"only 'strong_wolfe' is supported, or None; got {line_search_fn!r}")
    eval_limit = max_iter * 5 // 4 if max_eval is None else max_eval

    def init(params):
        x = jax.eval_shape(flattened, params)
        vector, history = jnp.zeros(x.shape, x.dtype), jnp.zeros((history_size, x.size), x.dtype)
        zero, none = jnp.zeros([], x.dtype), jnp.zeros([], jnp.int32)
        return LBFGSState(
            func_evals=none,
            n_iter=jnp.copy(none),
            d=vector,
            t=zero,
            old_dirs=history,
            old_stps=jnp.copy(history),
            ro=jnp.zeros(history_size, x.dtype),
            H_diag=jnp.ones_like(zero),
            prev_flat_grad=jnp.copy(vector),
            prev_loss=jnp.copy(zero),
            num_old=jnp.copy(none),
            newest=none - 1,
            orig_loss=jnp.copy(zero),
        )

    def update(updates, state, params, *, value_fn: Callable[[Params], Array]):
        def value_at(x):
            hold = lambda update, param: jax.lax.stop_gradient(param) if update is None else param  # noqa: E731
            return value_fn(jax.tree.map(hold, updates, unflattened(x, params), is_leaf=is_none))

        def evaluate(x):
            loss, grad = jax.value_and_grad(value_at)(x)
            return loss.astype(x.dtype), grad

        def moved(x, t, d):
            # Through the tree, so that x is what the params can hold.
            return flattened(unflattened(x + t * d, params))

        def iterate(now: Progress) -> Progress:
            loss, grad = now.loss, now.grad
            state = remember(now.state, grad)
            n_iter, d = safe_increment(state.n_iter), direction(state, grad)
            shrink = 1 / jnp.sum(jnp.abs(grad))
            t = jnp.where((n_iter == 1) & (shrink < 1), shrink, 1) * jnp.asarray(lr, grad.dtype)
            slope = dot(grad, d)
            state = state._replace(n_iter=n_iter, d=d, t=t, prev_flat_grad=grad, prev_loss=loss)
            now = now._replace(state=state, iterations=now.iterations + 1)
            halt = now._replace(done=jnp.ones_like(now.done))
            return cond(slope > -tolerance_change, lambda: halt, lambda: advance(now, slope))

        def advance(now: Progress, slope: Array) -> Progress:
            x, t, d = now.x, now.state.t, now.state.d
            if line_search_fn is None:
                x = moved(x, t, d)
                # After the last iteration nobody looks: the next update evaluates on its own batch.
                again = now.iterations < max_iter
                loss, grad = cond(again, lambda: evaluate(x), lambda: (now.loss, now.grad))
                evals = again.astype(jnp.int32)
            else:

                def probe(t):
                    loss, grad = evaluate(moved(now.x, t, d))
                    return Point(t, loss, grad, dot(grad, d))

                start = Point(jnp.zeros_like(t), now.loss, now.grad, slope)
                found, evals = strong_wolfe(
                    probe, start, t, largest(d), tolerance_change, eval_limit - now.evals
                )
                t, loss, grad, _ = found
                x = moved(x, t, d)
            evals = now.evals + evals
            done = (
                (now.iterations >= max_iter)
                | (evals >= eval_limit)
                | (largest(grad) <= tolerance_grad)
                | (largest(t * d) <= tolerance_change)
                | (jnp.abs(loss - now.state.prev_loss) < tolerance_change)
            )
            return Progress(x, loss, grad, now.state._replace(t=t), now.iterations, evals, done)

        x = varied_as_value(value_at, flattened(params))
        loss, grad = evaluate(x)
        state = state._replace(orig_loss=loss)
        none = jnp.zeros([], jnp.int32)
        done = (largest(grad) <= tolerance_grad) | (max_iter <= 0)
        first = Progress(x, loss, grad, state, none, none + 1, done)
        end = while_loop(lambda now: ~now.done, iterate, first)
        steps = jax.tree.map(step_to, updates, unflattened(end.x, params), params, is_leaf=is_none)
        return steps, end.state._replace(func_evals=state.func_evals + end.evals)

    return init, update


def remember(state: LBFGSState, grad: Array) -> LBFGSState:
    """The state with the pair of the last iteration in it, if the curvature along it is positive.

    In the first iteration the last step is 0, and there is no pair.
    """
    y, s = grad - state.prev_flat_grad, state.d * state.t
    ys = dot(y, s)
    curved = ys > 1e-10
    rows = state.ro.size
    row = (state.newest + 1) % rows

    def put(ring, new):
        return ring.at[row].set(jnp.where(curved, new, ring[row]))

    return state._replace(
        old_dirs=put(state.old_dirs, y),
        old_stps=put(state.old_stps, s),
        ro=put(state.ro, 1 / ys),
        H_diag=jnp.where(curved, ys / dot(y, y), state.H_diag),
        num_old=jnp.where(curved, jnp.minimum(state.num_old + 1, rows), state.num_old),
        newest=jnp.where(curved, row, state.newest),
    )


def direction(state: LBFGSState, grad: Array) -> Array:
    """−H·g."""
    steps, changes, newest = state.old_stps, state.old_dirs, state.newest
    return inverse_hessian_times(-grad, steps, changes, state.ro, [state.H_diag], newest, state.num_old)


def flattened(tree: Params) -> Array:
    """All numbers of a tree, leaf by leaf, as one vector in at least float32; complex ones as pairs."""
    leaves = [as_real(jnp.asarray(leaf)) for leaf in jax.tree.leaves(tree)]
    dtype = at_least_float32(*(leaf.dtype for leaf in leaves))
    return as_vector([leaf.astype(dtype) for leaf in leaves]) if leaves else jnp.zeros(0, dtype)


def unflattened(vector: Array, like: Params) -> Params:
    """The tree that `flattened` made this vector of, in the shapes and dtypes of another."""
    leaves, treedef = jax.tree.flatten(like)
    real = pieces(vector, [as_real(jnp.asarray(leaf)) for leaf in leaves])
    return treedef.unflatten(map(_as_held, real, map(jnp.asarray, leaves)))


def _as_held(numbers: Array, like: Array) -> Array:
    return (as_complex(numbers) if jnp.iscomplexobj(like) else numbers).astype(like.dtype)


def step_to(update: Array | None, new: Array, param: Array) -> Array | None:
    """What to add to a param, in at least float32; None where there is no update."""
    if update is None:
        return None
    dtype = at_least_float32(new.dtype)
    return cast(new, dtype) - jnp.asarray(param, dtype)


# --- PyTorch's state --------------------------------------------------------------------------------

COUNTS = ("func_evals", "n_iter")
VECTORS = ("d", "prev_flat_grad")
NUMBERS = ("t", "H_diag", "prev_loss")
RINGS = ("old_dirs", "old_stps", "ro")
SCRATCH = "al"


def to_torch_state(state: LBFGSState) -> dict[str, Any]:
    """The state as ``torch.optim.LBFGS`` has it after the same steps, under its first param.

    Args:
        state: a concrete state of `lbfgs`.

    Returns:
        PyTorch's entries, as NumPy arrays, lists of them from the oldest pair to the newest, and Python
        numbers; empty before the first step.
    """
    host = jax.tree.map(np.array, state)
    if host.func_evals == 0:
        return {}
    counts = {name: int(getattr(host, name)) for name in COUNTS}
    if host.n_iter == 0:
        return counts
    rows = [(host.newest - age) % host.ro.size for age in reversed(range(host.num_old))]
    vectors = {name: getattr(host, name) for name in VECTORS}
    rings = {name: [np.array(getattr(host, name)[row]) for row in rows] for name in RINGS}
    numbers = {"t": float(host.t), "H_diag": host.H_diag if rows else 1, "prev_loss": float(host.prev_loss)}
    # PyTorch makes its scratch in the second iteration.
    scratch = {SCRATCH: [None] * host.ro.size} if host.n_iter > 1 else {}
    return {**counts, **vectors, **rings, **numbers, **scratch}


def from_torch_state(entries: Mapping[str, Any], state: LBFGSState) -> LBFGSState:
    """The state of `lbfgs` that goes on from one of ``torch.optim.LBFGS``.

    Args:
        entries: what PyTorch has under the first param: arrays of any kind that NumPy reads.
        state: a state for the same params, whose sizes and dtypes count.

    Returns:
        A new state; its `orig_loss`, which PyTorch does not keep, is that of `state`.

    Raises:
        ValueError: listing what is missing, unexpected, of another size, or too long for history_size.
    """
    problems = list(_problems(entries, state))
    if problems:
        raise ValueError("\n  ".join(["lbfgs: this is not its state; nothing was loaded:", *problems]))
    given = {name: entries[name] for name in _wanted(entries)}
    held = len(given.get("ro", ()))
    fresh: dict[str, Any] = {name: np.zeros(x.shape, x.dtype) for name, x in state._asdict().items()}
    fresh |= {"H_diag": 1, "num_old": held, "newest": held - 1, "orig_loss": state.orig_loss}
    for name, entry in given.items():
        if name not in RINGS:
            fresh[name] = np.asarray(entry)
            continue
        for row, x in enumerate(entry):
            fresh[name][row] = np.asarray(x)
    return LBFGSState(**{name: jnp.array(fresh[name], x.dtype) for name, x in state._asdict().items()})


def _wanted(entries: Mapping[str, Any]) -> tuple[str, ...]:
    """What PyTorch's entries must have: nothing before the first step, little before any iteration."""
    if not entries:
        return ()
    return COUNTS if entries.get("n_iter") == 0 else COUNTS + VECTORS + NUMBERS + RINGS


def _problems(entries: Mapping[str, Any], state: LBFGSState) -> Iterator[str]:
    """What is wrong with PyTorch's entries, in words."""
    known = {*COUNTS, *VECTORS, *NUMBERS, *RINGS, SCRATCH}
    yield from (f"{name} is unexpected" for name in entries if name not in known)
    held = {}
    for name in _wanted(entries):
        entry, like = entries.get(name), getattr(state, name)
        if entry is None:
            yield f"{name} is missing"
        elif name not in RINGS:
            yield from _misfit(name, entry, like.shape, like.dtype)
        elif not isinstance(entry, list | tuple):
            yield f"{name} is a {type(entry).__name__}, not a list"
        else:
            held[name] = len(entry)
            if len(entry) > len(like):
                yield f"{name} has {len(entry)} entries, history_size is {len(like)}"
            for i, x in enumerate(entry):
                yield from _misfit(f"{name}[{i}]", x, like.shape[1:], like.dtype)
    if len(set(held.values())) > 1:
        yield f"the lists are of different lengths: {held}"


def _misfit(name: str, entry: Any, shape: tuple[int, ...], dtype: Any) -> Iterator[str]:
    entry = np.asarray(entry)
    kind = jnp.integer if jnp.issubdtype(dtype, jnp.integer) else jnp.number
    if entry.shape != shape:
        yield f"{name} has shape {entry.shape}, for these params it is {shape}"
    elif not jnp.issubdtype(entry.dtype, kind):
        yield f"{name} is {entry.dtype}, not {dtype}"

"""What rows of `table.py` are given: schedules, selectors, objectives, and wrappers that pass arguments on.

Module-level functions all, so that the repr of a value that holds one can be evaluated.
"""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from gradtx.matrix.kron import normal

DRAWS_ANEW = "GRADTX_DRAW_ANEW" in os.environ
"""Whether the many random examples of `make test-extra` are others each time; otherwise always the same."""


def schedule(library: Any) -> Any:
    """The schedule of the rows that have one; exact also in float32, which Optax schedules compute in."""
    return library.linear_schedule(0.5, 0.25, 4)


def at(count: int) -> float:
    """The same, by hand."""
    return 0.5 - 0.0625 * min(count, 4)


def half_for(leaf: Any) -> float:
    """A factor, for each param the same."""
    del leaf
    return 0.5


def by_rank(path: str, leaf: Any) -> str:
    """A selector: matrices, and the rest."""
    return "matrix" if np.ndim(leaf) == 2 else "rest"


def on_even_steps(step: Any) -> Any:
    """A condition: the first step, the third, ..."""
    return step % 2 == 0


def towards_one(count: Any, power: Any) -> Any:
    """A decay for `scale_by_factored_rms`: that of a mean over all updates, then over the last hundred."""
    return jnp.minimum(1 - 1 / (count + 1.0), 0.99)


@gradtx.treewise()
def told(make: Callable[[], Any], value: float):
    """What a factory makes without arguments, always told this value."""
    inner = make()

    def update(updates, state, params):
        return inner.update(updates, state, params, value=value)

    return inner.init, update


def exact_variance() -> gradtx.GradientTransformation:
    """The stage that asks for the gradient at the params before."""
    return gradtx.reduce_variance(0.5, 0.9, 2.0, exact=True)


@gradtx.treewise()
def with_halves(make: Callable[[], Any], name: str):
    """What a factory makes without arguments, always given half the updates under this name."""
    inner = make()

    def update(updates, state, params=None):
        return inner.update(updates, state, params, **{name: halves(updates, params)})

    return inner.init, update


def without_givens(tx: Any) -> Any:
    """What is in these wrappers."""
    while tx.name in ("told", "with_halves", "with_quartic", "one_example", "one_axis_more"):
        tx = tx.arguments["make"]() if "make" in tx.arguments else tx.arguments["inner"]
    return tx


@gradtx.treewise()
def one_example(inner: gradtx.GradientTransformation):
    """A transformation of gradients per example, for a batch of one."""

    def update(updates, state, params=None):
        return inner.update(jax.tree.map(lambda g: g[None], updates), state, params)

    return inner.init, update


def halves(updates: Any, params: Any) -> Any:
    """Half of every update."""
    return jax.tree.map(lambda g: g / 2, updates)


def towards_params(grad: Any, param: Any) -> Any:
    """The update, and a tenth of the param where there is one."""
    return grad if param is None else grad + 0.1 * param


def quartic(params: Any) -> Any:
    """The sum of fourth powers, whose Hessian is diagonal."""
    return sum((jnp.sum(x**4) for x in jax.tree.leaves(params)), start=0.0)


@gradtx.treewise()
def with_quartic(make: Callable[[], Any]):
    """What a factory makes without arguments, always given this objective and its gradients."""
    inner = make()

    def update(updates, state, params):
        gradients = lambda params, i: jax.grad(quartic)(params)  # noqa: E731
        return inner.update(updates, state, params, obj_fn=quartic, grad_fn=gradients)

    return inner.init, update


def sophia() -> gradtx.GradientTransformation:
    """The recipe, with all that it needs but the objective."""
    return gradtx.contrib.sophia(0.1, gamma=0.5, update_interval=3)


def opaque_sam() -> gradtx.GradientTransformation:
    """Two steps uphill, then one down, in one update; the gradients are asked for."""
    ascent = gradtx.chain(gradtx.contrib.normalize(), gradtx.sgd(0.05))
    return gradtx.contrib.sam(gradtx.sgd(0.001), ascent, 3, opaque_mode=True)


@gradtx.treewise()
def one_axis_more(inner: gradtx.GradientTransformation):
    """A transformation of tensors with a last axis of size 1 more than the params have."""

    def more(tree):
        return jax.tree.map(lambda x: jnp.asarray(x)[..., None], tree)

    def update(updates, state, params):
        updates, state = inner.update(more(updates), state, more(params))
        return jax.tree.map(lambda u: u[..., 0], updates), state

    return lambda params: inner.init(more(params)), update


def heads(path: str, leaf: Any) -> Any:
    """Dimension numbers: tensors with three axes are matrices with the last two for columns, others none."""
    return gradtx.contrib.GaLoreDimensionNumbers(0, (1, 2)) if np.ndim(leaf) == 3 else None


def column_blocks(path: str, leaf: Any) -> str | None:
    """Blocks: one for each half of the columns of a matrix if it has halves; a vector is one."""
    return f"1 {2 - leaf.shape[1] % 2}" if np.ndim(leaf) == 2 else None


def rooted_adahessian() -> gradtx.GradientTransformation:
    """The recipe, with another power."""
    return gradtx.adahessian(0.1, hessian_power=0.5)


def projection(seed: int, rank: int) -> Callable[[int, int], np.ndarray]:
    """The projections that APOLLO draws for a tensor that is a tree of its own: its path is empty."""
    own = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 0), 0)
    key = jax.random.key(jax.random.bits(own, (), jnp.uint32))

    def drawn(epoch: int, side: int) -> np.ndarray:
        normal = jax.random.normal(jax.random.fold_in(key, epoch), (side, rank), jnp.float64)
        return np.asarray(normal) / np.sqrt(rank)

    return drawn


def probes(seed: int) -> Callable[[int, tuple[int, ...]], np.ndarray]:
    """The probes that Kron draws for a matrix that is a tree of its own."""
    own = jax.random.fold_in(jax.random.key(seed), 0)

    def drawn(step: int, shape: tuple[int, ...]) -> np.ndarray:
        key = jax.random.fold_in(jax.random.fold_in(own, step), 0)
        return np.asarray(normal(key, (1, *shape), jnp.float64))[0]

    return drawn


def in_half_of_the_steps(step: int) -> bool:
    """Whether a multiple of the golden ratio, modulo 1, lies below a half."""
    return step * 0.6180339887498949 % 1 < 0.5


def by_axes(path: str, leaf: Any) -> bool:
    """A mask: what has two axes."""
    return np.ndim(leaf) == 2


def cut(path: str, leaf: Any) -> Any:
    """Axes: tensors with two are matrices, whose columns are two halves if they are even; others none."""
    if np.ndim(leaf) != 2:
        return None
    return gradtx.MatrixAxes(0, 1, output_split=2 if leaf.shape[1] and leaf.shape[1] % 2 == 0 else None)


def norms(path: str, leaf: Any) -> Any:
    """Norms: the usual one, and of tensors with more than two axes their size."""
    return gradtx.LayerNorm("rms") if np.ndim(leaf) > 2 else None


def has_heads(leaf: Any) -> bool:
    """Whether the last of two axes or more can be two heads."""
    return np.ndim(leaf) > 1 and leaf.shape[-1] % 2 == 0 < leaf.shape[-1]


def queries(path: str, leaf: Any) -> Any:
    """A selector: what has two heads is of queries."""
    return "query" if has_heads(leaf) else None


def clipped_queries() -> gradtx.GradientTransformation:
    """Of two heads."""
    return gradtx.qk_clip(queries, 4.0)


@gradtx.treewise()
def with_logits(make: Callable[[], Any]):
    """What a factory makes without arguments, always told these largest logits of two heads."""
    inner = make()

    def update(updates, state, params):
        # Also of what has no heads: for a tree of one tensor, None would be no tree.
        largest = jax.tree.map(lambda x: jnp.array([16.0, 1.0]), params)
        return inner.update(updates, state, params, max_logits=largest)

    return inner.init, update


def without_loss_spikes() -> gradtx.GradientTransformation:
    """A guard of a loss and of a norm."""
    return gradtx.skip_spikes(gradtx.adam(0.1), 1.0, 10)

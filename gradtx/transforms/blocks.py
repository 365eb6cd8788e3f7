"""Blocks: second moments with one number for many numbers of a param (Adam-mini, Amos)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.numerics import (
    abs_sq,
    at_least_float32,
    debias,
    decay_towards,
    one_minus_power,
    real_dtype,
    safe_increment,
    sqrt,
)
from gradtx.arrays.select import Labels, leaf_paths, select
from gradtx.arrays.trees import advanced, mapped, widened, zeros
from gradtx.arrays.types import Array, Params, Selector
from gradtx.core.treewise import treewise
from gradtx.values.domains import Decay, NonNegative, Positive
from gradtx.values.parts import is_number


def block_counts(name: str, blocks: Selector | None, params: Params) -> list[tuple[int, ...]]:
    """How many blocks each param is cut into along each axis; one if nothing is said of it.

    Raises:
        ValueError: for what does not fit a param.
    """
    chosen = (
        [None] * len(leaf_paths(params)) if blocks is None else select(name, "blocks", blocks, params, None)
    )
    leaves = jax.tree.leaves(params, is_leaf=errors.is_none)
    each = zip(leaf_paths(params), leaves, chosen, strict=True)
    return [() if leaf is None else _counts_of(name, path, leaf.shape, one) for path, leaf, one in each]


def _counts_of(name: str, path: str, shape: tuple[int, ...], said: Any) -> tuple[int, ...]:
    if said is None:
        return (1,) * len(shape)
    words = said.split() if isinstance(said, str) else []
    if len(words) != len(shape) or not all(map(_divides, words, shape)):
        raise ValueError(
            f"{name}: blocks at {path}: for each axis of {shape} there must be a word, how many blocks there "
            f"are along it: a whole number that divides its length, or *, as many as it is long; got {said!r}"
        )
    return tuple(size if word == "*" else int(word) for word, size in zip(words, shape, strict=True))


def _divides(word: str, size: int) -> bool:
    return word == "*" or (word.isdecimal() and int(word) > 0 and size % int(word) == 0)


def block_mean(x: Array, counts: tuple[int, ...]) -> Array:
    """The mean of each block of a tensor, in a tensor of these lengths."""
    for axis in reversed(range(x.ndim)):
        n, size = counts[axis], x.shape[axis]
        if n == 1:
            x = jnp.sum(x, axis, keepdims=True) / max(size, 1)
        elif n != size:
            cut = x.reshape(*x.shape[:axis], n, size // n, *x.shape[axis + 1 :])
            x = jnp.mean(cut, axis + 1)
    return x


def over_blocks(means: Array, shape: tuple[int, ...]) -> Array:
    """For each number of a tensor that of its block, in a shape that broadcasts with the tensor's."""
    for axis, (n, size) in enumerate(zip(means.shape, shape, strict=True)):
        if n not in (1, size):
            means = jnp.repeat(means, size // n, axis)
    return means


def _for_blocks(name: str, blocks: Selector | None, params: Params) -> Params:
    """A tree like the params of zeros, one for each block."""

    def empty(counts: tuple[int, ...], param: Array | None) -> Array | None:
        # A mean, for its axes are sharded as those of the param.
        return None if param is None else jnp.zeros_like(block_mean(abs_sq(param), counts))

    counts = block_counts(name, blocks, params)
    return Labels.of_leaves(counts, params).map(empty, widened(params))


class ScaleByAdamMiniState(NamedTuple):
    """count: int32 scalar, updates so far; mu: a tree like the params, the first moment; nu: a tree of the
    second moments, as many for each param as it has blocks."""

    count: Array
    mu: Params
    nu: Params


@treewise(state=ScaleByAdamMiniState)
def scale_by_adam_mini(
    b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-8, blocks: Selector | None = None
):
    """Adam-mini's direction: Adam's, with one second moment for each block of a param.

    mₜ = b1·mₜ₋₁ + (1 − b1)·gₜ, number by number;  vₜ = b2·vₜ₋₁ + (1 − b2)·mean |gₜ|², block by block;
    the update is m̂ₜ / (√v̂ₜ + eps), debiased as in `scale_by_adam`.

    Args:
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moments, in [0, 1).
        eps: added to the root, at least 0.
        blocks: how many blocks there are along each axis of a param, as ``"1 8"``, with ``*`` for as many as
            the axis is long: by ``{pattern: "1 8"}`` or a function of ``(path, leaf)``. For kernels as Flax
            has them, (inputs, outputs), the authors take ``"1 8"`` for queries and keys of 8 heads; for
            values, projections and perceptrons ``"1 *"``, one for each output; and for embeddings,
            (tokens, width), ``"* 1"``. Default, also for params that nothing is said of: one block,
            as for norms and biases.

    Raises:
        ValueError: at `init`, for blocks that do not fit a param, and for a pattern that matches no path.

    Source: Zhang et al., Adam-mini: use fewer learning rates to gain more, arXiv:2406.16793.
    """

    def init(params):
        return ScaleByAdamMiniState(
            jnp.zeros([], jnp.int32), zeros(params), _for_blocks("scale_by_adam_mini", blocks, params)
        )

    def update(updates, state):
        def squares(grad, nu):
            return decay_towards(nu, block_mean(abs_sq(grad), nu.shape), b2)

        def direction(grad, mu, nu):
            root = sqrt(debias(nu, b2, count)) + eps
            return debias(mu, b1, count) / over_blocks(root, grad.shape)

        count = safe_increment(state.count)
        mu = advanced(lambda grad, old: decay_towards(old, grad, b1), updates, state.mu)
        nu = advanced(squares, updates, state.nu)
        return mapped(direction, updates, mu, nu), ScaleByAdamMiniState(count, mu, nu)

    return init, update


def _scale(scale: Any, param: Array | None) -> Array | None:
    return None if param is None else jnp.asarray(scale, at_least_float32(real_dtype(jnp.asarray(param))))


class ScaleByAmosState(NamedTuple):
    """count: int32 scalar, updates so far; v, b: trees with a number for each block of a param, the mean
    square of gradients and how far the learning rate has decayed."""

    count: Array
    v: Params
    b: Params


@treewise(state=ScaleByAmosState)
def scale_by_amos(
    learning_rate: NonNegative,
    eta: Selector = 1.0,
    blocks: Selector | None = None,
    beta: Decay = 0.999,
    zeta: NonNegative = 0.25,
    eps: Positive = 2.0**-125,
):
    """Amos's update: Adam-like steps and weight decay, both of which fade so that params reach a known scale.

    With the learning rate ξ and, block by block, s = mean |gₜ|², vₜ = beta·vₜ₋₁ + (1 − beta)·s and
    v̂ = max(vₜ, eps) / (1 − betaᵗ):
    γ = ξ²·s / v̂ / √(1 + zeta·√ξ·b),  d = 1 / (1 + zeta·√(ξ·eta)·b);
    the update is −d·(ξ·eta·gₜ / √v̂ + γ/2·p), and b grows to b + γ·(1 + b).

    Args:
        learning_rate: ξ, about 1/√N for N batches of training data. A schedule may warm up, and need not
            decay.
        eta: the scale that the numbers of a param come to have: one for all, or ``{pattern: scale}`` or a
            function of ``(path, leaf)``; where nothing is said it is 1. The paper: 1 for norms and
            biases, 1/√width for embeddings, √(2/inputs) for kernels.
        blocks: as in `scale_by_adam_mini`. The paper takes one for each output of a kernel, and one for each
            token of an embedding.
        beta: decay of the mean square, in [0, 1): 1 − beta is about the learning rate.
        zeta: how fast steps and decay fade.
        eps: lower bound of the mean square.

    Raises:
        ValueError: at `init`, for blocks that do not fit a param, for a scale that is not above 0, and for a
            pattern that matches no path.

    Source: Tian and Parikh, Amos: an Adam-style optimizer with adaptive weight decay towards model-oriented
    scale, arXiv:2210.11693.
    """
    name = "scale_by_amos"

    def scales(params):
        found = select(name, "eta", eta, params, 1.0)
        for path, scale in zip(leaf_paths(params), found, strict=True):
            if is_number(scale) and not scale > 0:
                raise ValueError(f"{name}: eta at {path} must be above 0, got {scale!r}")
        return Labels.of_leaves(found, params).map(_scale, params)

    def init(params):
        scales(params)  # what is wrong with them shows here
        v, b = (_for_blocks(name, blocks, params) for _ in range(2))
        return ScaleByAmosState(jnp.zeros([], jnp.int32), v, b)

    def update(updates, state, params):
        def mean_square(grad, v):
            return decay_towards(v, block_mean(abs_sq(grad), v.shape), beta)

        def decay_rate(grad, v, b):
            share = learning_rate**2 * block_mean(abs_sq(grad), v.shape) * inverse_root(v) ** 2
            return share / sqrt(1 + zeta * sqrt(learning_rate) * b)

        def inverse_root(v):
            # A quotient by the square would have no derivative in float32: v may be as small as eps.
            return 1 / sqrt(jnp.maximum(v, eps) / one_minus_power(beta, count.astype(v.dtype)))

        def step(grad, v, b, gamma, scale, param):
            rate = learning_rate * scale
            d, over = 1 / (1 + zeta * sqrt(rate) * b), lambda x: over_blocks(x, grad.shape)
            return -over(d) * (over(rate * inverse_root(v)) * grad + over(gamma / 2) * param)

        count = safe_increment(state.count)
        v = advanced(mean_square, updates, state.v)
        gamma = mapped(decay_rate, updates, v, state.b)
        new = mapped(step, updates, v, state.b, gamma, scales(params), widened(params))
        b = mapped(lambda _, b, gamma: b + gamma * (1 + b), updates, state.b, gamma, otherwise=state.b)
        return new, ScaleByAmosState(count, v, b)

    return init, update

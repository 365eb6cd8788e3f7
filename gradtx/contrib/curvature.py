"""Sophia: momentum over an estimate of the Hessian's diagonal."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.cond import cond
from gradtx.arrays.numerics import debias, decay_towards, safe_increment
from gradtx.arrays.trees import advanced, mapped, widened, zeros
from gradtx.arrays.types import Array, Params, Selector, State
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation, InnerStates, check_transformation
from gradtx.core.treewise import treewise
from gradtx.linear_algebra.hutchinson import hutchinson_diagonal
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.noise import as_key
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.domains import AtLeastOne, Decay, DType, NonNegative, Number, Positive


class HutchinsonState(NamedTuple):
    """key: a JAX key, as it was given; of a seed, the bits of one, a uint32 vector."""

    key: Array


@treewise(state=HutchinsonState)
def hutchinson_estimator_diag_hessian(random_seed: Array | int = 0):
    """Replace updates by an estimate of the diagonal of the objective's Hessian at the params.

    The estimate is r·(H r) with random signs r: right on average, and exact for a diagonal Hessian. It
    needs the objective, a function of the params: ``tx.update(grads, state, params, obj_fn=loss)``.

    Args:
        random_seed: a seed, or a JAX key of either kind.

    Raises:
        TypeError: at `update`, if it is called without ``obj_fn``.

    Source: Hutchinson, A stochastic estimator of the trace of the influence matrix, 1990.
    """

    def init(params):
        del params
        if np.ndim(random_seed):
            return HutchinsonState(jnp.copy(random_seed))
        key = as_key("contrib.hutchinson_estimator_diag_hessian", "random_seed", random_seed)
        is_key = isinstance(random_seed, jax.Array) and random_seed.dtype == key.dtype
        # Bits, as Optax keeps them: what writes files of states knows no other kind.
        return HutchinsonState(key if is_key else jax.random.key_data(key))

    def update(updates, state, params, *, obj_fn):
        key, sample_key = jax.random.split(state.key)
        estimate = hutchinson_diagonal(obj_fn, params, sample_key)
        return mapped(lambda _, h: h, updates, estimate), HutchinsonState(key)

    return init, update


class SophiaState(NamedTuple):
    """count: int32 scalar, updates so far; mu, nu: trees like the params, the means of gradients and of the
    Hessian's diagonal; hessian_fn_state: the state of what estimates it."""

    count: Array
    mu: Params
    nu: Params
    hessian_fn_state: State


def _hessian_state(arguments: Mapping[str, Any], state: State) -> InnerStates:
    return {"hessian_fn_state": [(arguments["hessian_diagonal_fn"], state.hessian_fn_state)]}


HUTCHINSON = hutchinson_estimator_diag_hessian()


@treewise(state=SophiaState, inner_states=_hessian_state)
def scale_by_sophia(
    b1: Decay = 0.965,
    b2: Decay = 0.99,
    eps: Positive = 1e-8,
    gamma: NonNegative = 0.01,
    clip_threshold: NonNegative | None = 1.0,
    update_interval: AtLeastOne = 10,
    hessian_diagonal_fn: GradientTransformation = HUTCHINSON,
    mu_dtype: DType = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: NonNegative = 0,
):
    """Sophia's direction: the mean of gradients over that of the Hessian's diagonal, clipped.

    m = b1·m + (1 − b1)·g; the update is clip(m / (1 − b1ᵗ) / max(gamma·h, eps), ±clip_threshold); then at
    every update_interval-th update, from the first on, h = b2·h + (1 − b2)·estimate.

    Args:
        b1: decay of the mean of gradients, in [0, 1).
        b2: decay of that of the diagonal, in [0, 1).
        eps: lower bound of the divisor, above 0.
        gamma: factor of the diagonal.
        clip_threshold: the largest magnitude; with None nothing is clipped.
        update_interval: how often the diagonal is estimated, at least 1.
        hessian_diagonal_fn: a transformation that makes the estimate of the gradients. Default:
            `hutchinson_estimator_diag_hessian`, which needs ``obj_fn=`` at every `update`.
        mu_dtype: dtype of the mean of gradients. Default: the params', at least float32.
        verbose: whether to print the share of numbers that are not clipped, ...
        print_win_rate_every_n_steps: ... and how often. The authors advise a gamma that makes it 0.1 to 0.5.

    Source: Liu et al., Sophia, arXiv:2305.14342.
    """
    check_transformation("contrib.scale_by_sophia", "hessian_diagonal_fn", hessian_diagonal_fn)

    def init(params):
        return SophiaState(
            count=jnp.zeros([], jnp.int32),
            mu=jax.tree.map(lambda x: x.astype(mu_dtype or x.dtype), zeros(params)),
            nu=zeros(params),
            hessian_fn_state=hessian_diagonal_fn.init(params),
        )

    def update(updates, state, params, **extra):
        def estimate(hessian_state, nu):
            diagonal, hessian_state = hessian_diagonal_fn.update(updates, hessian_state, params, **extra)
            return hessian_state, advanced(
                lambda h, old: decay_towards(old, h.astype(old.dtype), b2), diagonal, nu
            )

        def keep(hessian_state, nu):
            return hessian_state, nu

        count = safe_increment(state.count)
        mu = advanced(lambda g, m: decay_towards(m, g, b1), updates, widened(state.mu))
        new = mapped(
            lambda _, m, h: debias(m, b1, count) / jnp.maximum(gamma * h, eps), updates, mu, state.nu
        )
        if clip_threshold is not None:
            if verbose:
                _print_win_rate(new, clip_threshold, count, print_win_rate_every_n_steps)
            clipped = partial(jnp.clip, min=-clip_threshold, max=clip_threshold)
            new = mapped(clipped, new)
        due = state.count % update_interval == 0
        hessian_state, nu = cond(due, estimate, keep, state.hessian_fn_state, state.nu)
        return new, SophiaState(count, mu, nu, hessian_state)

    return init, update


def _print_win_rate(updates: Any, threshold: Any, count: Array, every: Any) -> None:
    within = [jnp.mean(jnp.abs(u) < threshold) * u.size for u in jax.tree.leaves(updates)]
    rate = sum(within) / max(sum(u.size for u in jax.tree.leaves(updates)), 1)
    due = (every > 0) & (count % jnp.maximum(every, 1) == 0)
    cond(due, lambda: jax.debug.print("contrib.sophia: win rate {}", rate), lambda: None)


@recipe
def sophia(
    learning_rate: Number,
    b1: Decay = 0.965,
    b2: Decay = 0.99,
    eps: Positive = 1e-8,
    weight_decay: Number = 1e-4,
    weight_decay_mask: Selector | None = None,
    gamma: NonNegative = 0.01,
    clip_threshold: NonNegative | None = 1.0,
    update_interval: AtLeastOne = 10,
    hessian_diagonal_fn: GradientTransformation = HUTCHINSON,
    mu_dtype: DType = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: NonNegative = 0,
) -> GradientTransformation:
    """Sophia: clipped steps, each the longer the flatter the objective is in its coordinate.

    p ← p − learning_rate·(clip(m̂ / max(gamma·h, eps), ±clip_threshold) + weight_decay·p), where h is the
    mean of the Hessian's diagonal, as in `scale_by_sophia`.

    It needs the objective, a function of the params: ``tx.update(grads, state, params, obj_fn=loss)``.

    Args:
        learning_rate: the step size.
        b1, b2, eps, gamma, clip_threshold, update_interval: as in `scale_by_sophia`.
        hessian_diagonal_fn, mu_dtype, verbose, print_win_rate_every_n_steps: as there too.
        weight_decay: strength of the decoupled weight decay.
        weight_decay_mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Liu et al., Sophia, arXiv:2305.14342.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.sophia(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params, obj_fn=lambda p: jnp.sum(p["w"] ** 2))
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    estimates = clip_threshold, update_interval, hessian_diagonal_fn, mu_dtype
    return chain(
        scale_by_sophia(b1, b2, eps, gamma, *estimates, verbose, print_win_rate_every_n_steps),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )

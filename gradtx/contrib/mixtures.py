"""AdEMAMix: Adam with a second, much slower mean; and its simplified form."""

from typing import NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, debias, decay_towards, real_like, sqrt
from gradtx.arrays.types import Array, Params, Selector
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import treewise
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.domains import Decay, DType, NonNegative, Number


class ScaleByAdemamixState(NamedTuple):
    """count, count_m2: int32 scalars, updates so far, both the same; m1, m2, nu: trees like the params, the
    fast and the slow mean and the second moment."""

    count: Array
    count_m2: Array
    m1: Params
    m2: Params
    nu: Params


class _Moments(NamedTuple):
    count: Array
    m1: Params
    m2: Params
    nu: Params


@leafwise(state=_Moments, name="contrib.scale_by_ademamix", elementwise=True, unsigned=("nu",))
def _scale_by_ademamix(b1: Decay, b2: Decay, b3: Decay, alpha: Number, eps, eps_root, mu_dtype: DType):
    def init(param):
        m1, m2 = (jnp.zeros_like(param, dtype=mu_dtype) for _ in range(2))
        return dict(m1=m1, m2=m2, nu=real_like(param))

    def update(grad, m1, m2, nu, step):
        m1 = decay_towards(m1, grad, b1)
        m2 = decay_towards(m2, grad, b3)
        nu = decay_towards(nu, abs_sq(grad), b2)
        root = sqrt(debias(nu, b2, step) + eps_root)
        return (debias(m1, b1, step) + alpha * m2) / (root + eps), dict(m1=m1, m2=m2, nu=nu)

    return init, update


@treewise(state=ScaleByAdemamixState, name="contrib.scale_by_ademamix", on_shards=True)
def _counted_twice(inner: GradientTransformation):
    def init(params):
        count, *moments = inner.init(params)
        return ScaleByAdemamixState(count, jnp.copy(count), *moments)

    def update(updates, state, params=None):
        held = _Moments(state.count, state.m1, state.m2, state.nu)
        updates, (count, *moments) = inner.update(updates, held, params)
        return updates, ScaleByAdemamixState(count, count, *moments)

    return init, update


@recipe
def scale_by_ademamix(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    b3: Decay = 0.9999,
    alpha: Number = 6.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
) -> GradientTransformation:
    """AdEMAMix's direction: Adam's, with a slow mean of the gradients added to the fast one.

    m1ₜ = b1·m1ₜ₋₁ + (1 − b1)·gₜ,  m2ₜ = b3·m2ₜ₋₁ + (1 − b3)·gₜ,  vₜ = b2·vₜ₋₁ + (1 − b2)·|gₜ|²;
    the update is (m1ₜ / (1 − b1ᵗ) + alpha·m2ₜ) / (√(vₜ / (1 − b2ᵗ) + eps_root) + eps). The slow mean is
    not debiased: it is meant to fill slowly.

    Args:
        b1: decay of the fast mean, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        b3: decay of the slow mean, in [0, 1); the paper lets it grow by a schedule.
        alpha: weight of the slow mean; the paper lets it grow by a schedule.
        eps: added to the root, at least 0.
        eps_root: added inside the root, at least 0; for derivatives through the optimizer.
        mu_dtype: dtype of the two means. Default: the params', at least float32.

    Source: Pagliardini et al., The AdEMAMix optimizer: better, faster, older, arXiv:2409.03137.
    """
    return _counted_twice(_scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root, mu_dtype))


@recipe
def ademamix(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    b3: Decay = 0.9999,
    alpha: Number = 5.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """AdEMAMix: AdamW with a second, much slower mean of the gradients.

    p ← p − learning_rate·((m̂ + alpha·n) / (√(v̂ + eps_root) + eps) + weight_decay·p), where n is a mean
    that decays by b3, as in `scale_by_ademamix`.

    Args:
        learning_rate: the step size.
        b1, b2, b3, alpha, eps, eps_root, mu_dtype: as in `scale_by_ademamix`.
        weight_decay: strength of the decay, which is multiplied by the learning rate.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Pagliardini et al., The AdEMAMix optimizer: better, faster, older, arXiv:2409.03137.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.ademamix(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    return chain(
        scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root, mu_dtype),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


class ScaleBySimplifiedAdEMAMixState(NamedTuple):
    """t: int32 scalar, updates so far; m, n: trees like the params, the sum of gradients, which decays, and
    the second moment."""

    t: Array
    m: Params
    n: Params


class _SumAndMoment(NamedTuple):
    count: Array
    m: Params
    n: Params


@leafwise(state=_SumAndMoment, name="contrib.scale_by_simplified_ademamix", elementwise=True, unsigned=("n",))
def _scale_by_simplified_ademamix(b1: Decay, b2: Decay, alpha: Number, eps, eps_root):
    def init(param):
        return dict(m=jnp.zeros_like(param), n=real_like(param))

    def update(grad, m, n, step):
        m = b1 * m + grad
        n = decay_towards(n, abs_sq(grad), b2)
        return (m + alpha * grad) / (sqrt(debias(n, b2, step) + eps_root) + eps), dict(m=m, n=n)

    return init, update


@treewise(state=ScaleBySimplifiedAdEMAMixState, name="contrib.scale_by_simplified_ademamix", on_shards=True)
def _counted_as_t(inner: GradientTransformation):
    def init(params):
        return ScaleBySimplifiedAdEMAMixState(*inner.init(params))

    def update(updates, state, params=None):
        updates, new = inner.update(updates, _SumAndMoment(*state), params)
        return updates, ScaleBySimplifiedAdEMAMixState(*new)

    return init, update


@recipe
def scale_by_simplified_ademamix(
    b1: Decay = 0.99,
    b2: Decay = 0.95,
    alpha: Number = 0.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
) -> GradientTransformation:
    """Simplified AdEMAMix's direction: a decaying sum of gradients in which the latest weighs more.

    mₜ = b1·mₜ₋₁ + gₜ,  nₜ = b2·nₜ₋₁ + (1 − b2)·|gₜ|²;
    the update is (mₜ + alpha·gₜ) / (√(nₜ / (1 − b2ᵗ) + eps_root) + eps).

    Args:
        b1: decay of the sum, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        alpha: extra weight of the latest gradient.
        eps: added to the root, at least 0.
        eps_root: added inside the root, at least 0; for derivatives through the optimizer.

    Source: Morwani et al., Connections between schedule-free optimizers, AdEMAMix, and accelerated SGD
    variants, arXiv:2502.02431.
    """
    return _counted_as_t(_scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root))


@recipe
def simplified_ademamix(
    learning_rate: Number,
    b1: Decay = 0.99,
    b2: Decay = 0.95,
    alpha: Number = 0.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """Simplified AdEMAMix: one sum of gradients instead of two means.

    p ← p − learning_rate·((m + alpha·g) / (√(v̂ + eps_root) + eps) + weight_decay·p) with m ← b1·m + g, as
    in `scale_by_simplified_ademamix`.

    The sum grows to 1 / (1 − b1) gradients: the learning rate is smaller than Adam's by that factor.

    Args:
        learning_rate: the step size.
        b1, b2, alpha, eps, eps_root: as in `scale_by_simplified_ademamix`.
        weight_decay: strength of the decay, which is multiplied by the learning rate.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Morwani et al., Connections between schedule-free optimizers, AdEMAMix, and accelerated SGD
    variants, arXiv:2502.02431.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.contrib.simplified_ademamix(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    return chain(
        scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

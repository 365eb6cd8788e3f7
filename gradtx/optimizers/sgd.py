"""Gradient descent and its relatives."""

from gradtx.arrays.types import Array, Selector
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.momentum import ema, trace
from gradtx.transforms.noise import add_noise
from gradtx.transforms.scaling import identity, scale_by_learning_rate
from gradtx.transforms.sign import scale_by_sign
from gradtx.values.domains import Decay, DType, NonNegative, Number


@recipe
def sgd(
    learning_rate: Number,
    momentum: Number | None = None,
    nesterov: bool = False,
    accumulator_dtype: DType = None,
) -> GradientTransformation:
    """Stochastic gradient descent, with momentum if it is given.

    p ← p − learning_rate·g; with momentum, b ← momentum·b + g and p ← p − learning_rate·b, as in `trace`.

    Args:
        learning_rate: the step size.
        momentum: decay of the momentum, usually 0.9. Default: none, and no state.
        nesterov: whether the momentum looks ahead.
        accumulator_dtype: dtype of the momentum. Default: the params', at least float32.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.sgd(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.05
    """
    direction = identity() if momentum is None else trace(momentum, nesterov, accumulator_dtype)
    return chain(direction, scale_by_learning_rate(learning_rate))


@recipe
def noisy_sgd(
    learning_rate: Number, eta: NonNegative = 0.01, gamma: Number = 0.55, key: Array | int = 0
) -> GradientTransformation:
    """Gradient descent with normal noise of variance eta / tᵞ on the gradients.

    p ← p − learning_rate·(g + ε) with normal ε of variance eta / tᵞ, as in `add_noise`.

    Args:
        learning_rate: the step size.
        eta: variance of the noise at the first update.
        gamma: how fast the variance falls.
        key: a seed, or a JAX key.

    Source: Neelakantan et al., Adding gradient noise improves learning, arXiv:1511.06807.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.noisy_sgd(0.1, eta=0.01), {"w": jnp.ones(1000)}
        >>> updates, state = tx.update(params, tx.init(params), params)
        >>> print(f"{jnp.std(updates['w']):.2f}")
        0.01
    """
    return chain(add_noise(eta, gamma, key), scale_by_learning_rate(learning_rate))


@recipe
def sign_sgd(learning_rate: Number) -> GradientTransformation:
    """Steps of one size in every coordinate, by the sign of the gradient.

    p ← p − learning_rate·sign(g), as in `scale_by_sign`.

    Args:
        learning_rate: the step size.

    Source: Bernstein et al., signSGD, arXiv:1802.04434.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.sign_sgd(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    return chain(scale_by_sign(), scale_by_learning_rate(learning_rate))


@recipe
def signum(
    learning_rate: Number, beta: Decay = 0.9, accumulator_dtype: DType = None
) -> GradientTransformation:
    """Steps of one size in every coordinate, by the sign of the averaged gradient.

    p ← p − learning_rate·sign(m) with m ← beta·m + (1 − beta)·g.

    Args:
        learning_rate: the step size.
        beta: decay of the average, in [0, 1).
        accumulator_dtype: dtype of the average. Default: the params', at least float32.

    Source: Bernstein et al., signSGD, arXiv:1802.04434.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.signum(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    average = ema(beta, debias=False, accumulator_dtype=accumulator_dtype)
    return chain(average, scale_by_sign(), scale_by_learning_rate(learning_rate))


@recipe
def tiger(
    learning_rate: Number, beta: Decay = 0.965, weight_decay: Number = 0.01, mask: Selector | None = None
) -> GradientTransformation:
    """Tiger: Lion with one decay for the direction and for what is remembered: Signum with weight decay.

    p ← p − learning_rate·(sign(m) + weight_decay·p) with m ← beta·m + (1 − beta)·g.

    Args:
        learning_rate: the step size.
        beta: decay of the average, in [0, 1).
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Su, Tiger: a tight-fisted optimizer, 2023, github.com/bojone/tiger.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.tiger(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.101 0.099
    """
    return chain(
        ema(beta, debias=False),
        scale_by_sign(),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

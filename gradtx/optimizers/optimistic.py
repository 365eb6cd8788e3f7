"""Optimistic gradients, for games and other problems with saddle points."""

from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.adaptive import scale_by_adam
from gradtx.transforms.differences import scale_by_optimistic_gradient
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.domains import Decay, DType, NonNegative, Number


@recipe
def optimistic_gradient_descent(
    learning_rate: Number, alpha: Number = 1.0, beta: Number = 1.0
) -> GradientTransformation:
    """Optimistic gradient descent: steps along the gradient and what it has changed by.

    p ← p − learning_rate·(alpha·gₜ + beta·(gₜ − gₜ₋₁)), as in `scale_by_optimistic_gradient`.

    Args:
        learning_rate: the step size.
        alpha, beta: as in `scale_by_optimistic_gradient`.

    Source: Mokhtari et al., A unified analysis of extra-gradient and optimistic gradient methods,
    arXiv:1901.08511.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.optimistic_gradient_descent(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.05
    """
    return chain(scale_by_optimistic_gradient(alpha, beta), scale_by_learning_rate(learning_rate))


@recipe
def optimistic_adam_v2(
    learning_rate: Number,
    *,
    alpha: Number = 1.0,
    beta: Number = 1.0,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
    nesterov: bool = True,
) -> GradientTransformation:
    """Optimistic Adam: steps along Adam's direction and what it has changed by.

    p ← p − learning_rate·(alpha·uₜ + beta·(uₜ − uₜ₋₁)), with the direction u of `scale_by_adam`, as in
    `scale_by_optimistic_gradient`.

    Args:
        learning_rate: the step size.
        alpha, beta: as in `scale_by_optimistic_gradient`.
        b1, b2, eps, eps_root, mu_dtype: as in `scale_by_adam`.
        nesterov: whether Adam looks ahead. Default: yes.

    Source: Daskalakis et al., Training GANs with optimism, arXiv:1711.00141.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.optimistic_adam_v2(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.147 0.147
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_optimistic_gradient(alpha, beta),
        scale_by_learning_rate(learning_rate),
    )


@recipe
def optimistic_adam(
    learning_rate: Number,
    optimism: Number | None = None,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
    *,
    nesterov: bool = True,
) -> GradientTransformation:
    """Optimistic Adam by two step sizes; `optimistic_adam_v2` has one, and weights.

    p ← p − learning_rate·uₜ − optimism·(uₜ − uₜ₋₁), with the direction u of `scale_by_adam`.

    Args:
        learning_rate: the step size along Adam's direction.
        optimism: the step size along what it has changed by. Default: the learning rate.
        b1, b2, eps, eps_root, mu_dtype: as in `scale_by_adam`.
        nesterov: whether Adam looks ahead. Default: yes.

    Source: Daskalakis et al., Training GANs with optimism, arXiv:1711.00141.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.optimistic_adam(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.147 0.147
    """
    return optimistic_adam_v2(
        1.0,
        alpha=learning_rate,
        beta=learning_rate if optimism is None else optimism,
        b1=b1,
        b2=b2,
        eps=eps,
        eps_root=eps_root,
        mu_dtype=mu_dtype,
        nesterov=nesterov,
    )

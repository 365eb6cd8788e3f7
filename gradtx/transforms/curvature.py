"""Curvature: directions divided by estimates of the Hessian's diagonal."""

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, debias, decay_towards, real_like
from gradtx.core.leafwise import leafwise
from gradtx.transforms.adaptive import ScaleByAdamState
from gradtx.values.domains import Decay, NonNegative, Positive


@leafwise(state=ScaleByAdamState)
def scale_by_adahessian(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-4,
    hessian_power: Positive = 1.0,
    spatial_average: bool = True,
):
    """AdaHessian's direction: Adam's, divided by a mean of the Hessian's diagonal and not of gradients.

    mₜ = b1·mₜ₋₁ + (1 − b1)·gₜ,  vₜ = b2·vₜ₋₁ + (1 − b2)·|hₜ|²;
    the update is m̂ₜ / (v̂ₜ^(hessian_power/2) + eps), debiased as in `scale_by_adam`.
    It is told the diagonal h, a tree like the params:
    ``tx.update(grads, state, params, hessian=...)``; `hutchinson_diagonal` estimates it.

    Args:
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        eps: added to the power, at least 0.
        hessian_power: the power of the Hessian, above 0.
        spatial_average: whether |h| is averaged over all but the last two axes, those of a kernel of a
            convolution in Flax's layout. Default: yes.

    Raises:
        TypeError: at `update`, if it is called without ``hessian``.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> loss = lambda params: jnp.sum(jnp.array([1.0, 100.0]) * params["w"] ** 2)
        >>> tx, params = gradtx.adahessian(0.1), {"w": jnp.ones(2)}
        >>> hessian = gradtx.hutchinson_diagonal(loss, params, jax.random.key(0))
        >>> updates, _ = tx.update(jax.grad(loss)(params), tx.init(params), params, hessian=hessian)
        >>> print(updates["w"].round(3))
        [-0.1 -0.1]

    Source: Yao et al., AdaHessian: an adaptive second order optimizer for machine learning, arXiv:2006.00719.
    """

    def init(param):
        return dict(mu=jnp.zeros_like(param), nu=real_like(param))

    def update(grad, mu, nu, step, hessian):
        square = abs_sq(hessian)
        if spatial_average and square.ndim > 2:
            size = jnp.mean(jnp.abs(hessian), tuple(range(square.ndim - 2)), keepdims=True)
            square = jnp.broadcast_to(size, square.shape) ** 2
        mu = decay_towards(mu, grad, b1)
        nu = decay_towards(nu, square, b2)
        nu_hat = debias(nu, b2, step)
        seen = nu_hat > 0
        power = jnp.where(seen, jnp.where(seen, nu_hat, 1) ** (hessian_power / 2), 0 * nu_hat)
        return debias(mu, b1, step) / (power + eps), dict(mu=mu, nu=nu)

    return init, update

"""Rectified Adam: Adam that waits until it knows its divisor."""

from typing import Annotated

import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, averaged_length, debias, decay_towards, real_like, sqrt
from gradtx.arrays.types import Array, Scalar
from gradtx.core.leafwise import leafwise
from gradtx.transforms.adaptive import ScaleByAdamState, debiased_mean
from gradtx.values.domains import Decay, Interval, NonNegative, ScalarOrSchedule

Threshold = Annotated[ScalarOrSchedule, Interval("[4, inf]")]
"""How many gradients a second moment must have averaged before it is used."""


def rectification(decay: Scalar, step: Array, threshold: Scalar) -> tuple[Array, Array]:
    """Whether a debiased second moment has averaged enough gradients, and what its root is off by.

    With ρ the number of gradients in the average after so many steps and ρ∞ that after many:
    ρ > threshold, and r = √((ρ−4)(ρ−2)ρ∞ / ((ρ∞−4)(ρ∞−2)ρ)), which is 1 where the former does not hold.

    Args:
        decay: of the second moment, in [0, 1).
        step: updates so far, this one included; a floating scalar or tensor.
        threshold: at least 4, below which the variance of the average is not defined.

    Source: Liu et al., On the variance of the adaptive learning rate and beyond, arXiv:1908.03265.
    """
    rho = averaged_length(decay, step)
    known = rho > threshold
    rho, rho_inf = (jnp.where(known, length, 5.0) for length in (rho, 2 / (1 - decay) - 1))
    return known, sqrt((rho - 4) * (rho - 2) / rho * (rho_inf / ((rho_inf - 4) * (rho_inf - 2))))


@leafwise(state=ScaleByAdamState, elementwise=True, unsigned=("nu",))
def scale_by_radam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    threshold: Threshold = 5.0,
    *,
    nesterov: bool = False,
):
    """RAdam's direction: Adam's once the variance of its divisor is known, momentum until then.

    m̂ and v̂ as in `scale_by_adam`, ρ and r as in `rectification`: the update is
    r·m̂ / (√(v̂ + eps_root) + eps) where ρ > threshold, and m̂ before. With b2 = 0.999 that is from
    the sixth update on.

    Args:
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        eps: added to the root, at least 0.
        eps_root: added inside the root, at least 0; for derivatives through the optimizer.
        threshold: how many gradients the second moment must have averaged, at least 4.
        nesterov: whether to look ahead.

    Source: Liu et al., On the variance of the adaptive learning rate and beyond, arXiv:1908.03265.
    """

    def init(param):
        return dict(mu=jnp.zeros_like(param), nu=real_like(param))

    def update(grad, mu, nu, step):
        mu = decay_towards(mu, grad, b1)
        nu = decay_towards(nu, abs_sq(grad), b2)
        mu_hat = debiased_mean(mu, grad, b1, step, nesterov)
        known, r = rectification(b2, step.astype(nu.dtype), threshold)
        adam = r * mu_hat / (sqrt(debias(nu, b2, step) + eps_root) + eps)
        return jnp.where(known, adam, mu_hat), dict(mu=mu, nu=nu)

    return init, update

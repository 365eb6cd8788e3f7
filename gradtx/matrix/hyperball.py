"""Steps that keep the norm of each tensor."""

from typing import Any, NamedTuple

from gradtx.arrays.numerics import norm, quotient
from gradtx.arrays.types import Params, Selector
from gradtx.core.chain import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.matrix.muon import scale_by_muon
from gradtx.matrix.partner import beside
from gradtx.matrix.polynomials import STANDARD
from gradtx.optimizers.adam import adamw
from gradtx.values.domains import Count, Decay, DType, Number


class HyperballState(NamedTuple):
    """radius: a tree of scalars, the norm of each param at the start."""

    radius: Params


@leafwise(state=HyperballState)
def hyperball(learning_rate: Number):
    """Steps against updates of any size, by a share of each param's norm, which stays what it was at first.

    W ← R·(W − η·R·u/‖u‖) / ‖W − η·R·u/‖u‖‖, with the norm R of the param when the state was made. It is the
    last stage of a chain, in place of `scale_by_learning_rate` and of weight decay. A param of zeros stays.

    Args:
        learning_rate: η, about the angle of a step.

    Source: Wen et al., Hyperball optimization, 2025.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.chain(gradtx.scale_by_adam(), gradtx.hyperball(0.1))
        >>> params = {"w": jnp.array([3.0, 4.0])}
        >>> updates, state = tx.update({"w": jnp.array([1.0, 0.0])}, tx.init(params), params)
        >>> params = gradtx.apply_updates(params, updates)
        >>> print(jnp.linalg.norm(params["w"]).round(3))
        5.0
    """

    def init(param):
        return dict(radius=norm(param))

    def update(grad, param, radius):
        moved = param - learning_rate * radius * quotient(1, norm(grad)) * grad
        return quotient(radius, norm(moved)) * moved - param, dict(radius=radius)

    return init, update


@recipe
def muon_hyperball(
    learning_rate: Number,
    beta: Decay = 0.95,
    *,
    nesterov: bool = True,
    ns_coeffs: Any = STANDARD,
    ns_steps: Count = 5,
    ns_dtype: DType = None,
    weight_dimension_numbers: Selector | None = None,
    others: GradientTransformation | None = None,
) -> GradientTransformation:
    """Muon on the hyperball: matrices keep their norm and turn by orthogonal steps; everything else by AdamW.

    W ← R·(W − η·R·O/‖O‖) / ‖W − η·R·O/‖O‖‖, with O as in `scale_by_muon`, R as in `hyperball`, and η the
    learning rate.

    Args:
        learning_rate: the step size, relative to the norm of a matrix.
        beta, nesterov, ns_coeffs, ns_steps, ns_dtype: as in `scale_by_muon`, with ns_steps steps of any
            coefficients.
        weight_dimension_numbers: the axes that make matrices, as in `scale_by_muon`; None for a param gives
            it to the others. Default: tensors with two axes are matrices.
        others: the optimizer of the rest. Default: ``adamw(learning_rate)``.

    Raises:
        ValueError: as `scale_by_muon`.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.muon_hyperball(0.1), {"w": 2 * jnp.eye(3), "b": jnp.ones(3)}
        >>> updates, state = tx.update({"w": jnp.ones((3, 3)), "b": jnp.ones(3)}, tx.init(params), params)
        >>> params = gradtx.apply_updates(params, updates)
        >>> print(f"{jnp.linalg.norm(params['w']):.3f}")
        3.464

    Source: Wen et al., Hyperball optimization, 2025.
    """
    direction = scale_by_muon(
        ns_coeffs,
        ns_steps,
        beta,
        nesterov=nesterov,
        ns_dtype=ns_dtype,
        ns_beyond="last",
        weight_dimension_numbers=weight_dimension_numbers,
    )
    by_adam = adamw(learning_rate) if others is None else others
    on_the_ball = chain(direction, hyperball(learning_rate))
    return beside("muon", on_the_ball, by_adam, "weight_dimension_numbers", weight_dimension_numbers)

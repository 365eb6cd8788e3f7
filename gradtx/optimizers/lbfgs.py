"""L-BFGS with a line search, for objectives without noise."""

from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation, check_transformation
from gradtx.transforms.quasi_newton import scale_by_lbfgs
from gradtx.transforms.scaling import identity, scale, scale_by_learning_rate
from gradtx.transforms.zoom import scale_by_zoom_linesearch
from gradtx.values.domains import Count, Number

ZOOM = scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")


@recipe
def lbfgs(
    learning_rate: Number | None = None,
    memory_size: Count = 10,
    scale_init_precond: bool = True,
    linesearch: GradientTransformation | None = ZOOM,
) -> GradientTransformation:
    """L-BFGS: quasi-Newton steps from the last few gradients, each with a line search.

    p ← p − t·H·g, where H approximates the inverse Hessian, as in `scale_by_lbfgs`, and t comes from the
    line search.

    ``update(grads, state, params, value=value, grad=grads, value_fn=f)``; take value and gradient from
    `value_and_grad_from_state(f)`, which does not evaluate again what the line search has evaluated.
    `minimize` is this loop with stopping rules.

    It is meant for objectives without noise: all data in each step. The state has 2·memory_size + 3
    times the size of the params.

    Args:
        learning_rate: factor of the direction, before the line search. Default: 1.
        memory_size, scale_init_precond: as in `scale_by_lbfgs`.
        linesearch: scales the step, the first from a trial of length 1. None for none, with a
            `learning_rate` below 1; then the first step is at most of that length.

    Source: Liu and Nocedal, On the limited memory BFGS method for large scale optimization, 1989.

    Example:
        >>> import gradtx, jax, jax.numpy as jnp
        >>> f = lambda x: jnp.sum((x - 3.0) ** 2)
        >>> tx, x = gradtx.lbfgs(), jnp.array([1.0, 2.0])
        >>> value, grad = jax.value_and_grad(f)(x)
        >>> updates, state = tx.update(grad, tx.init(x), x, value=value, grad=grad, value_fn=f)
        >>> print(*(f"{x:.3g}" for x in x + updates))
        1.89 2.45
    """
    if linesearch is not None:
        check_transformation("lbfgs", "linesearch", linesearch)
    return chain(
        scale_by_lbfgs(memory_size, scale_init_precond, unit_start=linesearch is not None),
        scale(-1.0) if learning_rate is None else scale_by_learning_rate(learning_rate),
        identity() if linesearch is None else linesearch,
    )

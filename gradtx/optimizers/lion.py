"""Lion."""

from gradtx.arrays.types import Selector
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.transforms.sign import scale_by_lion
from gradtx.values.domains import Decay, DType, Fraction, Number


@recipe
def lion(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Fraction = 0.99,
    mu_dtype: DType = None,
    weight_decay: Number = 1e-3,
    mask: Selector | None = None,
) -> GradientTransformation:
    """Lion: steps of one size in every coordinate, with one moment of state.

    p ← p − learning_rate·(sign(b1·m + (1 − b1)·g) + weight_decay·p), then m ← b2·m + (1 − b2)·g, as in
    `scale_by_lion`.

    Its learning rate is usually 3 to 10 times smaller than AdamW's, its decay as much larger.

    Args:
        learning_rate: the step size.
        b1, b2, mu_dtype: as in `scale_by_lion`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Chen et al., Symbolic discovery of optimization algorithms, arXiv:2302.06675.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.lion(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.0999
    """
    return chain(
        scale_by_lion(b1, b2, mu_dtype),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )

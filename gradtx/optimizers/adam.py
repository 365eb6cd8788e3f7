"""Adam and its relatives."""

from gradtx.arrays.types import Selector
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.adaptive import scale_by_adam, scale_by_amsgrad
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.values.domains import Decay, DType, NonNegative, Number


@recipe
def adam(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Adam: steps along the mean of past gradients over the root of their mean square.

    p ← p − learning_rate·m̂ / (√(v̂ + eps_root) + eps), with the debiased means m̂ of g and v̂ of |g|² of
    `scale_by_adam`.

    Args:
        learning_rate: the step size.
        b1, b2, eps, eps_root, mu_dtype, nesterov: as in `scale_by_adam`.

    Source: Kingma and Ba, Adam, arXiv:1412.6980.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.adam(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    direction = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    return chain(direction, scale_by_learning_rate(learning_rate))


@recipe
def adamw(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
    weight_decay: Number = 1e-4,
    mask: Selector | None = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """AdamW: Adam with decoupled weight decay.

    p ← p − learning_rate·(m̂ / (√(v̂ + eps_root) + eps) + weight_decay·p), with m̂ and v̂ as in
    `scale_by_adam`.

    The decay is multiplied by the learning rate, as in PyTorch, whose default is 1e-2.

    Args:
        learning_rate: the step size.
        b1, b2, eps, eps_root, mu_dtype, nesterov: as in `scale_by_adam`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization, arXiv:1711.05101.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.adamw(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@recipe
def nadam(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
    *,
    nesterov: bool = True,
) -> GradientTransformation:
    """NAdam: Adam with Nesterov's look-ahead.

    p ← p − learning_rate·m̂ / (√(v̂ + eps_root) + eps) with m̂ = b1·mₜ/(1 − b1ᵗ⁺¹) + (1 − b1)·gₜ/(1 − b1ᵗ),
    as in `scale_by_adam`.

    Args:
        learning_rate: the step size.
        b1, b2, eps, eps_root, mu_dtype, nesterov: as in `scale_by_adam`.

    Source: Dozat, Incorporating Nesterov momentum into Adam, 2016.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.nadam(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.147 0.147
    """
    return adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)


@recipe
def nadamw(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
    weight_decay: Number = 1e-4,
    mask: Selector | None = None,
    *,
    nesterov: bool = True,
) -> GradientTransformation:
    """NAdamW: AdamW with Nesterov's look-ahead.

    p ← p − learning_rate·(m̂ / (√(v̂ + eps_root) + eps) + weight_decay·p), with m̂ as in `nadam`.

    Args:
        learning_rate: the step size.
        b1, b2, eps, eps_root, mu_dtype, nesterov: as in `scale_by_adam`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: Dozat, Incorporating Nesterov momentum into Adam, 2016; arXiv:1711.05101.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.nadamw(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.147 0.147
    """
    return adamw(learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask, nesterov=nesterov)


@recipe
def amsgrad(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> GradientTransformation:
    """AMSGrad: Adam with a second moment that never shrinks.

    p ← p − learning_rate·m̂ / (√(v_max + eps_root) + eps), where v_max is the largest v̂ so far, as in
    `scale_by_amsgrad`.

    Args:
        learning_rate: the step size.
        b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu: as in `scale_by_amsgrad`.

    Source: Reddi et al., On the convergence of Adam and beyond, arXiv:1904.09237.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.amsgrad(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    direction = scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu)
    return chain(direction, scale_by_learning_rate(learning_rate))

"""Layer-wise step sizes: LAMB and LARS for large batches, NovoGrad, Fromage."""

from gradtx.arrays.types import Selector
from gradtx.core.chain import chain
from gradtx.core.recipe import recipe
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.adaptive import scale_by_adam
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.layerwise import fromage_shrinkage, fromage_step, scale_by_novograd
from gradtx.transforms.momentum import trace
from gradtx.transforms.scaling import scale_by_learning_rate, scale_by_trust_ratio
from gradtx.values.domains import Decay, NonNegative, Number
from gradtx.wrappers.masking import masked


@recipe
def lamb(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    eps_root: NonNegative = 0.0,
    weight_decay: Number = 0.0,
    mask: Selector | None = None,
) -> GradientTransformation:
    """LAMB: AdamW's direction, scaled in each tensor to the tensor's own norm.

    p ← p − learning_rate·‖p‖/‖u‖·u with u = m̂ / (√(v̂ + eps_root) + eps) + weight_decay·p, m̂ and v̂ as in
    `scale_by_adam`, and norms by tensor.

    Args:
        learning_rate: the step size.
        b1, b2, eps, eps_root: as in `scale_by_adam`.
        weight_decay: strength of the decay.
        mask: which params decay, as in `add_decayed_weights`. Default: all.

    Source: You et al., Large batch optimization for deep learning, arXiv:1904.00962.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.lamb(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.1 0.1
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )


@recipe
def lars(
    learning_rate: Number,
    weight_decay: Number = 0.0,
    weight_decay_mask: Selector = True,
    trust_coefficient: NonNegative = 0.001,
    eps: NonNegative = 0.0,
    trust_ratio_mask: Selector = True,
    momentum: Number = 0.9,
    nesterov: bool = False,
) -> GradientTransformation:
    """LARS: momentum on gradients that are scaled in each tensor to the tensor's own norm.

    With u = g + weight_decay·p and norms by tensor, b ← momentum·b +
    learning_rate·trust_coefficient·‖p‖/(‖u‖ + eps)·u; p ← p − b.

    Args:
        learning_rate: the step size; it is applied before the momentum.
        weight_decay: strength of the decay, added to the gradient.
        weight_decay_mask: which params decay, as in `add_decayed_weights`. Default: all.
        trust_coefficient, eps: as in `scale_by_trust_ratio`.
        trust_ratio_mask: which params are scaled. Default: all.
        momentum: decay of the momentum.
        nesterov: whether the momentum looks ahead.

    Source: You et al., Large batch training of convolutional networks, arXiv:1708.03888.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.lars(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.000126 6.32e-05
    """
    trust = scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps)
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        masked(trust, trust_ratio_mask),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov),
    )


@recipe
def novograd(
    learning_rate: Number,
    b1: Decay = 0.9,
    b2: Decay = 0.25,
    eps: NonNegative = 1e-6,
    eps_root: NonNegative = 0.0,
    weight_decay: Number = 0.0,
) -> GradientTransformation:
    """NovoGrad: momentum on gradients that are normalised tensor by tensor.

    p ← p − learning_rate·m with m ← b1·m + g / (√(v + eps_root) + eps) + weight_decay·p, where v is the
    mean of ‖g‖² by tensor, as in `scale_by_novograd`.

    Args:
        learning_rate: the step size.
        b1, b2, eps, eps_root, weight_decay: as in `scale_by_novograd`.

    Source: Ginsburg et al., Stochastic gradient methods with layer-wise adaptive moments,
    arXiv:1905.11286.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.novograd(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.0894 0.0447
    """
    direction = scale_by_novograd(b1, b2, eps, eps_root, weight_decay)
    return chain(direction, scale_by_learning_rate(learning_rate))


@recipe
def fromage(learning_rate: Number, min_norm: NonNegative = 1e-6) -> GradientTransformation:
    """Fromage: each tensor is turned by one angle, so that its norm hardly changes.

    p ← cos θ·p − sin θ·‖p‖·g / ‖g‖ with tan θ = learning_rate, which needs no other numbers.

    Args:
        learning_rate: the tangent of the angle: the size of a step relative to the param.
        min_norm: lower bound of both norms.

    Source: Bernstein et al., On the distance between two neural networks and the stability of learning,
    arXiv:2002.03432.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx, params = gradtx.fromage(0.1), {"w": jnp.ones(2)}
        >>> grads = {"w": jnp.array([1.0, -0.5])}
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{x:.3g}" for x in updates["w"]))
        -0.131 0.058
    """
    return chain(
        scale_by_trust_ratio(min_norm), fromage_step(learning_rate), fromage_shrinkage(learning_rate)
    )

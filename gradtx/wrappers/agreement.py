"""Agreement: what the present gradient leaves of the update that an optimizer makes of it."""

import jax.numpy as jnp

from gradtx.arrays.trees import mapped
from gradtx.arrays.types import Array
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import treewise
from gradtx.values.domains import Positive
from gradtx.wrappers.groups import whole_state


@treewise(inner_states=whole_state)
def cautious(inner: GradientTransformation, *, uphill: bool = False, min_share: Positive | None = 1e-3):
    """Keep of an optimizer's update only the numbers that go down the present gradient.

    Where the update u has the sign of the gradient, it points uphill and becomes 0; what is left is divided
    by max(share, min_share), with the share of numbers that are left, tensor by tensor. The state is that of
    the optimizer.

    Around a whole optimizer weight decay takes part in u. The authors leave it out: ``chain(cautious(
    scale_by_adam(), uphill=True), add_decayed_weights(0.1), scale_by_learning_rate(1e-3))`` is C-AdamW.

    Args:
        inner: the optimizer. Other numbers for some of the params are its own matter: `groups` within.
        uphill: whether its updates go uphill, as those of a direction such as `scale_by_adam` do, which a
            later stage turns; then those are kept that have the gradient's sign. Default: no.
        min_share: lower bound of the divisor, above 0, as in the authors' C-AdamW and in timm. With None the
            divisor is share + 1/size, as in the paper's algorithm and the authors' C-Lion.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.cautious(gradtx.sgd(1.0, momentum=0.9))
        >>> params = {"w": jnp.zeros(2)}
        >>> _, state = tx.update({"w": jnp.array([1.0, 1.0])}, tx.init(params), params)
        >>> updates, _ = tx.update({"w": jnp.array([1.0, -0.5])}, state, params)
        >>> print(updates["w"])
        [-3.8 -0. ]

    Source: Liang et al., Cautious optimizers: improving training with one line of code, arXiv:2411.16085.
    """
    direction = 1 if uphill else -1

    def masked(u: Array, grad: Array) -> Array:
        # From signs, for a product of small numbers is 0; NaN stays NaN, and makes the share one.
        kept = jnp.maximum(direction * jnp.sign((jnp.sign(u).conj() * jnp.sign(grad)).real), 0)
        share = jnp.mean(kept)
        return u * (
            kept / (share + 1 / max(u.size, 1) if min_share is None else jnp.maximum(share, min_share))
        )

    def update(updates, state, params=None, **extra):
        new, state = inner.update(updates, state, params, **extra)
        return mapped(masked, new, updates), state

    return inner.init, update


@treewise(inner_states=whole_state, on_shards=True)
def with_gradient_signs(inner: GradientTransformation, *, uphill: bool = False):
    """Take from an optimizer's update its size only, and from the present gradient where it goes.

    The update is −|u|·sign(g), number by number. The state is that of the optimizer.

    Args:
        inner: the optimizer.
        uphill: whether its updates go uphill, as those of a direction such as `scale_by_adam` do, which a
            later stage turns; then it is |u|·sign(g). Default: no.

    Source: Cao et al., Grams: gradient descent with adaptive momentum scaling, arXiv:2412.17107.
    """
    direction = 1 if uphill else -1

    def update(updates, state, params=None, **extra):
        new, state = inner.update(updates, state, params, **extra)
        return mapped(lambda u, grad: direction * jnp.abs(u) * jnp.sign(grad), new, updates), state

    return inner.init, update

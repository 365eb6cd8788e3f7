"""Moving averages of trees: for a transformation that is written with trees rather than with `leafwise`.

They are computed in at least float32, and have the dtypes of the moments that come in.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays.numerics import abs_sq, at_least_float32, decay_towards, one_minus_power
from gradtx.arrays.numerics import cast as in_dtype
from gradtx.arrays.types import Array, Scalar, Updates
from gradtx.tree.mapping import map_leaves


def _averaged(name: str, updates: Updates, moments: Any, average: Any) -> Any:
    def averaged(update: Any, moment: Any) -> Array:
        update, moment = jnp.asarray(update), jnp.asarray(moment)
        wide = at_least_float32(update.dtype), at_least_float32(moment.dtype)
        result = average(in_dtype(update, wide[0]), in_dtype(moment, wide[1]))
        # A complex average does not fit into a real moment; whoever mixes them gets the complex one.
        fits = jnp.iscomplexobj(moment) or not jnp.iscomplexobj(result)
        return in_dtype(result, moment.dtype) if fits else result

    return map_leaves(name, averaged, updates=updates, moments=moments)


def update_moment(updates: Updates, moments: Any, decay: Scalar, order: Scalar) -> Any:
    """The moving average of a power of updates: decay·m + (1 − decay)·gᵒʳᵈᵉʳ.

    Args:
        updates: a tree of tensors g.
        moments: a tree like it, m.
        decay: what the average keeps, in [0, 1].
        order: the power: 1 for the mean, 2 for the second moment. Complex tensors are raised to it as
            they are; see `update_moment_per_elem_norm`.

    Raises:
        ValueError: if structures or shapes differ; the message names the path.
    """

    def average(g: Array, m: Array) -> Array:
        return decay_towards(m, g**order, decay)

    return _averaged("tree.update_moment", updates, moments, average)


def update_moment_per_elem_norm(updates: Updates, moments: Any, decay: Scalar, order: Scalar) -> Any:
    """The moving average of a power of magnitudes: decay·m + (1 − decay)·|g|ᵒʳᵈᵉʳ for complex g.

    Args:
        updates: a tree of tensors g; real ones are raised to the power as they are.
        moments: a tree like it, m.
        decay: what the average keeps, in [0, 1].
        order: the power.

    Raises:
        ValueError: if structures or shapes differ; the message names the path.
    """

    def average(g: Array, m: Array) -> Array:
        power = abs_sq(g) ** (order / 2) if jnp.iscomplexobj(g) else g**order
        return decay_towards(m, power, decay)

    return _averaged("tree.update_moment_per_elem_norm", updates, moments, average)


def update_infinity_moment(updates: Updates, moments: Any, decay: Scalar, eps: Scalar) -> Any:
    """The decaying maximum of magnitudes: max(|g| + eps, decay·m).

    Args:
        updates: a tree of tensors g.
        moments: a tree like it, of real m.
        decay: what the maximum keeps, in [0, 1].
        eps: added to each magnitude, so that nothing is 0.

    Raises:
        ValueError: if structures or shapes differ; the message names the path.
    """

    def average(g: Array, m: Array) -> Array:
        return jnp.maximum(jnp.abs(g) + eps, decay * m)

    return _averaged("tree.update_infinity_moment", updates, moments, average)


def bias_correction(moment: Any, decay: Scalar, count: Array | int) -> Any:
    """Moving averages that began at 0, divided by the weight that they have seen: m / (1 − decayᶜᵒᵘⁿᵗ).

    Args:
        moment: a tree of tensors m.
        decay: what the averages keep, in [0, 1).
        count: how many values they have seen, at least 1; a schedule's number or an int32 scalar.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> mean = gradtx.tree.update_moment({"w": jnp.array(2.0)}, {"w": jnp.array(0.0)}, 0.9, 1)
        >>> print(gradtx.tree.bias_correction(mean, 0.9, 1)["w"].round(3))
        2.0
    """

    def corrected(m: Any) -> Array:
        m = jnp.asarray(m)
        wide = in_dtype(m, at_least_float32(m.dtype))
        return in_dtype(wide / one_minus_power(decay, jnp.asarray(count, wide.real.dtype)), m.dtype)

    return jax.tree.map(corrected, moment)

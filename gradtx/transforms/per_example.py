"""Clipping per example: gradients of each example of a batch, bounded before they are summed.

Such gradients have the examples on their first axis: ``jax.vmap(jax.grad(loss), (None, 0))(params, batch)``.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.numerics import at_least_float32, bounding_factor, cast
from gradtx.arrays.trees import global_norm
from gradtx.arrays.types import Array, Scalar, Updates


def per_example_global_norm_clip(grads: Updates, l2_norm_clip: Scalar) -> tuple[Updates, Array]:
    """The sum of the gradients of all examples, each scaled to a norm of at most l2_norm_clip.

    The sum is Σᵢ gᵢ·min(1, l2_norm_clip / ‖gᵢ‖), where the norm ‖gᵢ‖ of an example is over all tensors.
    An example whose norm is NaN makes the sum NaN.

    Args:
        grads: a tree of gradients per example, with one length of the first axes.
        l2_norm_clip: the largest norm, at least 0.

    Returns:
        The sum, a tree without the first axes, and how many examples were clipped (int32 scalar).

    Raises:
        ValueError: if a tensor has no first axis, or another length of it; the message has the path.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> grads = {"w": jnp.array([[3.0, 4.0], [0.5, 0.25]])}
        >>> total, clipped = gradtx.per_example_global_norm_clip(grads, 2.5)
        >>> print(total["w"], clipped)
        [2.   2.25] 1

    Source: Abadi et al., Deep learning with differential privacy, arXiv:1607.00133.
    """
    examples = check_batch("per_example_global_norm_clip", grads)
    if not examples:
        return jax.tree.map(lambda g: jnp.sum(g, axis=0), grads), jnp.zeros([], jnp.int32)
    wide = jax.tree.map(lambda g: cast(jnp.asarray(g), at_least_float32(jnp.result_type(g))), grads)
    norms = jax.vmap(global_norm)(wide)
    clipped = jnp.logical_not(norms <= l2_norm_clip)
    factors = bounding_factor(norms, l2_norm_clip)
    total = jax.tree.map(lambda g: jnp.tensordot(factors.astype(g.real.dtype), g, axes=1), wide)
    return total, jnp.sum(clipped, dtype=jnp.int32)


def per_example_layer_norm_clip(
    grads: Updates, global_l2_norm_clip: Scalar, uniform: bool = True
) -> tuple[Updates, Updates]:
    """As `per_example_global_norm_clip`, with a bound and a norm for each tensor of its own.

    The squares of the bounds add up to that of global_l2_norm_clip. Of K tensors each has the bound
    global_l2_norm_clip·√(1/K), or one by its share of the numbers, √(D_i/D).

    Args:
        grads: a tree of gradients per example, with one length of the first axes.
        global_l2_norm_clip: the bound of all together, at least 0.
        uniform: whether the tensors have the same bound; otherwise the large ones have larger bounds.

    Returns:
        The sum, a tree without the first axes, and a tree of how many examples were clipped in each
        tensor.

    Raises:
        ValueError: if a tensor has no first axis, or another length of it; the message has the path.

    Source: McMahan et al., Learning differentially private recurrent language models, arXiv:1710.06963.
    """
    check_batch("per_example_layer_norm_clip", grads)
    leaves, treedef = jax.tree.flatten(grads)
    total = sum(g.size for g in leaves)
    shares = [1 / len(leaves) if uniform else g.size / total for g in leaves]
    pairs = [
        per_example_global_norm_clip(g, global_l2_norm_clip * share**0.5)
        for g, share in zip(leaves, shares, strict=True)
    ]
    return treedef.unflatten([g for g, _ in pairs]), treedef.unflatten([count for _, count in pairs])


def check_batch(name: str, grads: Any) -> int:
    """The number of examples; raise unless all tensors have that length of their first axes."""
    shapes = {path: jnp.shape(g) for path, g in errors.paths(grads).items() if g is not None}
    for path, shape in shapes.items():
        if not shape:
            raise ValueError(
                f"{name}: {path} is a scalar; gradients per example have these on the first axis"
            )
    lengths = {shape[0]: path for path, shape in shapes.items()}
    if len(lengths) > 1:
        listed = ", ".join(f"{length} in {path}" for length, path in lengths.items())
        raise ValueError(f"{name}: the first axis is that of the examples; there are {listed}")
    return next(iter(lengths), 0)

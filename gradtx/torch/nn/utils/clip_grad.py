"""Clipping as PyTorch does it: by the norm of all gradients, or number by number.

The names that end in an underscore are PyTorch's, where they say that gradients are changed in place.
Arrays of JAX cannot be: these functions return a new tree. The two without are transformations, for
`chain`. In both forms the gradients keep their dtypes, None is passed over, and the norm is computed in
at least float32.
"""

import math
from functools import cache

import jax
import jax.numpy as jnp
from jax.core import Tracer

from gradtx.arrays.numerics import as_array, at_least_float32, cast
from gradtx.arrays.per_tensor import PerTensor
from gradtx.arrays.reduction import joined
from gradtx.arrays.trees import scale_tree
from gradtx.arrays.types import Array, Scalar, Updates
from gradtx.core.recipe import recipe
from gradtx.core.transformation import EmptyState, GradientTransformation, init_empty_state
from gradtx.core.treewise import treewise
from gradtx.torch._modules import nnx_of
from gradtx.torch.nn.functional._norm import power_sum, root, vector_norm
from gradtx.transforms.clipping import clip
from gradtx.values.domains import NonNegative, Static


@treewise(state=EmptyState, on_shards=True)
def clip_grad_norm(max_norm: NonNegative, norm_type: Static[float | str] = 2.0):
    """Scale all updates together by min(1, max_norm / (‖g‖ₚ + 10⁻⁶)), with PyTorch's norm over all.

    `gradtx.clip_by_global_norm` has no 10⁻⁶, and leaves updates within the bound as they are.

    Args:
        max_norm: the largest norm, at least 0.
        norm_type: p, see `get_total_norm`.

    Source: Pascanu et al., On the difficulty of training recurrent neural networks, arXiv:1211.5063.
    """

    def update(updates, state):
        return clip_grads_with_norm_(updates, max_norm, get_total_norm(updates, norm_type)), state

    return init_empty_state, update


@recipe
def clip_grad_value(clip_value: NonNegative) -> GradientTransformation:
    """Bound every number of the updates: min(max(g, −clip_value), clip_value). It is `gradtx.clip`.

    Args:
        clip_value: the largest magnitude, at least 0.
    """
    return clip(clip_value)


def clip_grad_norm_(
    grads: Updates,
    max_norm: Scalar,
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> tuple[Updates, Array]:
    """Scale gradients together by min(1, max_norm / (‖g‖ₚ + 10⁻⁶)), and return them with ‖g‖ₚ.

    Args:
        grads: a tree of arrays.
        max_norm: the largest norm.
        norm_type: p, see `get_total_norm`.
        error_if_nonfinite: whether to raise if the norm is infinite or NaN; not under `jit`. Default:
            an infinite norm makes all gradients 0 or NaN, and NaN makes all NaN.
        foreach: no effect; it is PyTorch's choice of an implementation.

    Returns:
        The new tree, and the norm before clipping, which is all that PyTorch returns.

    Raises:
        RuntimeError: if the norm is not finite and that is to be an error.
        TypeError: if that is to be an error and the norm is traced; for a module, whose arrays are params.
    """
    _check_gradients("clip_grad_norm_", grads)
    total_norm = get_total_norm(grads, norm_type, error_if_nonfinite, foreach)
    return clip_grads_with_norm_(grads, max_norm, total_norm, foreach), total_norm


def clip_grad_value_(grads: Updates, clip_value: Scalar, foreach: bool | None = None) -> Updates:
    """Bound every number of the gradients: min(max(g, −clip_value), clip_value). NaN stays NaN.

    Args:
        grads: a tree of arrays.
        clip_value: the largest magnitude.
        foreach: no effect; it is PyTorch's choice of an implementation.

    Returns:
        The new tree.

    Raises:
        TypeError: for a module, whose arrays are params.
    """
    del foreach
    _check_gradients("clip_grad_value_", grads)
    return clip(clip_value).update(grads, EmptyState())[0]


def get_total_norm(
    tensors: Updates,
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Array:
    """The p-norm of the p-norms of all tensors: for 0 < p ≤ ∞ that of all their numbers in one vector.

    Within `gradtx.over_shards` it is the norm of the whole tensors.

    Args:
        tensors: a tree of arrays.
        norm_type: p: any number, also ±∞, or 'inf'. For p = 0 it is, as in PyTorch, the number of tensors
            that are not all 0.
        error_if_nonfinite: whether to raise if the norm is infinite or NaN; not under `jit`.
        foreach: no effect; it is PyTorch's choice of an implementation.

    Returns:
        A scalar of the promoted dtype of the tensors, at least float32; 0 if there are none.

    Raises:
        RuntimeError: if the norm is not finite and that is to be an error.
        TypeError: if that is to be an error and the norm is traced; for a module, whose arrays are params.
    """
    del foreach
    _check_gradients("get_total_norm", tensors)
    p = float(norm_type)
    leaves = [as_array(x) for x in jax.tree.leaves(tensors)]
    if not leaves:
        return jnp.zeros([], jnp.float32)
    numbers = _number_of_each(p)([leaves])
    total = _joined([cast(x, jnp.result_type(*numbers)) for x in numbers], p)
    if error_if_nonfinite:
        _check_finite(total, p)
    return total


@cache
def _number_of_each(p: float) -> PerTensor:
    of = vector_norm if p == 0 or math.isinf(p) else power_sum
    return PerTensor(lambda x: of(cast(x, at_least_float32(x.dtype)), p))


def _joined(numbers: list[Array], p: float) -> Array:
    """The norm over all tensors, of which these are the largest or smallest entries, or sums of powers."""
    if math.isinf(p):
        return joined("max" if p > 0 else "min", numbers)
    if p == 0:
        return sum((joined("max", [x]) != 0 for x in numbers), jnp.zeros([], numbers[0].dtype))
    return root(joined("sum", numbers), p)


def _check_gradients(name: str, grads: object) -> None:
    """Raise for a module: its arrays are params, which PyTorch's function takes for their ``.grad``."""
    if nnx_of(grads) is not None:
        raise TypeError(
            f"{name} takes gradients, and a module has none here: write {CALLS[name]}, with the gradients "
            "that nnx.grad returns (of gradients that are a module, take nnx.state)"
        )


CALLS = {
    "clip_grad_norm_": "grads, norm = clip_grad_norm_(grads, max_norm)",
    "clip_grad_value_": "grads = clip_grad_value_(grads, clip_value)",
    "clip_grads_with_norm_": "grads = clip_grads_with_norm_(grads, max_norm, total_norm)",
    "get_total_norm": "norm = get_total_norm(grads)",
}


def _check_finite(total: Array, p: float) -> None:
    if isinstance(total, Tracer):
        raise TypeError(
            "error_if_nonfinite needs the norm itself, and it is traced: leave it out under jit, return the "
            "norm, and look at it outside"
        )
    if not jnp.isfinite(total):
        raise RuntimeError(
            f"The total norm of order {p} for gradients from `parameters` is non-finite, so it cannot be "
            "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )


def clip_grads_with_norm_(
    grads: Updates, max_norm: Scalar, total_norm: Scalar, foreach: bool | None = None
) -> Updates:
    """Scale gradients together by min(1, max_norm / (total_norm + 10⁻⁶)), for a norm that is known.

    Args:
        grads: a tree of arrays.
        max_norm: the largest norm.
        total_norm: from `get_total_norm`, possibly of more than these gradients.
        foreach: no effect; it is PyTorch's choice of an implementation.

    Returns:
        The new tree.

    Raises:
        TypeError: for a module, whose arrays are params.
    """
    del foreach
    _check_gradients("clip_grads_with_norm_", grads)
    factor = jnp.minimum(1, max_norm / (jnp.asarray(total_norm) + 1e-6))
    return scale_tree(jax.tree.map(jnp.asarray, grads), factor)

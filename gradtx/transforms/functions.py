"""Transformations made of functions."""

from collections.abc import Callable
from typing import Any

from gradtx.arrays.types import Array, Params, Updates
from gradtx.core.leafwise import leafwise
from gradtx.core.transformation import (
    EmptyState,
    GradientTransformation,
    check_transformation,
    init_empty_state,
)
from gradtx.core.treewise import treewise


@treewise(state=EmptyState)
def stateless(f: Callable[[Updates, Params | None], Updates]):
    """A transformation of a function of the whole tree.

    Args:
        f: ``f(updates, params)`` returns updates; params are None if `update` was not given any.

    Example:
        >>> import gradtx, jax
        >>> halve = gradtx.stateless(lambda updates, params: jax.tree.map(lambda g: g / 2, updates))
        >>> updates, state = halve.update([4.0], halve.init([0.0]))
        >>> print(updates[0])
        2.0
    """

    def update(updates, state, params=None):
        return f(updates, params), state

    return init_empty_state, update


@leafwise()
def stateless_with_tree_map(f: Callable[[Array, Array | None], Array]):
    """A transformation of a function of one tensor.

    It is what `leafwise` makes, for a function without numbers of its own.

    Args:
        f: ``f(update, param)`` returns an update, for each tensor; param is None if `update` was not
            given params. Tensors come in at least float32.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> towards_0 = gradtx.stateless_with_tree_map(lambda grad, param: jnp.abs(grad) * -jnp.sign(param))
        >>> updates, state = towards_0.update([3.0], towards_0.init([2.0]), [2.0])
        >>> print(updates[0])
        -3.0
    """

    def update(grad, param=None):
        return f(grad, param)

    return update


def with_extra_args_support(tx: Any) -> GradientTransformation:
    """A transformation of any library as one of gradtx, which takes and forwards any extra argument.

    Transformations of gradtx are that already, and `chain` and the wrappers do it to what they are given.

    Args:
        tx: a gradient transformation.

    Raises:
        TypeError: for something else; a factory must be called first.
    """
    adopted = GradientTransformation.adopt(tx)
    check_transformation("with_extra_args_support", "tx", adopted)
    return adopted

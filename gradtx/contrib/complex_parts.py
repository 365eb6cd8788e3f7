"""Complex params as pairs of real ones."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.types import Array, State
from gradtx.core.transformation import GradientTransformation
from gradtx.core.treewise import treewise


class SplitRealAndImaginaryArrays(NamedTuple):
    """real, imaginary: the parts of a complex tensor, as the wrapped transformation sees it."""

    real: Array
    imaginary: Array


class SplitRealAndImaginaryState(NamedTuple):
    """inner_state: the state of the wrapped transformation, with a pair where a param is complex."""

    inner_state: State


def _split(tree: Any) -> Any:
    def pair(x: Any) -> Any:
        if not jnp.iscomplexobj(x):
            return x
        return SplitRealAndImaginaryArrays(x.real, x.imag)

    return jax.tree.map(pair, tree)


def _is_pair(x: Any) -> bool:
    return isinstance(x, SplitRealAndImaginaryArrays)


@treewise(state=SplitRealAndImaginaryState)
def split_real_and_imaginary(inner: GradientTransformation):
    """Let a transformation see each complex tensor as two real ones; real tensors pass as they are.

    A complex param is then optimised as two independent real params. JAX's gradient of a real function
    of z = x + iy is ∂x − i∂y: conjugate it before `update` for a step that descends.

    Args:
        inner: the transformation.
    """

    def init(params):
        return SplitRealAndImaginaryState(inner.init(_split(params)))

    def update(updates, state, params=None, **extra):
        new, inner_state = inner.update(_split(updates), state.inner_state, _split(params), **extra)
        joined = jax.tree.map(lambda x: jax.lax.complex(*x) if _is_pair(x) else x, new, is_leaf=_is_pair)
        return joined, state._replace(inner_state=inner_state)

    return init, update

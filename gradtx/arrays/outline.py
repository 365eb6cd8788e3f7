"""Outlines: what an update tells of the params when it is not given them."""

import math
from typing import Any

import jax

from gradtx.arrays import errors
from gradtx.arrays.types import Params, PyTree, Updates


class Outline:
    """Stands for a param of which only the shape is known, for it is that of its update.

    To ask it for anything else, a dtype or values, is an error: an update has others than its param.
    """

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]  # what isinstance asks
        return jax.Array

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    def __getattr__(self, name: str) -> Any:
        raise Unknown(name)

    def __eq__(self, other: object) -> bool:
        raise Unknown("its values")

    def __bool__(self) -> bool:
        raise Unknown("its values")

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # as arrays have none


class Unknown(TypeError):
    """What was asked of an outline."""


def outlined(updates: Updates, params: Params | None) -> PyTree:
    """The params, of which labels and masks are; without them, their outlines."""
    if params is not None:
        return params
    return jax.tree.map(
        lambda g: Outline(g.shape) if hasattr(g, "shape") else g, updates, is_leaf=errors.is_sparse
    )


def is_outline(x: object) -> bool:
    """Whether x is an `Outline`."""
    return type(x) is Outline

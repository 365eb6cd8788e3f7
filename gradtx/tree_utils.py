"""Optax's older names for :mod:`gradtx.tree`: ``tree_add`` is ``tree.add``."""

from functools import partial
from types import ModuleType
from typing import Any

import jax.numpy as jnp

from gradtx import tree
from gradtx.moved import missing

_NAMES = {
    name if name[0].isupper() else f"tree_{name}": x
    for name, x in vars(tree).items()
    if not (name.startswith("_") or isinstance(x, ModuleType))
}
__all__ = sorted(_NAMES)  # pyright: ignore[reportUnsupportedDunderAll]  # it is computed
_OLDEST = {
    "tree_scalar_mul": tree.scale,
    "tree_add_scalar_mul": tree.add_scale,
    "tree_l1_norm": partial(tree.norm, ord=1),
    "tree_l2_norm": tree.norm,
    "tree_linf_norm": partial(tree.norm, ord=jnp.inf),
}
globals().update({**_NAMES, **_OLDEST})


def __getattr__(name: str) -> Any:
    raise missing(__name__, name)

"""PyTorch's layout of a state."""

from collections.abc import Callable

import jax.numpy as jnp

from gradtx.arrays.numerics import as_complex, as_real, computable, safe_increment
from gradtx.arrays.types import Array
from gradtx.core.layout import Layout, Slots


class TorchLayout(Layout):
    """Slots as PyTorch keeps them.

    A field ``count`` is a slot too, so that each tensor counts its own updates (one without a gradient
    counts none); slots have the dtype of the param, also half precision (below that, float32); and a rule
    sees a complex tensor as a real one with a last axis of 2.
    """

    keeps_count = True

    def see(self, x: Array) -> Array:
        return as_real(x)

    def show(self, x: Array, like: Array) -> Array:
        return as_complex(x) if jnp.iscomplexobj(like) else x

    def make(self, init: Callable[[Array], Slots], param: Array, fields: tuple[str, ...]) -> Slots:
        count = {"count": jnp.zeros([], jnp.int32)} if "count" in fields else {}
        return {**init(as_real(computable(param))), **count}

    def read(self, slots: Slots) -> Slots:
        if "count" not in slots:
            return super().read(slots)
        own = {name: slot for name, slot in slots.items() if name != "count"}
        return {**super().read(own), "step": safe_increment(slots["count"])}

    def write(self, stage: str, new: Slots, old: Slots) -> Slots:
        count = {"count": safe_increment(old["count"])} if "count" in old else {}
        return super().write(stage, {**new, **count}, old)


LIKE_TORCH = TorchLayout()

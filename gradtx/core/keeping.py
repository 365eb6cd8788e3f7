"""Who says how the slots of a new state are kept: their layout, and scopes around `init`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

from gradtx.arrays.types import PyTree
from gradtx.core.layout import Slots, is_coded
from gradtx.core.placement import Beginning

Keeper = Callable[[str, str, jax.Array, jax.Array], Callable[[jax.Array], PyTree] | None]
"""``keeper(slot, path, x, param)`` is the function that puts a new slot of a param into its form; None leaves
it. A slot is called ``scale_by_adam/mu``, as in `state_dict`."""

_KEEPERS: ContextVar[tuple[Keeper, ...]] = ContextVar("keepers", default=())


@contextmanager
def kept_by(keeper: Keeper) -> Iterator[None]:
    """Slots of states that begin within are kept as this one says; it is asked before those around it."""
    token = _KEEPERS.set((keeper, *_KEEPERS.get()))
    try:
        yield
    finally:
        _KEEPERS.reset(token)


def is_kept() -> bool:
    """Whether anyone is to be asked."""
    return bool(_KEEPERS.get())


def kept(beginning: Beginning, stage: str, path: str, slots: Slots, param: jax.Array) -> Slots:
    """The new slots of one param as they are kept."""

    def keep(slot: str, x: jax.Array | PyTree) -> PyTree:
        forms = (
            (keeper(f"{stage}/{slot}", path, x, param) for keeper in _KEEPERS.get())
            if not is_coded(x)
            else ()
        )
        form = next((form for form in forms if form is not None), None)
        return x if form is None else beginning.made(form, x)

    return {
        slot: jax.tree.map(lambda x, slot=slot: keep(slot, x), tree, is_leaf=is_coded)
        for slot, tree in slots.items()
    }

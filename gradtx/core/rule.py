"""Rules: the functions that a primitive is made of, and what they ask for by name."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx.arrays.numerics import as_array
from gradtx.arrays.signatures import Signature, signature
from gradtx.arrays.types import Array, State, Updates
from gradtx.core.layout import Slots


class Asks(NamedTuple):
    """What a rule asks for: `update`, and by name beside the param `init`; the slots that `refresh` names,
    those that it reads or changes, or None if there is no refresh."""

    update: Signature
    init: tuple[str, ...]
    refresh: tuple[str, ...] | None


class Rule:
    """What the body of a primitive returns: ``init, update``, ``update`` alone, or with ``refresh``."""

    def __init__(self, name: str, functions: object):
        found: Any = functions if isinstance(functions, tuple) else (None, functions)
        if len(found) not in (2, 3) or not all(f is None or callable(f) for f in found):
            raise TypeError(
                f"{name}: its function must return init, update (or update alone; or init, update, refresh), "
                f"got {functions!r}"
            )
        self.init: Callable[..., Any] | None = found[0]
        self.update: Callable[..., Any] = found[1]
        self.refresh: Callable[..., Any] | None = found[2] if len(found) == 3 else None

    @property
    def asks(self) -> "Asks":
        """What its functions ask for."""
        init = signature(self.init).names[1:] if self.init else ()
        return Asks(signature(self.update), init, signature(self.refresh).names if self.refresh else None)

    def init_with(self, name: str, named: Mapping[str, Any]) -> Callable[[Array], Slots]:
        """`init` as a function of the param alone; without one there are no slots."""

        def init(param: Array) -> Slots:
            made = self.init(param, **named) if self.init else {}
            if not isinstance(made, dict):
                raise TypeError(f"{name}: init must return a dict of its slots, got {made!r}")
            return made

        return init


def slots_made(stage: str, made: Slots, slots: Iterable[str]) -> None:
    """Raise unless these are the slots of a state."""
    if made.keys() != set(slots):
        raise ValueError(f"{stage}: init returned the slots {sorted(made)}; its state has {sorted(slots)}")


def returned(stage: str, out: object, grad: Array) -> tuple[Array, Slots]:
    """What an `update` returned: the new update, of the shape of the old, and its slots."""
    both: Any = out if isinstance(out, tuple) and len(out) == 2 else (out, {})
    x, new = both
    if isinstance(x, dict) or x is None or not isinstance(new, dict):
        raise TypeError(
            f"{stage}: update must return the new update, or the new update and a dict of all slots, in this "
            f"order; it returned {'nothing' if out is None else _kinds(out)}"
        )
    x = as_array(x)
    if x.shape != grad.shape:
        raise ValueError(f"{stage}: returned shape {x.shape} for an update of shape {grad.shape}")
    if jnp.iscomplexobj(x) and not jnp.iscomplexobj(grad):
        raise TypeError(f"{stage}: returned complex numbers for an update of real ones")
    return x, new


def returned_of_tree(stage: str, out: object) -> tuple[Updates, State]:
    """What an `update` of a whole tree returned."""
    if not isinstance(out, tuple | list) or len(out) != 2:
        raise TypeError(
            f"{stage}: update must return the new updates and the new state, in this order; "
            f"it returned {'nothing' if out is None else _kinds(out)}"
        )
    updates, state = out
    return updates, state


def check_state_class(decorator: str, state: Any) -> None:
    """Raise unless this is a class of named tuples."""
    if not (isinstance(state, type) and issubclass(state, tuple) and hasattr(state, "_fields")):
        raise TypeError(f"{decorator}: state must be a class of named tuples, got {state!r}")


def _kinds(out: object) -> str:
    return f"({', '.join(type(x).__name__ for x in out)})" if isinstance(out, tuple) else type(out).__name__

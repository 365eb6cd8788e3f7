"""What all loss objects have in common: they print as source, compare by value and are pytrees."""

from functools import partial
from typing import Any, ClassVar

import jax
import numpy as np
from jax.core import Tracer
from jax.tree_util import GetAttrKey

from gradtx.torch.nn.functional._reduction import REDUCTIONS, check_reduction
from gradtx.values.source import show

WEIGHTS = ("weight", "pos_weight")
"""The options that are arrays."""


class Loss:
    """A loss function with its options, called with predictions and targets.

    Each is a frozen dataclass. It prints as PyTorch's, with those options that are not the default,
    and compares and hashes by value. It is a pytree whose leaves are the weights: it may be closed
    over, or be an argument of a jitted function.

    Attributes:
        reduction: 'none', 'mean' or 'sum'.

    Raises:
        ValueError: for an unknown reduction.
    """

    reduction: str
    reductions: ClassVar[tuple[str, ...]] = REDUCTIONS

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        jax.tree_util.register_pytree_with_keys(cls, _flatten_with_keys, partial(_unflatten, cls))

    def __post_init__(self) -> None:
        check_reduction(self.reduction, self.reductions)

    def __repr__(self) -> str:
        changed = [
            f"{name}={show(x)}"
            for name, x in vars(self).items()
            if _comparable(x) != _comparable(getattr(type(self), name))
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loss) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return type(self), *map(_comparable, vars(self).values())


def _comparable(x: Any) -> Any:
    if isinstance(x, Tracer):
        return id(x)
    if hasattr(x, "shape"):
        host = np.asarray(x)
        return host.shape, host.dtype.name, host.tobytes()
    return x


def _flatten_with_keys(loss: Loss) -> Any:
    arrays = [(GetAttrKey(name), x) for name, x in vars(loss).items() if name in WEIGHTS]
    structure = tuple((name, None if name in WEIGHTS else x) for name, x in vars(loss).items())
    return arrays, structure


def _unflatten(cls: type[Loss], structure: Any, arrays: Any) -> Loss:
    # Not by the constructor: inside its transformations JAX puts other objects where the arrays were.
    loss, rest = object.__new__(cls), iter(arrays)
    loss.__dict__.update((name, next(rest) if name in WEIGHTS else x) for name, x in structure)
    return loss

"""The words of the library's signatures: arrays, trees of them, and functions of trees."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeAlias

from gradtx.values.domains import Array as Array
from gradtx.values.domains import Named
from gradtx.values.domains import Scalar as Scalar

PyTree: TypeAlias = Any
"""A tree of arrays, of any containers that JAX knows."""
Params: TypeAlias = PyTree
"""A pytree of parameters: inexact arrays, with ``None`` where there is nothing to optimise."""
Updates: TypeAlias = PyTree
"""A pytree like the params: gradients on the way in, steps to add on the way out."""
State: TypeAlias = PyTree
"""What a transformation remembers between updates: named tuples, nested as the chains are."""
if TYPE_CHECKING:

    class MadeState(tuple[Any, ...]):
        """A state as type checkers see it: a tuple, of which nothing more is known."""

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, key: Any) -> Any: ...
else:
    MadeState = tuple
KnownState: TypeAlias = tuple[Any, ...] | OrderedDict[str, Any]
"""What can be a state: named tuples and tuples of such, or what `named_chain` makes. A tree of params, whose
containers are others, cannot: type checkers find the two swapped."""
OptState: TypeAlias = State
"""The name that Optax has for a `State`."""
Selector: TypeAlias = Annotated[Any, Named("Selector")]
"""Which parameters: a path pattern, ``{pattern: label}``, a function of ``(path, leaf)`` or of the
whole params, or a tree (see :mod:`gradtx.arrays.select`)."""
MaskOrFn: TypeAlias = Selector
"""The name that Optax has for a `Selector`."""
DType: TypeAlias = Any
"""A dtype, or what stands for one: ``jnp.float32``, ``"bfloat16"``."""


class TransformInitFn(Protocol):
    """``init(params) -> state``, of a gradient transformation."""

    def __call__(self, params: Params, /) -> State: ...


class TransformUpdateFn(Protocol):
    """``update(updates, state, params=None, **extra) -> (updates, state)``, of a gradient transformation."""

    def __call__(
        self, updates: Updates, state: State, /, *args: Any, **extra: Any
    ) -> tuple[Updates, State]: ...


class InitAndUpdate(Protocol):
    """A gradient transformation, of this library or of another; a factory that nobody has called is none."""

    @property
    def init(self) -> TransformInitFn: ...
    @property
    def update(self) -> Any: ...

"""A run: what one update carries from segment to segment of a transformation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.errors import is_sparse
from gradtx.arrays.numerics import at_least_float32, cast, is_inexact, is_number, promoted
from gradtx.arrays.per_tensor import is_traced
from gradtx.arrays.types import Array, DType, Params, PyTree, State, Updates
from gradtx.core.layout import Slots


class Guard(Protocol):
    """A condition under which an update takes place: where it fails, the state stays and updates are 0.

    It is a pytree, for compiled functions are handed it.
    """

    def rule(self, update: Callable[..., Any], slots: Slots) -> Callable[..., Any]:
        """The `update` of a rule that leaves these slots as they are where the condition fails."""
        ...

    def state(self, new: PyTree, old: PyTree) -> PyTree:
        """What is kept, of two trees of one structure."""
        ...

    def updates(self, leaves: list[Array | None]) -> list[Array | None]:
        """The updates, or zeros."""
        ...


class Needy(Protocol):
    """A stage that asks for something by name."""

    @property
    def name(self) -> str: ...
    def hint(self, what: str) -> str:
        """What something that nobody gave may have been meant to be."""
        ...


@dataclass(frozen=True)
class Run:
    """What one update carries.

    Attributes:
        name: the transformation, for errors.
        given: the incoming updates as a tree; `params` as a tree, or None; `extra` arguments by name.
        leaves: the updates at this point, one for each leaf of `given`; None where nothing happens, and
            where a leaf is left out.
        beside: the params, one for each leaf; None where not given.
        left: what is left out, by its place among the leaves: updates that have no real or complex numbers,
            or whose params have none (integers, keys, the gradients of integers). None if such a param has no
            update.
        treedef: the structure of `given`, in which None is a leaf.
        dtypes: in which the updates leave, one for each leaf.
        which: for each leaf the index of its variant, where the numbers of stages differ by leaf.
        guard: under which condition the update takes place; None if always.
        traced: whether the updates are traced.
    """

    name: str
    given: Updates
    params: Params | None
    extra: Mapping[str, Any]
    leaves: list[Any]
    beside: list[Any]
    left: Mapping[int, Any]
    treedef: Any
    dtypes: list[DType]
    which: Sequence[int]
    guard: Guard | None
    traced: bool

    @classmethod
    def start(
        cls,
        name: str,
        updates: Updates,
        params: Params | None,
        extra: Mapping[str, Any],
        *,
        needs: Mapping[str, Needy],
        param_shape: Callable[[tuple[int, ...]], tuple[int, ...]],
        wide: bool = False,
        which: Sequence[int] = (),
        guard: Guard | None = None,
    ) -> Self:
        """The run of an update, checked.

        Args:
            name, updates, params, extra, which, guard: as above.
            needs: what must be given, with the stage that needs it.
            param_shape: the shape of the param that an incoming update of a shape is for.
            wide: whether the updates leave in at least float32.

        Raises:
            TypeError, ValueError: for what does not fit together; the message names the path.
        """
        leaves, treedef = jax.tree.flatten(updates, is_leaf=lambda x: x is None or is_sparse(x))
        leaves = [leaf if leaf is None or hasattr(leaf, "dtype") else _as_leaf(leaf) for leaf in leaves]
        beside: list[Any] = [None] * len(leaves) if params is None else match(name, treedef, updates, params)
        dtypes: list[DType] = []
        left: dict[int, Any] = {}
        for i, (grad, param) in enumerate(zip(leaves, beside, strict=True)):
            if param is not None and not hasattr(param, "dtype"):
                param = beside[i] = _as_leaf(param)
            usual = (grad is None or has_numbers(grad)) and (param is None or has_numbers(param))
            if not usual and _is_left_out(grad, param):
                left[i], leaves[i] = grad, None
                dtypes.append(None)
                continue
            dtypes.append(None if grad is None else grad.dtype)
            if grad is None:
                continue
            if param is not None:
                shape = param_shape(grad.shape)
                if shape != param.shape:
                    path = errors.path_of(updates, i)
                    what = "the update" if shape == grad.shape else "an example's update"
                    raise errors.another_shape(name, path, what, shape, "the param", param.shape)
                dtypes[i] = promoted(grad.dtype, param.dtype)
            if wide:
                dtypes[i] = at_least_float32(dtypes[i])
        for what, whose in needs.items():
            given = params if what == "params" else extra.get(what)
            # With nothing to update nothing is needed; and None is also the empty tree.
            if given is None and any(grad is not None for grad in leaves):
                raise errors.needs(whose.name, what, whose.hint(what))
        return cls(
            name, updates, params, extra, leaves, beside, left, treedef, dtypes,
            which or [0] * len(leaves), guard, is_traced(leaves),
        )  # fmt: skip

    def column(self, name: str, other: PyTree, what: str) -> list[Any]:
        """The leaves of a tree like the updates, one for each of theirs."""
        return match(name, self.treedef, self.given, other, what)

    def after(self, leaves: list[Any], left: Mapping[int, Any] | None = None) -> Self:
        """The run with these updates; and with this left out, if that has changed."""
        return replace(self, leaves=leaves, left=self.left if left is None else left)

    def of_numbers(self) -> Self:
        """The run whose extra arguments, if trees like the updates, are None where something is left out."""
        extra = dict(self.extra)
        for name, x in self.extra.items():
            leaves, treedef = jax.tree.flatten(x, is_leaf=errors.is_none)
            if treedef == self.treedef and not jax.tree_util.treedef_is_leaf(treedef):
                extra[name] = treedef.unflatten(
                    [None if i in self.left else leaf for i, leaf in enumerate(leaves)]
                )
        return replace(self, extra=extra)

    def check_left(self, name: str) -> None:
        """Raise if a stage that would compute with it is to pass by something that is left out."""
        for i, x in self.left.items():
            if x is None or getattr(x, "dtype", None) == jax.dtypes.float0:
                continue  # nothing is asked for; so says the gradient of an integer, too
            numbers = hasattr(x, "dtype") and is_inexact(x.dtype)
            kind = errors.kind_of(self.beside[i] if numbers else x)
            raise errors.not_inexact(name, errors.path_of(self.given, i), kind)

    def finish(self) -> Updates:
        """The updates as they leave."""
        pairs = zip(self.leaves, self.dtypes, strict=True)
        leaves = [x if x is None else cast(x, dtype) for x, dtype in pairs]
        if self.guard is not None:
            leaves = self.guard.updates(leaves)
        for i, x in self.left.items():
            leaves[i] = x
        return self.treedef.unflatten(leaves)


class Segment(Protocol):
    """Stages that run together."""

    def advance(self, run: Run, states: list[State], *, final: bool) -> Run:
        """The run after these stages, whose states are replaced in the list; `final` if none follows."""
        ...


def match(name: str, treedef: Any, tree: PyTree, other: PyTree, what: str = "params") -> list[Any]:
    """The leaves of another tree in the places of a tree's; an error names the paths that differ."""
    try:
        return treedef.flatten_up_to(other)
    except (ValueError, TypeError):
        pass
    raise errors.another_structure(name, "updates", tree, what, other)


def has_numbers(leaf: Any) -> bool:
    """Whether a leaf is of real or complex numbers, and so can be optimised."""
    return is_inexact(leaf.dtype) if hasattr(leaf, "dtype") else isinstance(leaf, float | complex)


def check_inexact(name: str, tree: PyTree, i: int, leaf: Any) -> None:
    """Raise unless the i-th leaf of a tree is of real or complex numbers."""
    if not has_numbers(leaf):
        raise errors.not_inexact(name, errors.path_of(tree, i), errors.kind_of(leaf))


def _as_leaf(x: Any) -> Any:
    # What is no number stays what it is, until a stage that would compute with it says where it is.
    return jnp.asarray(x) if isinstance(x, bool | int | float | complex) else x


def _is_left_out(grad: Any, param: Any) -> bool:
    if param is not None and not has_numbers(param):
        return True
    if grad is None or has_numbers(grad):
        return False
    # Whole numbers beside a param that is optimised are numbers as well.
    return param is None or not hasattr(grad, "dtype") or not is_number(grad.dtype)

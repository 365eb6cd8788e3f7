"""A run: what one update carries from segment to segment of a transformation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeAlias

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.errors import is_sparse
from gradtx.arrays.numerics import at_least_float32, cast, is_inexact, is_number, promoted
from gradtx.arrays.per_tensor import is_traced
from gradtx.arrays.types import DType, Params, PyTree, State, Updates

Factors: TypeAlias = Mapping[int, Mapping[str, Any]]
"""What multiplies the numbers of stages for one tensor: by the index of the stage, and the argument."""


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
        factors: for each leaf what multiplies numbers for it alone; see `Factors`. Empty: nothing does.
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
    factors: Sequence["Factors"]
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
        param_shape: Callable[[tuple[int, ...], tuple[int, ...]], tuple[int, ...]],
        wide: bool = False,
        which: Sequence[int] = (),
        factors: Sequence["Factors"] = (),
    ) -> Self:
        """The run of an update, checked.

        Args:
            name, updates, params, extra, which, factors: as above.
            needs: what must be given, with the stage that needs it.
            param_shape: the shape of the param that an incoming update of a shape is for; it is told the
                param's.
            wide: whether the updates leave in at least float32.

        Raises:
            TypeError, ValueError: for what does not fit together; the message names the path.
        """
        leaves, treedef = jax.tree.flatten(updates, is_leaf=lambda x: x is None or is_sparse(x))
        beside: list[Any] = [None] * len(leaves) if params is None else match(name, treedef, updates, params)
        dtypes: list[DType] = []
        left: dict[int, Any] = {}
        for i, (grad, param) in enumerate(zip(leaves, beside, strict=True)):
            # To ask jax for a dtype takes its time: once for each.
            kind, param_kind = getattr(grad, "dtype", None), getattr(param, "dtype", None)
            if kind is None and grad is not None:
                grad, kind = _as_leaf(grad)
                leaves[i] = grad
            if param_kind is None and param is not None:
                param, param_kind = _as_leaf(param)
                beside[i] = param
            if param is not None and not is_inexact(param_kind):
                is_left = True
            elif grad is None or is_inexact(kind):
                is_left = False
            else:  # whole numbers beside a param that is optimised are numbers as well
                is_left = param is None or not is_number(kind)
            dtypes.append(None if is_left else kind)
            if is_left:
                left[i], leaves[i] = grad, None
            if is_left or grad is None:
                continue
            if param is not None:
                shape = param_shape(grad.shape, param.shape)
                if shape != param.shape:
                    path = errors.path_of(updates, i)
                    what = "the update" if shape == grad.shape else "an example's update"
                    raise errors.another_shape(name, path, what, shape, "the param", param.shape)
                dtypes[i] = promoted(kind, param_kind)
            if wide:
                dtypes[i] = at_least_float32(dtypes[i])
        for what, whose in needs.items():
            given = params if what == "params" else extra.get(what)
            # With nothing to update nothing is needed; and None is also the empty tree.
            if given is None and any(grad is not None for grad in leaves):
                raise errors.needs(whose.name, what, whose.hint(what))
        return cls(
            name, updates, params, extra, leaves, beside, left, treedef, dtypes,
            which or [0] * len(leaves), factors, is_traced(leaves),
        )  # fmt: skip

    def column(self, name: str, other: PyTree, what: str) -> list[Any]:
        """The leaves of a tree like the updates, one for each of theirs."""
        return match(name, self.treedef, self.given, other, what)

    def after(self, leaves: list[Any], left: Mapping[int, Any] | None = None) -> Self:
        """The run with these updates; and with this left out, if that has changed."""
        return replace(self, leaves=leaves, left=self.left if left is None else left)

    def beside_updates(self, name: str) -> list[Any] | None:
        """The leaves of an extra argument, if it is a tree like the updates; otherwise None."""
        leaves, treedef = jax.tree.flatten(self.extra[name], is_leaf=errors.is_none)
        return None if treedef != self.treedef or jax.tree_util.treedef_is_leaf(treedef) else leaves

    def of_numbers(self) -> Self:
        """The run whose extra arguments, if trees like the updates, are None where something is left out."""
        extra = dict(self.extra)
        for name in extra:
            leaves = self.beside_updates(name)
            if leaves is not None:
                kept = [None if i in self.left else leaf for i, leaf in enumerate(leaves)]
                extra[name] = self.treedef.unflatten(kept)
        return replace(self, extra=extra)

    def check_left(self, name: str) -> None:
        """Raise if a stage that would compute with it is to pass by something that is left out."""
        for i, x in self.left.items():
            if x is None or getattr(x, "dtype", None) == NOTHING:
                continue  # nothing is asked for; so says the gradient of an integer, too
            numbers = hasattr(x, "dtype") and is_inexact(x.dtype)
            kind = errors.kind_of(self.beside[i] if numbers else x)
            raise errors.not_inexact(name, errors.path_of(self.given, i), kind)

    def finish(self) -> Updates:
        """The updates as they leave."""
        pairs = zip(self.leaves, self.dtypes, strict=True)
        leaves = [x if x is None else cast(x, dtype) for x, dtype in pairs]
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


def _as_leaf(x: Any) -> tuple[Any, DType]:
    # What is no number stays what it is, until a stage that would compute with it says where it is.
    if not isinstance(x, bool | int | float | complex):
        return x, NOTHING
    leaf = jnp.asarray(x)
    return leaf, leaf.dtype


NOTHING = jax.dtypes.float0
"""The dtype of what has no numbers."""

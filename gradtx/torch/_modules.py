"""Modules of Flax nnx: what is in them counts, as in PyTorch, whoever put it there."""

import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax

from gradtx.arrays.errors import is_none
from gradtx.arrays.select import key_paths


def nnx_of(x: Any) -> Any:
    """The module flax.nnx if x is one of its modules, else None."""
    nnx = sys.modules.get("flax.nnx")
    return nnx if nnx is not None and isinstance(x, nnx.Module) else None


def is_variable(x: Any) -> bool:
    """Whether x is a variable of Flax nnx, such as a param of a module."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(x, nnx.Variable)


def params_of(x: Any) -> Any:
    """The tree of arrays that a user's params stand for: of a module, its `nnx.Param`s."""
    nnx = nnx_of(x)
    return x if nnx is None else nnx.state(x, nnx.Param)


def by_path(state: Any, is_leaf: Callable[[Any], bool] | None = None) -> dict[tuple[Any, ...], Any]:
    """The leaves of the state of a module by their paths, without the boxes of arrays."""
    return dict(zip(key_paths(state, is_leaf), jax.tree.leaves(state, is_leaf=is_leaf), strict=True))


class Held:
    """The params of a module that an optimizer moves, each known by its path.

    They are those that the module had when it was given: what it gets later is not moved, and what it loses
    (replaced by a param that it shares with another layer, say) is no longer in it.

    Attributes:
        module: the module.
        paths: of the params, in their order.
        seen: the array of each in the module, when that was looked at or written last; None if it is lost.
    """

    def __init__(self, module: Any):
        self.module = module
        self._variables: list[Any] = []
        self._where: list[Any] = []
        self._arrays: list[Any] = []
        self._look()
        self.paths = list(self._found)
        self.seen: list[Any] = list(self._found.values())

    def now(self) -> list[Any]:
        """The array of each param that is in the module now; None for one that is lost."""
        self._look()
        return self._in_order(self._found)

    def write(self, arrays: Sequence[Any]) -> None:
        """Put arrays into the module, as it was looked at last, except for params that are lost."""
        ours = dict(zip(self.paths, arrays, strict=True))
        self._found = {path: ours.get(path, array) for path, array in self._found.items()}
        nnx_of(self.module).update(self.module, self._treedef.unflatten(self._found.values()))
        self.seen = self._in_order(self._found)
        self._arrays = jax.tree.leaves(self._variables)

    def of_tree(self, tree: Any) -> list[Any] | None:
        """Of a tree like the params of the module as it is now, what belongs to each param here.

        None for params that are lost; None in place of the list if the tree is no such tree.
        """
        given = by_path(params_of(tree), is_none)
        here = {path for path, x in given.items() if x is not None or path in self._found}
        return self._in_order(given) if here == self._found.keys() else None

    def _in_order(self, found: dict[Any, Any]) -> list[Any]:
        return [found.get(path) for path in self.paths]

    def _look(self) -> None:
        # Flax takes a module apart in Python, and most often nothing in it has changed but what was written.
        where, variables = _variables_of(self.module)
        arrays = jax.tree.leaves(variables)
        same = _same(variables, self._variables) and _same(arrays, self._arrays) and where == self._where
        if variables and same:
            return
        params = params_of(self.module)
        self._treedef, self._found = jax.tree.structure(params), by_path(params)
        self._where, self._variables, self._arrays = where, variables, arrays


class HeldVariables:
    """Variables in a tree, such as the list of some params of a module, that an optimizer moves.

    Attributes:
        module: the tree.
        seen: the array of each, when that was looked at or written last.
    """

    def __init__(self, tree: Any):
        self.module = tree
        self.seen = self.now()

    def now(self) -> list[Any]:
        """The array of each variable now."""
        return jax.tree.leaves(self.module)

    def write(self, arrays: Sequence[Any]) -> None:
        """Put arrays into the variables."""
        for variable, array in zip(jax.tree.leaves(self.module, is_leaf=is_variable), arrays, strict=True):
            sys.modules["flax.nnx"].update(variable, array)
        self.seen = list(arrays)

    def of_tree(self, tree: Any) -> list[Any] | None:
        """Of a tree that has arrays where this has variables, the arrays; None if it is no such tree."""
        try:
            found = jax.tree.structure(self.module, is_leaf=is_variable).flatten_up_to(tree)
        except (ValueError, TypeError):
            return None
        return [jax.tree.leaves(x)[0] if is_variable(x) else x for x in found]


def held(params: Any) -> "Held | HeldVariables | None":
    """What of Flax's the params are in, which they stay in; None for arrays alone.

    The state of a module is a tree of arrays, though they are in variables, too.
    """
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return None
    if isinstance(params, nnx.Module):
        return Held(params)
    leaves = jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, nnx.Variable | nnx.State))
    kinds = {is_variable(x) for x in leaves}
    if kinds == {True, False}:
        raise TypeError(
            "some of the params are variables of Flax, which a step updates, and some are arrays, which it "
            "returns anew; put them into two groups"
        )
    return HeldVariables(params) if True in kinds else None


def _variables_of(module: Any) -> tuple[list[Any], list[Any]]:
    """Where variables are in a module, and these, if all of it is a tree to JAX; else nothing."""
    nnx = nnx_of(module)
    leaves = jax.tree_util.tree_leaves_with_path(module, is_leaf=lambda x: isinstance(x, nnx.Variable))
    if any(isinstance(x, nnx.Module) for _, x in leaves):
        return [], []
    found = [(path, x) for path, x in leaves if isinstance(x, nnx.Variable)]
    return [path for path, _ in found], [x for _, x in found]


def _same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(map(operator.is_, a, b))

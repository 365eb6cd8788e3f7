"""Modules of Flax nnx: what is in them counts, as in PyTorch, whoever put it there."""

import operator
import sys
from collections.abc import Sequence
from typing import Any

import jax

from gradtx.arrays.errors import is_none


def nnx_of(x: Any) -> Any:
    """The module flax.nnx if x is one of its modules, else None."""
    nnx = sys.modules.get("flax.nnx")
    return nnx if nnx is not None and isinstance(x, nnx.Module) else None


def params_of(x: Any) -> Any:
    """The tree of arrays that a user's params stand for: of a module, its `nnx.Param`s."""
    nnx = nnx_of(x)
    return x if nnx is None else nnx.state(x, nnx.Param)


def by_path(state: Any) -> dict[tuple[Any, ...], Any]:
    """The leaves of the state of a module, None included, by their paths, without the boxes of arrays."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state, is_leaf=is_none)
    return {path[:-1] if path and path[-1] == _BOX else path: leaf for path, leaf in leaves}


_BOX = jax.tree_util.GetAttrKey("value")


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
        given = by_path(params_of(tree))
        return self._in_order(given) if given.keys() == self._found.keys() else None

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

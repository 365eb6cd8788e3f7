"""What an optimizer is given to optimise: trees, nnx modules, PyTorch's lists and groups of them."""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.errors import is_sparse
from gradtx.arrays.select import leaf_paths, select


class Place(NamedTuple):
    """Where a leaf of a tree is kept: which group, and which of its params."""

    group: int
    index: int


@dataclass(frozen=True)
class Tree:
    """A tree of params as the user knows it, without its leaves.

    Attributes:
        treedef: its structure.
        places: of each leaf.
        module: the nnx module that the params are of, or None.
    """

    treedef: Any
    places: tuple[Place, ...]
    module: Any = None

    def assemble(self, groups: Sequence[Mapping[str, Any]]) -> Any:
        """The tree with the params of these groups."""
        return self.treedef.unflatten([groups[g]["params"][i] for g, i in self.places])

    def split(self) -> tuple[Any, Any]:
        """Of a module: its graph, and what it has besides params; of a plain tree None, None."""
        if self.module is None:
            return None, None
        nnx = nnx_of(self.module)
        graph, _, rest = nnx.split(self.module, nnx.Param, ...)
        return graph, rest

    def merge(self, graph: Any, groups: Sequence[Mapping[str, Any]], rest: Any) -> Any:
        """A module of this graph, with the params of these groups."""
        return nnx_of(self.module).merge(graph, self.assemble(groups), rest)

    def write(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Put the params of these groups into the module, if there is one."""
        if self.module is not None:
            nnx_of(self.module).update(self.module, self.assemble(groups))

    def flatten(self, name: str, grads: Any) -> Iterator[tuple[Place, Any]]:
        """The gradients of a tree like this, None included, with their places."""
        try:
            leaves = self.treedef.flatten_up_to(grads)
        except (ValueError, TypeError):
            like = self.treedef.unflatten(range(len(self.places)))
            raise errors.another_structure(name, "the params", like, "the gradients", grads) from None
        return zip(self.places, leaves, strict=True)


def nnx_of(x: Any) -> Any:
    """The module flax.nnx if x is one of its modules, else None."""
    nnx = sys.modules.get("flax.nnx")
    return nnx if nnx is not None and isinstance(x, nnx.Module) else None


def tree_of(params: Any) -> Any:
    """The tree of arrays that a user's params stand for: of a module, its `nnx.Param`s."""
    nnx = nnx_of(params)
    return params if nnx is None else nnx.state(params, nnx.Param)


def is_groups(params: Any) -> bool:
    """Whether these are groups as PyTorch takes them: a list of dicts with ``params``."""
    return (
        isinstance(params, list | tuple)
        and bool(params)
        and all(isinstance(group, Mapping) and "params" in group for group in params)
    )


def listed(params: Any) -> Any:
    """Params of any kind that PyTorch takes, as a tree: iterators as lists, named pairs as a dict."""
    if isinstance(params, jax.Array) or hasattr(params, "__array__"):
        raise TypeError(
            "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
            f"{type(params).__name__}; put it into a list or a dict"
        )
    if isinstance(params, set | frozenset):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but the ordering of "
            "tensors in sets will change between runs. Please use a list instead."
        )
    if isinstance(params, Iterator):
        params = list(params)
    if isinstance(params, list | tuple):
        named = [isinstance(p, tuple) and len(p) == 2 and isinstance(p[0], str) for p in params]
        if any(named) and not all(named):
            raise ValueError(
                "all optimizer params should be with/without names. Some param names are missing"
            )
        if named and all(named):
            return dict(params)
    return params


def is_tree(x: Any) -> bool:
    """Whether x is a pytree with children, and no leaf."""
    return not jax.tree_util.all_leaves([x])


def is_plain_list(tree: Any) -> bool:
    """Whether a tree is a list of arrays, whose params have no names."""
    return isinstance(tree, list | tuple) and jax.tree_util.all_leaves(tree)


class Entry(NamedTuple):
    """A tree of params: the leaves as given, their names (None for a plain list), and its structure."""

    given: list[Any]
    names: list[str] | None
    treedef: Any

    @property
    def labels(self) -> list[str]:
        """The names, or numbers."""
        return list(map(str, range(len(self.given)))) if self.names is None else self.names


def entry(params: Any) -> Entry:
    """The leaves and names of a tree of params, and its structure."""
    tree = tree_of(params)
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_sparse)
    if not is_plain_list(tree):
        return Entry(leaves, leaf_paths(tree, is_leaf=is_sparse), treedef)
    if len({id(leaf) for leaf in leaves}) < len(leaves):
        warnings.warn(
            "optimizer contains a parameter group with duplicate parameters; in future, this will cause "
            "an error; here each of them is optimised apart",
            stacklevel=5,
        )
    return Entry(leaves, None, treedef)


def check_optimisable(name: str, path: str, leaf: Any) -> None:
    """Raise unless this is a dense array of real or complex numbers."""
    if is_sparse(leaf):
        raise ValueError(f"Sparse params at indices [{path}]: {name} requires dense parameter tensors")
    if not hasattr(leaf, "dtype") and not isinstance(leaf, float | complex):
        raise TypeError(
            f"optimizer can only optimize Tensors, but one of the params is {type(leaf).__name__}: {path}"
        )
    dtype = jnp.result_type(leaf)
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise errors.not_inexact(name, path, dtype)


def by_pattern(
    tree: Any, overrides: Mapping[Any, Mapping[str, Any] | None]
) -> list[tuple[Mapping[str, Any] | None, list[int]]]:
    """The groups that path patterns make of a tree: options, None where frozen; and which leaves are in each.

    The groups come in the order of the patterns, and what none matches is the last.
    """
    patterns = list(overrides)
    chosen = select("optimizer", "groups", {p: p for p in patterns}, tree, default=None)
    leaves = jax.tree.leaves(tree, is_leaf=errors.is_none)
    chosen = [label for label, leaf in zip(chosen, leaves, strict=True) if leaf is not None]
    keys = [*patterns, None] if None in chosen else patterns
    return [(overrides.get(key, {}), [i for i, label in enumerate(chosen) if label == key]) for key in keys]

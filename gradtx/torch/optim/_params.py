"""What an optimizer is given to optimise: trees, nnx modules, PyTorch's lists and groups of them."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from gradtx.arrays import errors
from gradtx.arrays.errors import is_sparse
from gradtx.arrays.numerics import has_numbers
from gradtx.arrays.select import leaf_paths, select
from gradtx.torch._modules import Held, HeldVariables, is_variable, params_of


class Place(NamedTuple):
    """Where a leaf of a tree is kept: which group, and which of its params."""

    group: int
    index: int


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree of params as the user knows it, without its leaves.

    Attributes:
        treedef: its structure.
        places: of each leaf.
        held: what it is of a module, or of variables, or None.
    """

    treedef: Any
    places: tuple[Place, ...]
    held: Held | HeldVariables | None = None

    def assemble(self, groups: Sequence[Mapping[str, Any]]) -> Any:
        """The tree with the params of these groups."""
        return self.treedef.unflatten([groups[g]["params"][i] for g, i in self.places])

    def looked_at(self) -> Iterator[tuple[Place, Any, Any]]:
        """Of the params of a module, the array that is there now and the one that was there before.

        None for a param that it has no more; of a plain tree there is nothing.
        """
        if self.held is not None:
            yield from zip(self.places, self.held.now(), self.held.seen, strict=True)

    def write(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Put the params of these groups into the module, if there is one."""
        if self.held is not None:
            self.held.write([groups[g]["params"][i] for g, i in self.places])

    def flatten(self, name: str, what: str, tree: Any) -> Iterator[tuple[Place, Any]]:
        """The leaves of a tree like this, None included, with their places.

        Args:
            name: who asks, for errors.
            what: what the tree is of, for errors.
            tree: of one structure with this, or with the module as it is now.
        """
        leaves = self._leaves(tree)
        if leaves is None or not all(map(_is_one_tensor, leaves)):
            now = (
                params_of(self.held.module) if self.held else self.treedef.unflatten(range(len(self.places)))
            )
            raise errors.another_structure(name, "the params", now, what, params_of(tree))
        return zip(self.places, leaves, strict=True)

    def _leaves(self, tree: Any) -> list[Any] | None:
        try:
            return self.treedef.flatten_up_to(params_of(tree))
        except (ValueError, TypeError):
            return self.held.of_tree(tree) if self.held else None


def _is_one_tensor(x: Any) -> bool:
    return x is None or is_sparse(x) or jax.tree_util.all_leaves([x])


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
            repeated = [name for name, times in Counter(name for name, _ in params).items() if times > 1]
            if repeated:
                raise ValueError(
                    f"two params are called {repeated[0]!r}, numbers "
                    f"{' and '.join(str(i) for i, (name, _) in enumerate(params) if name == repeated[0])} of "
                    "the list; give each a name of its own, such as 'actor.weight' and 'critic.weight'"
                )
            return dict(params)
    return params


def is_tree(x: Any) -> bool:
    """Whether x is a pytree with children, and no leaf."""
    return not jax.tree_util.all_leaves([x])


def is_plain_list(tree: Any) -> bool:
    """Whether a tree is a list of arrays, whose params have no names."""
    return isinstance(tree, list | tuple) and jax.tree_util.all_leaves(tree, is_leaf=is_variable)


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
    tree = params_of(params)
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
    if not has_numbers(leaf):
        raise errors.not_inexact(name, path, errors.kind_of(leaf))


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

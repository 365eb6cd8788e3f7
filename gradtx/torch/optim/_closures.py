"""Closures: functions of what the user calls the params, as functions of the groups of an optimizer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.tree_util import Partial

from gradtx.torch.optim._params import Tree, is_tree, nnx_of


def is_closure(x: Any) -> bool:
    """Whether x is a function of the params, and not gradients (a callable module is a tree)."""
    return callable(x) and (isinstance(x, Partial) or (not nnx_of(x) and not is_tree(x)))


@dataclass(frozen=True)
class OnGroups:
    """Calls a closure with the trees that the params of groups make.

    Attributes:
        trees: their structures.
        graphs: for each the graph of its nnx module, or None.
        as_list: whether the user knows them as a list.
    """

    trees: tuple[Tree, ...]
    graphs: tuple[Any, ...]
    as_list: bool

    def __call__(
        self, closure: Callable[[Any], Any], rests: Sequence[Any], groups: Sequence[Mapping[str, Any]]
    ) -> Any:
        params = [{"params": list(group.values())} for group in groups]
        trees = [
            tree.assemble(params) if graph is None else tree.merge(graph, params, rest)
            for tree, graph, rest in zip(self.trees, self.graphs, rests, strict=True)
        ]
        return closure(trees if self.as_list else trees[0])


def on_groups(closure: Callable[[Any], Any], trees: Sequence[Tree], as_list: bool) -> Partial:
    """The closure as a function of groups; arrays that it is a `Partial` of, and the buffers of modules,
    are arguments of what is compiled, not constants."""
    parts = [tree.split() for tree in trees]
    structure = OnGroups(tuple(trees), tuple(graph for graph, _ in parts), as_list)
    inner = closure if isinstance(closure, Partial) else Partial(closure)
    return Partial(structure, inner, [rest for _, rest in parts])


@jax.jit
def value_and_grad(value_fn: Callable[[Any], Any], groups: Sequence[Mapping[str, Any]]) -> Any:
    """The loss and the gradients of groups."""
    return jax.value_and_grad(value_fn)(groups)

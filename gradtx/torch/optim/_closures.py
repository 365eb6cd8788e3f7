"""Closures: functions of what the user calls the params, as functions of the groups of an optimizer.

What is compiled for a closure lives as long as the closure, and no longer: programs hold its constants, a
data set perhaps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jax.tree_util import Partial

from gradtx.arrays.select import path_string
from gradtx.torch._modules import Held, HeldVariables, by_path, nnx_of
from gradtx.torch.optim._params import Place, Tree, is_tree
from gradtx.values.programs import CompiledFor


def is_closure(x: Any) -> bool:
    """Whether x is a function of the params, and not gradients (a callable module is a tree)."""
    return callable(x) and (isinstance(x, Partial) or (not nnx_of(x) and not is_tree(x)))


@dataclass(frozen=True)
class Shape:
    """What a tree of params, or the module that they are of, is made of.

    Attributes:
        treedef: the structure of the params.
        places: of each leaf; None for a param of the module that is not optimised.
        graph: of the module; None for a plain tree.
        nnx: the module flax.nnx, or None.
    """

    treedef: Any
    places: tuple[Place | None, ...]
    graph: Any = None
    nnx: Any = None


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["args", "kwargs", "others", "buffers"],
    meta_fields=["name", "shapes", "as_list"],
)
@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a closure, without the closure itself and the params that it is evaluated at.

    Attributes:
        name: of the optimizer, for errors.
        shapes: of the trees that it is given.
        as_list: whether it is given them as a list.
        args, kwargs: what it is a `Partial` of.
        others: for each tree the params of the module that are not optimised.
        buffers: for each tree what the module has besides params, None for a plain tree.
    """

    name: str
    shapes: tuple[Shape, ...]
    as_list: bool
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    others: Sequence[Sequence[Any]]
    buffers: Sequence[Any]

    def __call__(self, function: Callable[..., Any], groups: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
        """The loss at these params, and the buffers that the evaluation leaves."""
        params = [list(group.values()) for group in groups]
        trees = []
        for shape, others, buffers in zip(self.shapes, self.others, self.buffers, strict=True):
            rest = iter(others)
            leaves = [
                next(rest) if place is None else params[place.group][place.index] for place in shape.places
            ]
            tree = shape.treedef.unflatten(leaves)
            if shape.nnx is not None:
                # Flax lets variables be changed in the trace alone that they were made in: so make them here.
                tree = shape.nnx.merge(shape.graph, tree, jax.tree.map(lambda x: x, buffers))
            trees.append(tree)
        loss = function(*self.args, trees if self.as_list else trees[0], **self.kwargs)
        return loss, [
            None if shape.nnx is None else _buffers_of(shape.nnx, tree, buffers)
            for shape, tree, buffers in zip(self.shapes, trees, self.buffers, strict=True)
        ]

    def loss(self, function: Callable[..., Any], groups: Sequence[Mapping[str, Any]]) -> Any:
        """The loss alone; an error if the evaluation changes a buffer of a module."""
        loss, buffers = self(function, groups)
        for before, after in zip(self.buffers, buffers, strict=True):
            left = by_path(after)
            changed = [path for path, x in by_path(before).items() if left[path] is not x]
            if changed:
                raise ValueError(
                    f"{self.name}: the closure changes {path_string(changed[0])} of the module, and a step "
                    "evaluates it many times and keeps no such change: call model.eval() before"
                )
        return loss


def _buffers_of(nnx: Any, module: Any, before: Any) -> Any:
    """What a module has besides params, of what it had before."""
    after = by_path(nnx.state(module, nnx.Not(nnx.Param)))
    return jax.tree.structure(before).unflatten([after.get(path, x) for path, x in by_path(before).items()])


def evaluation(
    name: str, closure: Callable[..., Any], trees: Sequence[Tree], as_list: bool
) -> tuple[Callable[..., Any], Evaluation]:
    """The function of a closure, and its evaluation: the arrays that it is a `Partial` of and the buffers of
    modules are arguments of what is compiled, not constants."""
    shapes, others, buffers = [], [], []
    for tree in trees:
        shape, other, buffer = _shape_of(tree)
        shapes.append(shape)
        others.append(other)
        buffers.append(buffer)
    args, kwargs = (closure.args, closure.keywords) if isinstance(closure, Partial) else ((), {})
    function = closure.func if isinstance(closure, Partial) else closure
    return function, Evaluation(name, tuple(shapes), as_list, args, kwargs, others, buffers)


def _shape_of(tree: Tree) -> tuple[Shape, list[Any], Any]:
    if tree.held is None or isinstance(tree.held, HeldVariables):
        return Shape(tree.treedef, tree.places), [], None
    module, nnx = tree.held.module, nnx_of(tree.held.module)
    graph, params, buffers = nnx.split(module, nnx.Param, ...)
    place_of = dict(zip(tree.held.paths, tree.places, strict=True))
    found = by_path(params)
    places = tuple(place_of.get(path) for path in found)
    others = [x for x, place in zip(found.values(), places, strict=True) if place is None]
    return Shape(jax.tree.structure(params), places, graph, nnx), others, buffers


def write_buffers(trees: Sequence[Tree], buffers: Sequence[Any]) -> None:
    """Put what an evaluation left into the modules: statistics, the counts of random streams."""
    for tree, own in zip(trees, buffers, strict=True):
        if isinstance(tree.held, Held):
            nnx_of(tree.held.module).update(tree.held.module, own)


def _value_and_grad(function: Callable[..., Any], evaluation: Evaluation, groups: Sequence[Any]) -> Any:
    return jax.value_and_grad(partial(evaluation, function), has_aux=True)(groups)


value_and_grad = CompiledFor(_value_and_grad)
"""``value_and_grad(function, evaluation, groups)`` is ``(loss, buffers), gradients``."""

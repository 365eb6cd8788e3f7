"""What is where in a state: ``tree.get(state, "mu")`` finds a slot wherever it is nested."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from gradtx.arrays.types import State
from gradtx.core.layout import is_coded

Path = tuple[Any, ...]
Filter = Callable[[Path, Any], bool]


@dataclass(frozen=True)
class NamedTupleKey:
    """A step of a path into a named tuple; beside the field it knows the tuple, which a filter may want.

    Args:
        tuple_name: the class, such as ``"ScaleByAdamState"``.
        name: the field, such as ``"mu"``.
    """

    tuple_name: str
    name: str

    def __str__(self) -> str:
        return f"{self.tuple_name}.{self.name}"


def get_all_with_path(tree: Any, key: Any, filtering: Filter | None = None) -> list[tuple[Path, Any]]:
    """Everything called `key` in a tree, with its path: fields of named tuples, keys of dicts, and
    named tuples by the name of their class.

    Args:
        tree: any pytree, most often a state.
        key: ``"mu"``, ``"learning_rate"``, ``"ScaleByAdamState"``.
        filtering: ``filtering(path, value)`` says what else must hold.

    Returns:
        Pairs of a path and what is there, in the order of the tree; what is within another node with such
        a name comes after all that are not. A path is a tuple of JAX's keys, with a `NamedTupleKey` for
        each named tuple on the way.
    """
    outer, inner = _find(tree, key, ())
    return [pair for pair in (*outer, *inner) if filtering is None or filtering(*pair)]


Found = list[tuple[Path, Any]]


def _find(node: Any, key: Any, path: Path) -> tuple[Found, Found]:
    """What is called `key`, on its own, and within other nodes that have it."""
    found: Found = []
    if isinstance(node, tuple) and type(node).__name__ == key and hasattr(node, "_fields"):
        found.append((path, node))
    children = [((*path, entry), child) for entry, child in _children(node)]
    found += [(place, child) for place, child in children if _name(place[-1]) == key]
    below = [_find(child, key, place) for place, child in children]
    if found:
        return found, [pair for outer, inner in below for pair in (*outer, *inner)]
    return [pair for outer, _ in below for pair in outer], [pair for _, inner in below for pair in inner]


def _children(node: Any) -> list[tuple[Any, Any]]:
    pairs, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return [(NamedTupleKey(type(node).__name__, _name(path[0])), child) for path, child in pairs if path]
    return [(path[0], child) for path, child in pairs if path]


def _name(entry: Any) -> Any:
    return getattr(entry, "name", getattr(entry, "key", None))


def get(tree: Any, key: Any, default: Any = None, filtering: Filter | None = None) -> Any:
    """The one thing called `key` in a tree.

    Args:
        tree: any pytree, most often a state.
        key: the name of a field, a dict key, or a class of named tuple.
        default: returned if there is none.
        filtering: ``filtering(path, value)`` says which of several is meant.

    Raises:
        KeyError: if several remain; the message lists their paths.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.chain(gradtx.clip(1.0), gradtx.adam(1e-3))
        >>> gradtx.tree.get(tx.init({"w": jnp.zeros(2)}), "mu")
        {'w': Array([0., 0.], dtype=float32)}
    """
    found = get_all_with_path(tree, key, filtering)
    if len(found) > 1:
        where = ", ".join(jax.tree_util.keystr(path) for path, _ in found)
        raise KeyError(f"tree.get: {key!r} is at {where}; say which with filtering=lambda path, value: ...")
    return found[0][1] if found else default


def set(tree: Any, filtering: Filter | None = None, /, **values: Any) -> Any:
    """The tree with everything of these names replaced.

    Args:
        tree: any pytree, most often a state.
        filtering: ``filtering(path, value)`` limits what is replaced.
        **values: new values by name, as `get` finds them.

    Raises:
        KeyError: if there is nothing of a name.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.inject_hyperparams(gradtx.sgd)(learning_rate=0.1)
        >>> state = gradtx.tree.set(tx.init({"w": jnp.zeros(2)}), learning_rate=jnp.asarray(0.5))
        >>> print(gradtx.tree.get(state, "learning_rate"))
        0.5
    """
    for key in values:
        found = get_all_with_path(tree, key, filtering)
        if not found:
            raise KeyError(
                f"tree.set: there is no {key!r} in the tree" + (" that passes filtering" if filtering else "")
            )
        places = {path for path, _ in found}
        tree = _replaced(tree, (), places, values[key])
    return tree


def _replaced(node: Any, path: Path, places: Any, value: Any) -> Any:
    if path in places:
        return value
    pairs = _children(node)
    if not pairs:
        return node
    treedef = jax.tree.structure(node, is_leaf=lambda x: x is not node)
    return treedef.unflatten([_replaced(child, (*path, entry), places, value) for entry, child in pairs])


@jax.tree_util.register_pytree_node_class
class _ParamsPlace:
    """Stands for a whole tree of params: `init` of it shows where in a state such trees are."""

    def tree_flatten(self) -> tuple[tuple[()], None]:
        return (), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: Any) -> "_ParamsPlace":
        del aux, children
        return cls()


def map_params(
    initable: Any,
    f: Callable[..., Any],
    state: State,
    /,
    *rest: Any,
    transform_non_params: Callable[[Any], Any] | None = None,
    is_leaf: Callable[[Any], bool] | None = None,
) -> State:
    """Map a function over those leaves of a state that stand for a param each.

    Shardings of a state follow the params by ``map_params(tx, lambda _, s: s, state, shardings,
    transform_non_params=lambda _: replicated)``.

    Args:
        initable: a transformation, or its `init`.
        f: ``f(leaf, *others)``, called with a leaf of the state and those of `rest` beside it. A slot that
            `gradtx.stored` keeps in a format is one leaf: ``leaf.decode()`` is the tensor, and
            ``leaf.encode(x)`` another in its place.
        state: a state of it.
        *rest: trees like the params.
        transform_non_params: called with every other leaf (counts, keys). Default: left as they are.
        is_leaf: as in `jax.tree.map`.
    """
    init = getattr(initable, "init", initable)
    places = init(_ParamsPlace())
    other = transform_non_params or (lambda x: x)

    def at(place: Any, part: Any) -> Any:
        if isinstance(place, _ParamsPlace):
            return jax.tree.map(f, part, *rest, is_leaf=lambda x: is_coded(x) or bool(is_leaf and is_leaf(x)))
        return other(part)

    return jax.tree.map(at, places, state, is_leaf=lambda x: isinstance(x, _ParamsPlace))

"""Which parameters: one way to say it, for masks, labels and groups alike.

A selector gives every parameter a label. It is one of

- a **path pattern**, for masks: a regular expression that must match the whole path, ``r".*bias"``;
- ``{pattern: label}``: the first pattern that matches decides; a function of ``(path, leaf)`` may stand
  for a pattern;
- a **function of** ``(path, leaf)``;
- a **function of the whole params** that returns a tree of labels, as in Optax (the two kinds of
  function are told apart by how many arguments they must be given);
- a **tree** of labels, like the params or a prefix of them.

A path is the keys from the root, joined by slashes: ``dense/kernel``, ``layers/0/bias``. The boxes of
Flax are not part of it; paths that would read alike are written as JAX writes them. A pattern that
matches nothing is an error: it is a typing mistake, or the model has changed.

Labels are of the params, also in an update. One that is not given the params knows of them what it knows
of their updates: paths and shapes. A function that looks at anything else, a dtype or values, is then an
error; and so is, while jax traces, one that looks at values.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax.core import Tracer

from gradtx.arrays import errors
from gradtx.arrays.outline import is_outline
from gradtx.arrays.signatures import signature
from gradtx.arrays.types import PyTree, Selector
from gradtx.values.counting import OF_TRACERS


def path_string(path: tuple[Any, ...]) -> str:
    """A pytree key path in words, where nothing is known of the nodes: a last field ``value`` is a box's."""
    return joined_keys(path[:-1] if path[-1:] == _VALUE else path)


def joined_keys(path: tuple[Any, ...]) -> str:
    """A pytree key path, without the names of boxes, as patterns and state names see it: ``dense/kernel``."""
    return "/".join(map(_key, path))


_NAMES = {
    jax.tree_util.DictKey: "key",
    jax.tree_util.GetAttrKey: "name",
    jax.tree_util.SequenceKey: "idx",
    jax.tree_util.FlattenedIndexKey: "key",
}
"""Where keys of JAX's own kinds have what they are called; for others it is tried out."""


def _key(entry: Any) -> str:
    known = _NAMES.get(type(entry))
    if known is not None:
        return str(getattr(entry, known))
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def key_paths(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[Any, ...]]:
    """The pytree key path of every leaf of a tree, without the names of boxes."""
    found: list[tuple[Any, ...]] = []
    whole = _is_box if is_leaf is None else lambda x: is_leaf(x) or _are_boxes(type(x))
    outer, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=whole)
    for path, x in outer:
        if not _are_boxes(type(x)):
            found.append(path)
            continue
        inner, _ = jax.tree_util.tree_flatten_with_path(x, is_leaf=is_leaf)
        # In a box may be an array, or one in a form: a node, of several.
        found += [path + (rest[1:] if rest[:1] == _VALUE else rest) for rest, _ in inner]
    return found


_VALUE = (jax.tree_util.GetAttrKey("value"),)


def _is_box(x: object) -> bool:
    return _are_boxes(type(x))


@lru_cache(maxsize=1024)
def _are_boxes(kind: type) -> bool:
    # Flax boxes an array as a node whose only field is `value`, which is no name of the array's. A node of
    # anybody else with such a field lacks what boxes can be asked.
    return hasattr(kind, "replace_boxed") or hasattr(kind, "get_metadata")


def unboxed(tree: PyTree) -> PyTree:
    """The tree with what is in Flax's boxes in their place."""
    content = jax.tree_util.default_registry.flatten_one_level
    return jax.tree.map(lambda x: content(x)[0][0] if _is_box(x) else x, tree, is_leaf=_is_box)


def leaf_paths(tree: PyTree, is_leaf: Callable[[Any], bool] | None = errors.is_none) -> list[str]:
    """The path of every leaf of a tree (None is a leaf); each is another.

    Where two would read alike, ``{"a/b": x}`` beside ``{"a": {"b": y}}``, they are written as JAX does:
    ``['a/b']`` and ``['a']['b']``.
    """
    found = key_paths(tree, is_leaf)
    return told_apart(list(map(joined_keys, found)), lambda i: jax.tree_util.keystr(found[i]))


def told_apart(names: Sequence[str], exact: Callable[[int], str]) -> list[str]:
    """Names, with the exact one of the i-th, ``exact(i)``, in place of those that occur more than once."""
    found = list(names)
    while len(set(found)) < len(found):
        times = Counter(found)
        changed = {i: exact(i) for i, name in enumerate(found) if times[name] > 1 and name != exact(i)}
        if not changed:
            break
        for i, name in changed.items():
            found[i] = name
    return found


_UNMATCHED = object()


@dataclass(frozen=True)
class Labels:
    """What a selector says of a tree: a label for each leaf (None is one), or for each subtree of a prefix.

    Attributes:
        each: the labels.
        treedef: the structure that has them for leaves.
    """

    each: list[Any]
    treedef: Any

    @classmethod
    def of_leaves(cls, labels: Iterable[Any], tree: PyTree) -> Self:
        """One label for each leaf of a tree."""
        return cls(list(labels), jax.tree.structure(tree, is_leaf=errors.is_none))

    def map(self, function: Callable[..., Any], *trees: PyTree) -> PyTree:
        """The tree of ``function(label, *subtrees)``."""
        columns = map(self.treedef.flatten_up_to, trees)
        return self.treedef.unflatten(map(function, self.each, *columns))

    def by_leaf(self, tree: PyTree) -> list[Any]:
        """The label of every leaf of the tree that they are for."""
        pairs = zip(self.each, self.treedef.flatten_up_to(tree), strict=True)
        return [label for label, part in pairs for _ in jax.tree.leaves(part, is_leaf=errors.is_none)]


def select(name: str, what: str, selector: Selector, tree: PyTree, default: object = _UNMATCHED) -> list[Any]:
    """The label of every leaf of a tree (None is a leaf); see `labels_of`."""
    return labels_of(name, what, selector, tree, default).by_leaf(tree)


def labels_of(
    name: str,
    what: str,
    selector: Selector,
    tree: PyTree,
    default: object = _UNMATCHED,
    paths: Sequence[str] | None = None,
) -> Labels:
    """What a selector says of a tree.

    Args:
        name: the transformation, for errors.
        what: its argument, for errors.
        selector: see the module's docstring.
        tree: the params; in an update that is not given them, their outlines.
        default: the label of what no pattern matches. Without one, that is an error.
        paths: those of its leaves, for who knows them.

    Raises:
        NotGiven: if the selector looks at more of the params than an update without them has.
        TypeError, ValueError: for what is no selector of this tree.
    """
    leaves = jax.tree.leaves(tree, is_leaf=errors.is_none)
    if not leaves:
        return Labels.of_leaves([], tree)
    if is_function(selector):
        with _asking(name, what, leaves):
            if _takes_path(name, what, selector):
                labels = map(_of_each(selector), paths or leaf_paths(tree), leaves)
                return Labels.of_leaves(map(_known, labels), tree)
            selector = jax.tree.map(_known, selector(tree))
    try:
        return _prefix(selector, tree)
    except (ValueError, TypeError) as error:
        if _are_patterns(selector):
            return Labels.of_leaves(
                _match(name, what, selector, paths or leaf_paths(tree), leaves, default), tree
            )
        unlike = error
    try:
        return _prefix(_where_there_is_any(selector, tree), tree)
    except (ValueError, TypeError):
        raise ValueError(
            f"{name}: {what} must be a tree like the params, or a prefix of one: {unlike}"
        ) from None


@contextmanager
def _asking(name: str, what: str, leaves: Sequence[Any]) -> Iterator[None]:
    """Around a function of a user's that is asked about these leaves."""
    try:
        yield
    except OF_TRACERS as error:
        raise TypeError(
            f"{name}: {what} looks at the values of the params, which are not known while jax traces: decide "
            "by path, shape or dtype, or make a tree of labels beforehand"
        ) from error
    except Exception as error:
        if any(map(is_outline, leaves)):
            raise errors.needs(
                name, "params", f"; {what} looks at more of them than their paths and shapes"
            ) from error
        raise


def _of_each(function: Callable[..., Any]) -> Callable[[str, Any], Any]:
    def label(path: str, leaf: Any) -> Any:
        try:
            return function(path, leaf)
        except Exception:
            if leaf is None:
                return None  # nothing is there to be labelled
            raise

    return label


def _known(label: Any) -> Any:
    """A label, of numbers without axes as Python's, which can be keys."""
    if isinstance(label, Tracer):
        raise jax.errors.ConcretizationTypeError(label)
    return label.item() if hasattr(label, "item") and getattr(label, "ndim", None) == 0 else label


def _takes_path(name: str, what: str, function: Callable[..., Any]) -> bool:
    """Whether a function is one of (path, leaf), and not of the whole params: by what it must be given."""
    try:
        asked = signature(function)
    except ValueError:  # written in C
        return False
    required = [x for x in asked.names[: asked.positional] if x in asked.required]
    if len(required) > 2 or asked.required - set(required):
        raise TypeError(
            f"{name}: {what}: a function must take the params, or (path, leaf); this one takes "
            f"{len(asked.required)} arguments"
        )
    return len(required) == 2


def mask_of(name: str, what: str, selector: Selector, tree: PyTree) -> Labels:
    """What a selector says of a tree, all of it bools; a param that is None may have any label."""
    alone = isinstance(selector, str)
    labels = labels_of(
        name, what, {selector: True} if alone else selector, tree, False if alone else _UNMATCHED
    )
    if not all(map(_is_bool, labels.each)):
        leaves = jax.tree.leaves(tree, is_leaf=errors.is_none)
        for label, leaf, path in zip(labels.by_leaf(tree), leaves, leaf_paths(tree), strict=True):
            if leaf is not None and not _is_bool(label):
                raise TypeError(
                    f"{name}: {what} must say True or False of each param, not {label!r} of {path}"
                )
    return labels


def _is_bool(label: Any) -> bool:
    return isinstance(label, bool) or getattr(label, "dtype", None) == jnp.bool_


def _are_patterns(selector: Selector) -> bool:
    if not isinstance(selector, Mapping) or not all(isinstance(x, str) or callable(x) for x in selector):
        return False
    return not any(isinstance(label, Mapping) for label in selector.values())


def is_function(x: object) -> bool:
    """Whether x is a function to call, and not a callable that is itself a tree (a module)."""
    return callable(x) and jax.tree_util.all_leaves([x])


def _prefix(prefix: PyTree, tree: PyTree) -> Labels:
    labels, treedef = jax.tree.flatten(prefix, is_leaf=errors.is_none)
    treedef.flatten_up_to(tree)
    return Labels(labels, treedef)


def _where_there_is_any(prefix: PyTree, tree: PyTree) -> PyTree:
    """The labels without those of what is masked out, of which the tree has no leaves."""
    if not jax.tree.leaves(tree, is_leaf=errors.is_none):
        return None
    children, treedef = jax.tree.flatten(prefix, is_leaf=lambda x: x is not prefix)
    if prefix is None or jax.tree_util.treedef_is_leaf(treedef):
        return prefix
    return treedef.unflatten(map(_where_there_is_any, children, treedef.flatten_up_to(tree)))


def _match(
    name: str,
    what: str,
    patterns: Mapping[Any, Any],
    paths: Sequence[str],
    leaves: Sequence[Any],
    default: object,
) -> list[Any]:
    for pattern in patterns:
        if callable(pattern) and not _takes_path(name, what, pattern):
            raise TypeError(f"{name}: {what}: a function in the place of a pattern must take (path, leaf)")
    texts = [pattern for pattern in patterns if isinstance(pattern, str)]
    try:
        first, idle = _first_matches(tuple(texts), tuple(paths))
    except re.error as error:
        raise ValueError(f"{name}: {what}: {error.pattern!r} is no regular expression: {error}") from None
    if idle:
        raise ValueError(
            f"{name}: {what}: the pattern {idle[0]!r} matches none of the paths: {_listed(paths)}"
        )
    if len(texts) == len(patterns):
        labels = [default if pattern is None else patterns[pattern] for pattern in first]
    else:
        with _asking(name, what, leaves):
            labels = [
                next((label for pattern, label in patterns.items() if _holds(pattern, path, leaf)), default)
                for path, leaf in zip(paths, leaves, strict=True)
            ]
    unmatched = [path for path, label in zip(paths, labels, strict=True) if label is _UNMATCHED]
    if unmatched:
        raise ValueError(
            f"{name}: {what}: no pattern matches {_listed(unmatched)}; end with a pattern for the rest, '.*'"
        )
    return labels


@lru_cache(maxsize=256)
def _first_matches(patterns: tuple[str, ...], paths: tuple[str, ...]) -> tuple[list[str | None], list[str]]:
    """For each path the first pattern that matches, or None; and the patterns that match no path."""
    # An update asks what `init` has asked, and with many patterns and paths that is most of its trace.
    compiled = {pattern: re.compile(pattern) for pattern in patterns}
    first = [next((x for x in patterns if compiled[x].fullmatch(path)), None) for path in paths]
    used = set(first)
    return first, [x for x in patterns if x not in used and not any(map(compiled[x].fullmatch, paths))]


def _holds(pattern: Any, path: str, leaf: Any) -> Any:
    return _of_each(pattern)(path, leaf) if callable(pattern) else re.fullmatch(pattern, path)


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(paths[:8]) + (f", and {len(paths) - 8} more" if len(paths) > 8 else "")


def as_tree(labels: list[Any], tree: PyTree) -> PyTree:
    """The labels in the structure of the tree."""
    return jax.tree.structure(tree, is_leaf=errors.is_none).unflatten(labels)


def map_labelled(function: Callable[[Any, Any], Any], labels: list[Any], tree: PyTree) -> PyTree:
    """The tree of ``function(label, leaf)``; None is a leaf."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=errors.is_none)
    return treedef.unflatten(map(function, labels, leaves))

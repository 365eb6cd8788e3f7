"""Which parameters: one way to say it, for masks, labels and groups alike.

A selector gives every parameter a label. It is one of

- a **path pattern**, for masks: a regular expression that must match the whole path, ``r".*bias"``;
- ``{pattern: label}``: the first pattern that matches decides;
- a **function of** ``(path, leaf)``;
- a **function of the whole params** that returns a tree of labels, as in Optax (the two kinds of
  function are told apart by their number of arguments);
- a **tree** of labels, like the params or a prefix of them.

A path is the keys from the root, joined by slashes: ``dense/kernel``, ``layers/0/bias``. The boxes of
Flax are not part of it. A pattern that matches nothing is an error: it is a typing mistake, or the
model has changed.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gradtx.arrays import errors
from gradtx.arrays.signatures import signature
from gradtx.arrays.types import PyTree, Selector


def path_string(path: tuple[Any, ...]) -> str:
    """A pytree key path as patterns and state names see it: ``dense/kernel``."""
    keys = [_key(entry) for entry in path]
    # Flax boxes an array as a node whose only field is `value`; the box has no name of its own.
    boxed = bool(path) and isinstance(path[-1], jax.tree_util.GetAttrKey) and keys[-1] == "value"
    return "/".join(keys[:-1] if boxed else keys)


def _key(entry: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def leaf_paths(tree: PyTree) -> list[str]:
    """The path of every leaf of a tree; None is a leaf."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=errors.is_none)
    return [path_string(path) for path, _ in leaves]


_UNMATCHED = object()


def select(name: str, what: str, selector: Selector, tree: PyTree, default: object = _UNMATCHED) -> list[Any]:
    """The label of every leaf of a tree (None is a leaf).

    Args:
        name: the transformation, for errors.
        what: its argument, for errors.
        selector: see the module's docstring.
        tree: the params, or updates like them.
        default: the label of what no pattern matches. Without one, that is an error.
    """
    leaves = jax.tree.leaves(tree, is_leaf=errors.is_none)
    if not leaves:
        return []
    if isinstance(selector, str):
        return _match(name, what, {selector: True}, tree, default=False)
    if is_function(selector):
        if _takes_path(name, what, selector):
            return list(map(selector, leaf_paths(tree), leaves))
        selector = selector(tree)
    try:
        return _broadcast(selector, tree)
    except ValueError as error:
        if _are_patterns(selector):
            return _match(name, what, selector, tree, default)
        raise ValueError(
            f"{name}: {what} must be a tree like the params, or a prefix of one: {error}"
        ) from None


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


def select_mask(name: str, what: str, selector: Selector, tree: PyTree) -> list[bool]:
    """The label of every leaf of a tree, which must be a bool; a param that is None may have any."""
    labels = select(name, what, selector, tree)
    leaves = jax.tree.leaves(tree, is_leaf=errors.is_none)
    for i, (label, leaf) in enumerate(zip(labels, leaves, strict=True)):
        if leaf is not None and not isinstance(label, bool) and getattr(label, "dtype", None) != jnp.bool_:
            path = leaf_paths(tree)[i]
            raise TypeError(f"{name}: {what} must say True or False of each param, not {label!r} of {path}")
    return labels


def _are_patterns(selector: Selector) -> bool:
    if not isinstance(selector, Mapping) or not all(isinstance(key, str) for key in selector):
        return False
    return not any(isinstance(label, Mapping) for label in selector.values())


def is_function(x: object) -> bool:
    """Whether x is a function to call, and not a callable that is itself a tree (a module)."""
    return callable(x) and jax.tree_util.all_leaves([x])


def _broadcast(prefix: PyTree, tree: PyTree) -> list[Any]:
    labels: list[Any] = []

    def give(label: object, subtree: PyTree) -> None:
        labels.extend([label] * len(jax.tree.leaves(subtree, is_leaf=errors.is_none)))

    jax.tree.map(give, prefix, tree, is_leaf=errors.is_none)
    return labels


def _match(name: str, what: str, patterns: Mapping[str, Any], tree: PyTree, default: object) -> list[Any]:
    paths = leaf_paths(tree)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{name}: {what}: {pattern!r} is no regular expression: {error}") from None
        if not any(re.fullmatch(pattern, path) for path in paths):
            raise ValueError(
                f"{name}: {what}: the pattern {pattern!r} matches none of the paths: {_listed(paths)}"
            )
    labels = [next((patterns[p] for p in patterns if re.fullmatch(p, path)), default) for path in paths]
    unmatched = [path for path, label in zip(paths, labels, strict=True) if label is _UNMATCHED]
    if unmatched:
        raise ValueError(
            f"{name}: {what}: no pattern matches {_listed(unmatched)}; end with a pattern for the rest, '.*'"
        )
    return labels


def _listed(paths: list[str]) -> str:
    return ", ".join(paths[:8]) + (f", and {len(paths) - 8} more" if len(paths) > 8 else "")


def as_tree(labels: list[Any], tree: PyTree) -> PyTree:
    """The labels in the structure of the tree."""
    return jax.tree.structure(tree, is_leaf=errors.is_none).unflatten(labels)


def map_labelled(function: Callable[[Any, Any], Any], labels: list[Any], tree: PyTree) -> PyTree:
    """The tree of ``function(label, leaf)``; None is a leaf."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=errors.is_none)
    return treedef.unflatten(map(function, labels, leaves))

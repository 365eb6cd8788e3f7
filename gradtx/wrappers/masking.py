"""Masking and partitioning: which parameters a transformation sees."""

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import jax

from gradtx.arrays import errors
from gradtx.arrays.outline import outlined
from gradtx.arrays.select import Labels, labels_of, mask_of
from gradtx.arrays.types import Params, Selector, State, TransformUpdateFn
from gradtx.core.transformation import (
    GradientTransformation,
    InnerStates,
    Labelled,
    Share,
    check_transformation,
)
from gradtx.core.treewise import Treewise, treewise


class MaskedNode(NamedTuple):
    """Stands in a tree where a param is masked out; it has no leaves."""


class MaskedState(NamedTuple):
    """inner_state: the state of the wrapped transformation, with MaskedNode where params are masked out."""

    inner_state: State


def keep(mask: Labels, tree: Any) -> Any:
    """The tree with MaskedNode in place of each subtree whose label is false; a None without label stays."""

    def kept(label: Any, part: Any) -> Any:
        return part if label or (label is None and part is None) else MaskedNode()

    return mask.map(kept, tree)


def merge(mask: Labels, inside: Any, outside: Any) -> Any:
    """The tree with the subtrees of `inside` where a label is true, else those of `outside`."""
    return mask.map(lambda label, a, b: a if label else b, inside, outside)


def masked_update(inner: GradientTransformation, labels: Labels, mask_extra: bool) -> TransformUpdateFn:
    """The `update` of a transformation on the leaves whose label is true; its state is a `MaskedState`."""

    def update(updates, state, params=None, **extra):
        if mask_extra:
            structure = jax.tree.structure(updates)
            like = {name for name, x in extra.items() if jax.tree.structure(x) == structure}
            extra = {name: keep(labels, x) if name in like else x for name, x in extra.items()}
        within = None if params is None else keep(labels, params)
        new, inner_state = inner.update(keep(labels, updates), state.inner_state, within, **extra)
        return merge(labels, new, updates), state._replace(inner_state=inner_state)

    return update


class Masked(Treewise):
    """What `masked` returns: it knows which params it passes by."""

    def shares(self, params: Params) -> list[Share]:
        mask = mask_of("masked", "mask", self.arguments["mask"], params)
        out = Labels([not one for one in mask.each], mask.treedef)
        return [Share(True, keep(mask, params), True, {}), Share(False, keep(out, params), False, {})]


@treewise(state=MaskedState, kind=Masked, others="shown", on_shards=True)
def masked(inner: GradientTransformation, mask: Selector, *, mask_compatible_extra_args: bool = False):
    """Apply a transformation to some of the params; the updates of the others pass unchanged.

    Args:
        inner: the transformation.
        mask: which params it sees: a path pattern, ``{pattern: bool}``, a function of ``(path, leaf)`` or
            of the whole params, or a tree of bools.
        mask_compatible_extra_args: whether extra arguments that are trees like the updates are masked
            as well.

    Raises:
        TypeError: at `init`, if the mask says something else than True or False.
        ValueError: at `init`, if a pattern matches no path, or the mask is a tree unlike the params.
    """

    def init(params):
        return MaskedState(inner.init(keep(mask_of("masked", "mask", mask, params), params)))

    def update(updates, state, params=None, **extra):
        labels = mask_of("masked", "mask", mask, outlined(updates, params))
        return masked_update(inner, labels, mask_compatible_extra_args)(updates, state, params, **extra)

    return init, update


class PartitionState(NamedTuple):
    """inner_states: the state of each transformation by label, each in a MaskedState."""

    inner_states: Mapping[Hashable, State]


def _states_by_label(arguments: Mapping[str, Any], state: State) -> InnerStates:
    by_label = state.inner_states
    return {
        "inner_states": [
            (arguments["transforms"][key], by_label[key].inner_state) for key in sorted(by_label)
        ]
    }


def _members(transforms: Mapping[Hashable, Any], param_labels: Selector, tree: Any) -> dict[Hashable, Labels]:
    """For each transformation, by its label, which params it is given."""
    labels = labels_of("partition", "param_labels", param_labels, tree)
    leaves = jax.tree.leaves(tree, is_leaf=errors.is_none)
    found = [one for one, leaf in zip(labels.by_leaf(tree), leaves, strict=True) if leaf is not None]
    unknown = {repr(label) for label in found if label not in transforms}
    if unknown:
        known = ", ".join(repr(label) for label in transforms)
        raise ValueError(
            f"partition: no transformation for the label {', '.join(sorted(unknown))}; there are: {known}"
        )

    def mask(label):
        none = None not in transforms  # so that it is no label
        return Labels([None if one is None and none else one == label for one in labels.each], labels.treedef)

    return {label: mask(label) for label in transforms}


class Partition(Treewise):
    """What `partition` returns: it knows what each label is given to."""

    def shares(self, params: Params) -> list[Share]:
        members = _members(self.arguments["transforms"], self.arguments["param_labels"], params)
        return [Share(label, keep(mask, params), True, {}) for label, mask in members.items()]

    def labelled(self, state: State, params: Params | None = None) -> list[Labelled]:
        del params  # each part sees some of them
        transforms = self.arguments["transforms"]
        by_label = state.inner_states
        return [Labelled(key, transforms[key], by_label[key].inner_state, None) for key in transforms]


@treewise(state=PartitionState, inner_states=_states_by_label, kind=Partition, others="shown", on_shards=True)
def partition(
    transforms: Mapping[Hashable, GradientTransformation],
    param_labels: Selector,
    *,
    mask_compatible_extra_args: bool = False,
):
    """Give each parameter to one of several transformations, by its label.

    To change only numbers for some of the params, or to freeze them, `groups` is lighter: one state,
    in the params' structure.

    Args:
        transforms: a transformation for each label.
        param_labels: the label of each param: ``{pattern: label}``, a function of ``(path, leaf)`` or
            of the whole params, or a tree of labels.
        mask_compatible_extra_args: as in `masked`.

    Raises:
        TypeError: if there is no transformation for a label, but something else.
        ValueError: at `init`, if a label has no transformation or a pattern matches no path.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.partition(
        ...     {"matrices": gradtx.sgd(0.1, momentum=0.9), "rest": gradtx.adam(1e-3)},
        ...     {r".*kernel": "matrices", ".*": "rest"},
        ... )
        >>> params = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
        >>> sorted(tx.init(params).inner_states)
        ['matrices', 'rest']
    """

    if not isinstance(transforms, Mapping):
        raise TypeError(f"partition: transforms must be a dict by label, got {transforms!r}")
    for label, one in transforms.items():
        check_transformation("partition", f"transforms[{label!r}]", one)

    def init(params):
        return PartitionState(
            {
                label: MaskedState(transforms[label].init(keep(chosen, params)))
                for label, chosen in _members(transforms, param_labels, params).items()
            }
        )

    def update(updates, state, params=None, **extra):
        states, out = {}, updates
        for label, chosen in _members(transforms, param_labels, outlined(updates, params)).items():
            part = masked_update(transforms[label], chosen, mask_compatible_extra_args)
            new, states[label] = part(updates, state.inner_states[label], params, **extra)
            out = merge(chosen, new, out)
        return out, state._replace(inner_states=states)

    return init, update

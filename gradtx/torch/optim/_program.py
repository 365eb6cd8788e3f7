"""The compiled step of an optimizer: numbers are constants of the program until they change.

The numbers of an optimizer are in its groups, where the user may edit them. A number that has never
been edited is a constant of the compiled program, exact to the last digit; one that has is an argument
of it from then on, and its next change compiles nothing. The learning rate is an argument from the
start.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.tree_util import DictKey

from gradtx.core.apply import apply_updates
from gradtx.core.transformation import GradientTransformation
from gradtx.core.value import unflatten


class Frozen(NamedTuple):
    """A transformation without those of its numbers that are arguments of the program (None)."""

    call: Any
    constants: tuple[Any, ...]


def freeze(tx: GradientTransformation, changing: frozenset[str]) -> tuple[Frozen, list[Any]]:
    """A transformation in two parts: the constants of the program, and the numbers that change."""
    constants, numbers = [], []
    for key, leaf in zip(tx._call.keys, tx._leaves, strict=True):
        if hasattr(leaf, "shape") or argument_of(key.name) in changing:
            numbers.append(leaf)
            constants.append(None)
        else:
            constants.append(leaf)
    return Frozen(tx._call, tuple(constants)), numbers


def thaw(frozen: Frozen, numbers: Sequence[Any]) -> GradientTransformation:
    """The transformation of which `freeze` made these parts."""
    rest = iter(numbers)
    return unflatten(frozen.call, [next(rest) if x is None else x for x in frozen.constants])


def with_lr(tx: GradientTransformation, lr: Any) -> GradientTransformation | None:
    """The transformation with another learning rate; None if that is more than another number.

    Schedulers set it at every step, and to record the whole call anew takes longer than a small step.
    """
    names = [key.name for key in tx._call.keys]
    if "lr" not in names or type(lr) not in (int, float) or not lr > 0:
        return None
    leaves = zip(names, tx._leaves, strict=True)
    return unflatten(tx._call, [lr if name == "lr" else leaf for name, leaf in leaves])


def argument_of(path: str) -> str:
    """The argument that a number belongs to: ``betas`` for ``betas[0]``."""
    return path.partition("[")[0].partition(".")[0]


class Named(dict[str, Any]):
    """Arrays of one group by the names of its params, in their order.

    JAX sorts a dict, and takes an `OrderedDict` apart key by key in Python, which for many small tensors
    lasts as long as their step.
    """


jax.tree_util.register_pytree_with_keys(
    Named,
    lambda named: (tuple((DictKey(name), x) for name, x in named.items()), tuple(named)),
    lambda names, arrays: Named(zip(names, arrays, strict=True)),
    lambda named: (tuple(named.values()), tuple(named)),
)


@partial(jax.jit, static_argnums=0, donate_argnums=(3, 4))
def run(
    frozen: tuple[Frozen, ...],
    numbers: Sequence[Sequence[Any]],
    grads: Sequence[Named],
    states: Sequence[Any],
    params: Sequence[Named],
    extra: Mapping[str, Any],
) -> tuple[list[Any], list[Named]]:
    """One step of every group: the new states and params."""
    new_states, new_params = [], []
    for parts, own, grad, state, param in zip(frozen, numbers, grads, states, params, strict=True):
        updates, state = thaw(parts, own).update(grad, state, param, **extra)
        new_states.append(state)
        new_params.append(apply_updates(param, updates))
    return new_states, new_params

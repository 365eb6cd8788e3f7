"""The compiled step of an optimizer: numbers are constants of the program until they change.

The numbers of an optimizer are in its groups, where the user may edit them. A number that has never
been edited is a constant of the compiled program, exact to the last digit; one that has is an argument
of it from then on, and its next change compiles nothing. The learning rate is an argument from the
start.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.tree_util import DictKey

from gradtx.core.transformation import GradientTransformation
from gradtx.step import apply_updates
from gradtx.values.domains import Vouched
from gradtx.values.programs import CompiledFor, Programs, Template
from gradtx.values.value import unflatten


def with_lr(tx: GradientTransformation, lr: Any) -> GradientTransformation | None:
    """The transformation with another learning rate; None if that is more than another number.

    Schedulers set it at every step, and to record the whole call anew takes longer than a small step.
    """
    names = [key.name for key in tx._call.keys]
    if "lr" not in names or not isinstance(lr, Vouched):
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


class Step:
    """One step of every group, compiled: ``run(numbers, grads, states, params)`` gives the new states
    and params. States and params are donated.

    ``run_with(function, evaluation, numbers, ...)`` has besides the function of a closure, which it does not
    keep alive, and gives its transformation an extra argument, `value_fn`; that is for one group.
    """

    def __init__(self, template: Template):
        def step(
            numbers: Sequence[Any],
            grads: Sequence[Named],
            states: Sequence[Any],
            params: Sequence[Named],
            **extra: Any,
        ) -> tuple[list[Any], list[Named]]:
            new_states, new_params = [], []
            for tx, grad, state, param in zip(template.fill(numbers), grads, states, params, strict=True):
                updates, state = tx.update(grad, state, param, **extra)
                new_states.append(state)
                new_params.append(apply_updates(param, updates))
            return new_states, new_params

        def step_with(function: Callable[..., Any], evaluation: Any, *args: Any) -> Any:
            return step(*args, value_fn=lambda group: evaluation.loss(function, [group]))

        self.run = jax.jit(step, donate_argnums=(2, 3))
        self.run_with = CompiledFor(step_with, donate=(3, 4))


STEPS = Programs(Step, is_argument=lambda name: argument_of(name) == "lr")

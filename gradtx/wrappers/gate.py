"""Gates: updates that take place only where a condition holds that is known while they are computed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import eval_jaxpr

from gradtx.arrays.trees import or_zero, select_tree
from gradtx.arrays.types import Array, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gate:
    """A `Guard`: an update takes place where a condition holds, a bool scalar."""

    condition: Array

    def rule(self, update: Callable[..., Any], slots: Mapping[str, Any]) -> Callable[..., Any]:
        """The rule's `update` with its slots as they were where the gate is closed."""
        return gated(update, self.condition, slots)

    def state(self, new: PyTree, old: PyTree) -> PyTree:
        """The new where the gate is open."""
        return select_tree(self.condition, new, old)

    def updates(self, leaves: list[Array | None]) -> list[Array | None]:
        """The updates where the gate is open, else 0."""
        return or_zero([leaves], self.condition)


def gated(update: Callable[..., Any], gate: Array, old: Mapping[str, Any]) -> Callable[..., Any]:
    """A rule's `update` that leaves the slots as they were where the gate is False.

    A new slot is selected where the formula makes it, and what the formula goes on to compute from it is
    computed from the selection. (It does not matter what comes out then: where the gate is False the
    executor puts an update of 0.) So XLA may overwrite the old slot at once, as it does without a gate.
    Selected at the end, new slots would have to stand beside the old until the update is known.

    Args:
        update: as a rule has it, ``update(grad, **given) -> (update, slots)``.
        gate: bool scalar.
        old: the slots before.
    """

    def run(grad: Array, **given: Any) -> Any:
        closed, shapes = jax.make_jaxpr(update, return_shape=True)(grad, **given)
        if not isinstance(shapes, tuple):
            return update(grad, **given)
        program, before = closed.jaxpr, jax.tree.leaves(dict(old))
        direction, *after = program.outvars
        values = dict(zip(program.constvars, closed.consts, strict=True))
        values |= dict(zip(program.invars, jax.tree.leaves((grad, given)), strict=True))
        held = _made_for_one_slot(program, after)
        later = {var: x for var, x in zip(after, before, strict=True) if var in held}
        begin = 0
        for end, eqn in enumerate(program.eqns, 1):
            if any(var in later for var in eqn.outvars) or end == len(program.eqns):
                _evaluate(program, program.eqns[begin:end], values)
                values |= {v: jnp.where(gate, values[v], later.pop(v)) for v in eqn.outvars if v in later}
                begin = end
        slots = [
            values[var] if var in held else jnp.where(gate, _read(var, values), x)
            for var, x in zip(after, before, strict=True)
        ]
        return _read(direction, values), jax.tree.unflatten(jax.tree.structure(shapes[1]), slots)

    return run


def _made_for_one_slot(program: Any, slots: list[Any]) -> list[Any]:
    # Not a slot that is an input, such as the gradient, or a constant, or another slot as well.
    made = [var for eqn in program.eqns for var in eqn.outvars]
    return [var for var in slots if var in made and slots.count(var) == 1]


def _evaluate(program: Any, eqns: list[Any], values: dict[Any, Any]) -> None:
    """Run some equations of a jaxpr, from the values of variables so far, to which those made are added."""
    read = [var for eqn in program.eqns for var in eqn.invars] + program.outvars
    made = [var for eqn in eqns for var in eqn.outvars if var in read]
    part = program.replace(constvars=[], invars=list(values), outvars=made, eqns=eqns)
    found = eval_jaxpr(part, [], *values.values())
    values.update(zip(made, found, strict=True))


def _read(var: Any, values: Mapping[Any, Any]) -> Any:
    return var.val if hasattr(var, "val") else values[var]  # a literal knows its value

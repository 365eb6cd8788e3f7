"""`check`: whether a transformation obeys the laws."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from gradtx.arrays.types import Params
from gradtx.checking.case import Case, small_tree
from gradtx.checking.laws import LAWS, Skipped
from gradtx.core.transformation import GradientTransformation, check_transformation

LONG = 400
"""How many characters of a problem are printed."""


class Outcome(NamedTuple):
    """What came of a law: its name, what it says, what is wrong ("" if nothing), or why it was not asked."""

    law: str
    says: str
    problem: str = ""
    skipped: str = ""


@dataclass(frozen=True)
class Checked:
    """What `check` found; it prints as a list, law by law.

    Attributes:
        name: of the transformation.
        outcomes: one for each law.
    """

    name: str
    outcomes: tuple[Outcome, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the laws that it does not obey."""
        return tuple(outcome.law for outcome in self.outcomes if outcome.problem)

    def raise_broken(self) -> None:
        """Raise an AssertionError that says what is wrong, if anything is: for a test."""
        if self.broken:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        asked = [outcome for outcome in self.outcomes if not outcome.skipped]
        lines = [f"{self.name} obeys {len(asked) - len(self.broken)} of {len(asked)} laws"]
        for law, says, problem, skipped in self.outcomes:
            if problem:
                shown = problem if len(problem) <= LONG else f"{problem[:LONG]}…"
                lines += [f"  BROKEN   {law}: {says}", *(f"             {x}" for x in shown.splitlines())]
            else:
                lines.append(f"  skipped  {law}: {skipped}" if skipped else f"  ok       {law}")
        return "\n".join(lines)


def check(tx: GradientTransformation, params: Params | None = None, **extra: Any) -> Checked:
    """Whether a transformation of your own obeys the laws that need no oracle.

    Each law runs it on small trees: the state keeps its layout, `jit` is eager, `vmap` is a loop, zero
    gradients give finite updates, None is left alone, buffers may be donated, half precision and a mesh work.
    Whether the formula is right they do not know: compare a few steps with the paper's, written in NumPy.
    It takes some seconds, for it compiles.

    Args:
        tx: the transformation, with numbers that are floats, so that they can be traced.
        params: what it is run on, for a rule that wants matrices, or patterns that want paths: a tree of
            arrays, of which the shapes count. Default: a matrix, a vector and a scalar.
        **extra: what its updates are given besides, ``value=1.0``; a tree like `params` has its structure.

    Returns:
        A report: `print` it, or call ``raise_broken()`` in a test.

    Raises:
        TypeError: if `tx` is no transformation.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> @gradtx.leafwise(state=gradtx.TraceState)
        ... def forgetful(decay=0.9):
        ...     def init(param):
        ...         return dict(trace=jnp.zeros_like(param))
        ...     def update(grad, trace):
        ...         trace = jnp.where(decay > 0.5, grad + decay * trace, grad)
        ...         return trace / jnp.linalg.norm(trace), dict(trace=trace)
        ...     return init, update
        >>> gradtx.check(forgetful()).broken
        ('zero gradients give finite updates', 'derivatives through updates are finite')
    """
    check_transformation("check", "tx", tx)
    like = small_tree() if params is None else jax.tree.map(lambda x: np.zeros(np.shape(x)), params)
    case = Case(tx, like, extra)
    return Checked(tx.name, tuple(_outcome(law, case) for law in LAWS))


def _outcome(law: Any, case: Case) -> Outcome:
    name, says = law.__name__.replace("_", " "), law.__doc__.strip().rstrip(".")
    try:
        law(case)
    except Skipped as reason:
        return Outcome(name, says, skipped=str(reason))
    except Exception as error:  # noqa: BLE001  # whatever a rule of a user's raises is what is reported
        return Outcome(name, says, problem=f"{type(error).__name__}: {str(error).strip()}")
    return Outcome(name, says)

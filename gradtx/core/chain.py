"""Chains: transformations one after another."""

from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

from gradtx.core.program import Stage
from gradtx.core.rule import StateMismatch
from gradtx.core.transformation import GradientTransformation, check_transformation
from gradtx.core.types import State
from gradtx.core.value import register

P = ParamSpec("P")


class Chain(GradientTransformation):
    """Transformations in a row; the state is the tuple of theirs."""

    @property
    def members(self) -> tuple[GradientTransformation, ...]:
        """The transformations, in order."""
        return self.arguments["transformations"]

    @property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(stage for member in self.members for stage in member.stages)

    def unpack(self, state: State) -> list[State]:
        if type(state) not in (tuple, list) or len(state) != len(self.members):
            raise StateMismatch(self.name, state, f"a tuple of {len(self.members)} states")
        return [
            part for member, inner in zip(self.members, state, strict=True) for part in member.unpack(inner)
        ]

    def pack(self, states: Iterator[State]) -> State:
        return tuple(member.pack(states) for member in self.members)

    def validate(self) -> None:
        for i, member in enumerate(self.members):
            check_transformation(self.name, f"argument {i + 1}", member)


def _recorded(body: Callable[P, Any]) -> Callable[P, GradientTransformation]:
    return register(body, Chain)


@_recorded
def chain(*transformations: Any):
    """Apply transformations one after another.

    Each sees the updates that the one before it returned; all see the same params and extra
    arguments. Consecutive leafwise members run as one function per tensor.

    Args:
        *transformations: values of this library, or pairs of `init` and `update` of another (Optax).
            A chain of none leaves updates as they are.

    Returns:
        A transformation whose state is the tuple of its members' states.

    Raises:
        TypeError: if a member is not a transformation, a factory that was not called for instance.

    Example:
        >>> import gradtx
        >>> gradtx.chain(gradtx.clip(1.0), gradtx.sign_sgd(0.1))
        chain(clip(max_delta=1.0), sign_sgd(learning_rate=0.1))
    """
    return transformations  # never run: a chain runs through its members

"""Chains: transformations one after another."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, ParamSpec

from gradtx.arrays.types import InitAndUpdate, State
from gradtx.core.layout import StateMismatch
from gradtx.core.placement import Beginning
from gradtx.core.transformation import GradientTransformation, Stage, check_transformation
from gradtx.values.factory import register

P = ParamSpec("P")


class Chain(GradientTransformation):
    """Transformations one after another; the state is the tuple of theirs."""

    offered = ("members",)

    @property
    def members(self) -> tuple[GradientTransformation, ...]:
        """The transformations, in order."""
        return self.arguments["transformations"]

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(stage for member in self.members for stage in member.stages)

    def unpack(self, state: State) -> list[State]:
        if type(state) not in (tuple, list) or len(state) != len(self.members):
            raise StateMismatch(self.name, state, f"a tuple of {len(self.members)} states")
        return [
            part for member, inner in zip(self.members, state, strict=True) for part in member.unpack(inner)
        ]

    def start(self, beginning: Beginning, variants: Sequence[Any], which: Sequence[int]) -> State:
        alike = zip(*(variant.members for variant in variants), strict=True)
        return self.joined([members[0].start(beginning, members, which) for members in alike])

    def pack(self, states: Iterator[State]) -> State:
        return self.joined([member.pack(states) for member in self.members])

    def joined(self, states: list[State]) -> State:
        """The state made of those of its members."""
        return tuple(states)

    def validate(self) -> None:
        for i, member in enumerate(self.members):
            check_transformation(self.name, f"argument {i + 1}", member)


def _recorded(kind: type[Chain]) -> Callable[[Callable[P, Any]], Callable[P, GradientTransformation]]:
    return lambda body: register(body, kind)


@_recorded(Chain)
def chain(*transformations: InitAndUpdate):
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


class NamedChain(Chain):
    """A chain whose state is a dict of its members' states by name."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the members, in order."""
        return tuple(name for name, _ in self.arguments["args"])

    @property
    def members(self) -> tuple[GradientTransformation, ...]:
        return tuple(member for _, member in self.arguments["args"])

    def unpack(self, state: State) -> list[State]:
        # A plain dict, as checkpoints are restored to, is in any order.
        if not isinstance(state, dict) or state.keys() != set(self.names):
            raise StateMismatch(self.name, state, f"a dict with the keys {list(self.names)}")
        pairs = zip(self.names, self.members, strict=True)
        return [part for name, member in pairs for part in member.unpack(state[name])]

    def joined(self, states: list[State]) -> State:
        # In the order of the chain, where a plain dict is sorted by jax.
        return OrderedDict(zip(self.names, states, strict=True))

    def validate(self) -> None:
        for i, pair in enumerate(self.arguments["args"]):
            if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
                raise TypeError(f"{self.name}: argument {i + 1} must be a pair (name, transformation)")
            check_transformation(self.name, f"{pair[0]!r}", pair[1])
        repeated = sorted(name for name, times in Counter(self.names).items() if times > 1)
        if repeated:
            raise ValueError(f"{self.name}: names must be unique, but {repeated} are repeated")


@_recorded(NamedChain)
def named_chain(*args: tuple[str, InitAndUpdate]):
    """Apply transformations one after another; their states are found by name.

    Args:
        *args: pairs ``(name, transformation)``.

    Returns:
        A transformation whose state is an ordered dict: ``state[name]`` is the state of that member. It
        takes a plain dict too, such as a checkpoint is restored to, and returns an ordered one.

    Raises:
        TypeError: for an argument that is not such a pair.
        ValueError: if a name is repeated.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.named_chain(("momentum", gradtx.trace(0.9)), ("step", gradtx.scale(-0.1)))
        >>> tx.init({"w": jnp.zeros(1)})["momentum"]
        TraceState(trace={'w': Array([0.], dtype=float32)})
    """
    return args  # never run: a chain runs through its members

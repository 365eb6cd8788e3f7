"""Recipes: functions that return a transformation, under a name of their own."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, ParamSpec, overload

from gradtx.arrays.types import State
from gradtx.core.placement import Beginning
from gradtx.core.transformation import GradientTransformation, Stage, check_transformation
from gradtx.values.factory import register

P = ParamSpec("P")


class Recipe(GradientTransformation):
    """A transformation defined by the one that its function returns."""

    offered = ("expansion",)

    @cached_property
    def expansion(self) -> GradientTransformation:
        """What the recipe stands for."""
        with self.concretely():
            expansion = GradientTransformation.adopt(self.factory.run(self.arguments.copy()))
        check_transformation(self.name, "what it returns", expansion)
        return expansion

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        return self.expansion.stages

    def start(self, beginning: Beginning, variants: Sequence[Any], which: Sequence[int]) -> State:
        return self.expansion.start(beginning, [variant.expansion for variant in variants], which)

    def unpack(self, state: State) -> list[State]:
        return self.expansion.unpack(state)

    def pack(self, states: Iterator[State]) -> State:
        return self.expansion.pack(states)

    def validate(self) -> None:
        super().validate()
        _ = self.expansion  # what is wrong with the arguments shows where they are given


@overload
def recipe(body: Callable[P, Any]) -> Callable[P, GradientTransformation]: ...
@overload
def recipe(*, formerly: str = ...) -> Callable[[Callable[P, Any]], Callable[P, GradientTransformation]]: ...
def recipe(body: Any = None, *, formerly: str = "") -> Any:
    """Make a factory of a function that returns a transformation.

    The value prints, compares and maps as a call of that function, and runs as what it returns. The
    function's numbers may be traced or schedules: it passes them on, and does not compute with them.

    Args:
        formerly: an older name, by which configs are found.

    Example:
        >>> import gradtx
        >>> @gradtx.recipe
        ... def heavy_ball(learning_rate, momentum=0.9):
        ...     return gradtx.chain(gradtx.trace(momentum), gradtx.scale_by_learning_rate(learning_rate))
        >>> heavy_ball(0.1)
        heavy_ball(learning_rate=0.1, momentum=0.9)
    """
    if body is None:
        return lambda body: register(body, Recipe, formerly=formerly)
    return register(body, Recipe)

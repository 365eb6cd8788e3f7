"""What a measure is given: one optimizer, one tree, and how long it may take."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import jax
import optax
import speed
from cases import CASES, RECIPES, Case
from speed import Effort
from trees import TREES, normal

import gradtx

LIBRARIES = {"gradtx": gradtx, "Optax": optax}

EFFORTS = {"quick": Effort(3, 100, 0.5), "default": Effort(11, 1000, 2), "full": Effort(21, 1000, 5)}
"""Of work that takes milliseconds."""
STEP_EFFORTS = {"quick": Effort(3, 100, 0.5), "default": Effort(41, 1000, 8), "full": Effort(41, 2000, 10)}
"""Of steps, whose ratios are judged to a few percent and scatter by ten."""
LONG_EFFORTS = {"quick": Effort(3, 3, 0), "default": Effort(3, 21, 10), "full": Effort(5, 41, 15)}
"""Of work that takes seconds."""


@dataclass(frozen=True, eq=False)
class Setting:
    """One optimizer on one tree.

    Attributes:
        name, tree: of the case, in `CASES` or `RECIPES`, and of the tree, in `TREES`.
        level: quick, default or full.
    """

    name: str
    tree: str
    level: str = "default"

    @property
    def case(self) -> Case:
        return {**CASES, **RECIPES}[self.name]

    @property
    def effort(self) -> Effort:
        return EFFORTS[self.level]

    @property
    def step_effort(self) -> Effort:
        return STEP_EFFORTS[self.level]

    @property
    def long_effort(self) -> Effort:
        return LONG_EFFORTS[self.level]

    @cached_property
    def params(self) -> Any:
        """Standard normal arrays."""
        return normal(TREES[self.tree](), seed=0)

    @cached_property
    def grads(self) -> Any:
        """Others like them."""
        return normal(TREES[self.tree](), seed=1)

    @cached_property
    def sizes(self) -> list[int]:
        """The bytes of each parameter tensor."""
        return [param.nbytes for param in jax.tree.leaves(self.params)]


@cache
def program(setting: Setting, side: str, **options: str) -> Any:
    """The compiled step of a library, with donated params and state, and with these options of XLA."""
    library, params = LIBRARIES[side], setting.params
    tx = setting.case.make(library)
    step = jax.jit(speed.step_of(library, tx), donate_argnums=(0, 1))
    return step.lower(params, tx.init(params), setting.grads).compile(options)

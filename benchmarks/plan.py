"""What a run consists of: which measures of which optimizers on which trees, a process for each pair."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cases import CASES, RECIPES
from trees import GPT2, GPT2_1B, GPT2_124M, GROWTH, MANY, ONE, RESNET, STACKED

ALL = tuple(CASES)
BASIC = ("adamw", "chain(clip, adamw)", "sgd(momentum)")
ON_TREES = tuple(case for case in ALL if case != "muon")
"""Muon is for matrices: on the other trees it would be AdamW, or a matrix product for each stack."""

LEAVES, SIZES = (tuple(series.values()) for series in GROWTH.values())


@dataclass(frozen=True)
class Block:
    """Every one of these optimizers on every one of these trees, with these measures."""

    cases: Sequence[str]
    trees: Sequence[str]
    measures: Sequence[str]


PLANS: dict[str, tuple[Block, ...]] = {
    "quick": (
        Block(("adamw",), (GPT2,), ("step", "trace", "first call", "eager", "compilations", "memory")),
        Block(("adamw",), (GPT2,), ("kernels", "torch", "errors")),
        Block(
            ("sgd(momentum)", "MultiSteps(adamw, 4)", "apply_if_finite(adamw)"), (GPT2,), ("step", "memory")
        ),
        Block(("adamw",), (MANY,), ("trace",)),
    ),
    "default": (
        Block(ALL, (GPT2,), ("step", "trace", "memory", "kernels")),
        Block(BASIC, (GPT2,), ("first call", "eager", "torch")),
        Block(("adam", "adamw", "rmsprop", "sgd(momentum)"), (GPT2,), ("errors",)),
        Block(("adamw",), (GPT2,), ("compilations", "sweep")),
        Block(BASIC, (MANY,), ("step", "trace")),
        Block(BASIC, (ONE,), ("step", "memory", "resident", "bandwidth", "torch")),
        Block(("adamw",), (STACKED, RESNET), ("step", "trace", "memory", "torch")),
        Block(("adamw",), LEAVES, ("trace",)),
        Block(("adamw",), LEAVES[:-1], ("step",)),  # compiling the last takes a minute
        Block(("adamw",), SIZES, ("step",)),
    ),
    "full": (
        Block(ALL, (GPT2,), ("step", "trace", "first call", "eager", "memory", "kernels", "torch")),
        Block(("adam", "adamw", "rmsprop", "sgd(momentum)"), (GPT2,), ("errors",)),
        Block(("adamw",), (GPT2,), ("compilations", "sweep")),
        Block(ON_TREES, (MANY, RESNET), ("step", "memory")),
        Block(BASIC, (ONE, STACKED), ("step", "memory")),
        Block(BASIC, (MANY, STACKED, RESNET), ("trace", "first call", "eager", "kernels", "torch")),
        Block(BASIC, (ONE,), ("resident", "bandwidth", "torch")),
        Block(("adamw",), LEAVES, ("step", "trace", "first call")),
        Block(("adamw",), SIZES, ("step",)),
    ),
    "recipes": (Block(tuple(RECIPES), (GPT2,), ("step", "trace")),),
    "gpu": (
        Block(BASIC, (GPT2, MANY), ("step", "torch")),
        Block(
            BASIC, (GPT2_124M,), ("step", "trace", "first call", "memory", "kernels", "bandwidth", "torch")
        ),
        Block(("adamw",), (GPT2_1B,), ("step", "memory", "bandwidth", "torch")),
        Block(("muon", "MultiSteps(adamw, 4)", "apply_if_finite(adamw)"), (GPT2_124M,), ("step", "memory")),
    ),
}


@dataclass(frozen=True)
class Job:
    """What one process does."""

    case: str
    tree: str
    measures: tuple[str, ...]


def jobs(blocks: Iterable[Block]) -> Iterator[Job]:
    """One for each pair of optimizer and tree, with all that is measured of it."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for block in blocks:
        for tree in block.trees:
            for case in block.cases:
                pairs.setdefault((case, tree), []).extend(block.measures)
    for (case, tree), measures in pairs.items():
        yield Job(case, tree, tuple(dict.fromkeys(measures)))

"""What a step of a modern optimizer costs beside its formula by hand, and a hundred groups beside none."""

import re
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from modern_cases import Case
from speed import Effort, Quartiles, Sample, by_turns, from_copies, ratio, seconds_of, step_of
from trees import GPT2, TREES, Shapes, normal

import gradtx
from gradtx.arrays.select import leaf_paths

TREE: Shapes = {f"kernel_{i}": (512, 512) for i in range(16)} | {f"bias_{i}": (512,) for i in range(16)}
"""4.2 million params."""


def differs(case: Case, shapes: Shapes, steps: int = 3) -> float:
    """The largest difference of a param after some steps, relative to the largest of its tensor."""
    rng = np.random.default_rng(0)

    def drawn() -> dict[str, Any]:
        return {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}

    params = drawn()
    ours, by_hand = (jax.jit(step) for step in case.steps())
    mine, theirs = ((params, state) for state in case.states(params))
    for _ in range(steps):
        grads = drawn()
        mine, theirs = ours(*mine, grads), by_hand(*theirs, grads)
    return max(
        float(jnp.max(jnp.abs(mine[0][name] - x)) / jnp.max(jnp.abs(x))) for name, x in theirs[0].items()
    )


def beside(case: Case, effort: Effort, shapes: Shapes = TREE) -> dict[str, Any]:
    """A step's time over that of the formula by hand, and so its bytes of memory, read and written."""
    with jax.enable_x64(True):
        difference = differs(case, {"kernel": (12, 8), "stack": (2, 4, 6), "bias": (6,)})
    if not difference < 1e-11:
        raise AssertionError(f"{case.name}: the formula by hand gives other params, by {difference}")
    params, grads = (normal(shapes, seed) for seed in range(2))
    samples: dict[str, Sample] = {}
    moved = []
    for name, step, state in zip(("ours", "by hand"), case.steps(), case.states(params), strict=True):
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, grads).compile()
        moved.append(bytes_of(compiled))
        samples[name] = from_copies(compiled, (params, state), grads)
    seconds = by_turns(samples, effort)
    return {
        "ratio": spread(ratio(seconds["ours"], seconds["by hand"])),
        "seconds": Quartiles.of(seconds["ours"]).median,
        "bytes": moved[0] / moved[1],
        "per parameter": moved[0] / sum(x.size for x in jax.tree.leaves(params)),
    }


def bytes_of(compiled: Any) -> float:
    """What the loops of a program read and write, as XLA counts it."""
    return compiled.cost_analysis()["bytes accessed"]


def spread(found: Quartiles) -> list[float]:
    """Median and quartiles."""
    return [found.median, found.lower, found.upper]


COUNT = 100


def groups(kind: str, params: Any) -> gradtx.GradientTransformation:
    """AdamW with learning rates relative to its own, by a pattern for each of a hundred params."""
    found = {}
    for i, path in enumerate(leaf_paths(params)[:COUNT]):
        if kind == "numbers":
            found[path] = {"learning_rate": gradtx.relative(0.99**i)}
        else:
            pattern = re.sub(r"block_(\d+)", r"block_(\1)", path)
            found[pattern] = {"learning_rate": gradtx.relative(lambda depth: 0.8 ** (11 - depth))}
    return gradtx.groups(gradtx.adamw(RATE), found)


RATE = 1e-3
KINDS = ("numbers", "functions of the depth")


def of_groups(kind: str, effort: Effort) -> dict[str, Any]:
    """The time to trace a step and that of the step, over those without groups."""
    params, grads = (normal(TREES[GPT2](), seed) for seed in range(2))
    sides = {"groups": groups(kind, params), "none": gradtx.adamw(RATE)}
    tracing = {name: traced(tx, params, grads) for name, tx in sides.items()}
    found, moved = by_turns(tracing, effort), []
    steps = {}
    for name, tx in sides.items():
        begin = (params, tx.init(params))
        step = jax.jit(step_of(gradtx, tx), donate_argnums=(0, 1)).lower(*begin, grads).compile()
        moved.append(bytes_of(step))
        steps[name] = from_copies(step, begin, grads, calls=3)
    seconds = by_turns(steps, effort)
    return {
        "trace": spread(ratio(found["groups"], found["none"])),
        "step": spread(ratio(seconds["groups"], seconds["none"])),
        "bytes": moved[0] / moved[1],
    }


def traced(tx: Any, params: Any, grads: Any) -> Callable[[], float]:
    """The time to trace a step, of which jax has seen none but the parts."""
    state = tx.init(params)

    def sample() -> float:
        step = jax.jit(step_of(gradtx, tx), donate_argnums=(0, 1))
        return seconds_of(lambda: step.trace(params, state, grads), time.perf_counter)

    for _ in range(3):
        sample()
    return sample

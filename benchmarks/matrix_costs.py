"""What a step of a matrix optimizer costs: beside others, over the width, at its worst; and to compile."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matrix_cases import ALONE, EVERY, Case
from speed import REST, Effort, Quartiles, by_turns, ratio, step_of
from trees import Shapes, gpt2, normal

import gradtx
from gradtx import GradientTransformation

TREES: dict[str, Callable[[], Shapes]] = {
    "128": lambda: gpt2(128),
    "256": lambda: gpt2(256),
    "124M": lambda: gpt2(768, 12, 50257, 1024),
    "1B": lambda: gpt2(2048, 18, 50257, 1024),
}
"""GPT-2-like ones by width, or by the number of params."""

BLOCKS = {r"block_.*/kernel": True}
"""The axes of the matrices of a tree."""

WIDTHS = (64, 128, 256, 512)

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "A10": 125e12}
"""Operations per second of the matrix units in bfloat16, by what is in the name of the device."""


def matrices(tree: str) -> dict[str, jax.Array]:
    """The kernels of the blocks."""
    found = jax.tree_util.tree_flatten_with_path(normal(TREES[tree](), 0))[0]
    named = {jax.tree_util.keystr(path): x for path, x in found}
    return {name: x for name, x in named.items() if "block_" in name and x.ndim == 2}


# --- steps ------------------------------------------------------------------------------------------

Period = Callable[[], list[float]]
"""Makes the steps of a period and returns the seconds of each."""


def ours(tx: GradientTransformation, params: Any, period: int) -> Period:
    """Steps with donated params and state, on in their own buffers, as PyTorch's."""
    given = jax.tree.map(jnp.copy, (params, jax.jit(tx.init)(params)))
    step = jax.jit(step_of(gradtx, tx), donate_argnums=(0, 1))

    def steps() -> list[float]:
        nonlocal given
        time.sleep(REST)  # until PyTorch's threads leave the cores
        seconds = []
        for _ in range(period):
            begin = time.perf_counter()
            given = jax.block_until_ready(step(*given, params))
            seconds.append(time.perf_counter() - begin)
        return seconds

    return steps


def of_torch(make: Callable[[list[Any]], Any], params: Any, period: int) -> Period:
    """Steps of an optimizer of PyTorch with the same numbers, on a GPU where JAX has one."""
    import torch

    on_gpu = jax.default_backend() == "gpu"
    if on_gpu and not torch.cuda.is_available():
        raise RuntimeError("JAX has a GPU, but this torch has no CUDA")
    tensors = [torch.tensor(np.asarray(x)).to("cuda" if on_gpu else "cpu") for x in params.values()]
    leaves = [torch.nn.Parameter(x.clone()) for x in tensors]
    for leaf, grad in zip(leaves, tensors, strict=True):
        leaf.grad = grad.clone()
    optimizer = make(leaves)

    def steps() -> list[float]:
        seconds = []
        for _ in range(period):
            begin = time.perf_counter()
            optimizer.step()
            if on_gpu:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
        return seconds

    return steps


def beside(cases: list[Case], tree: str, effort: Effort) -> dict[str, dict[str, Any]]:
    """Of cases that stand beside the same: seconds, ratios, and the worst step over the mean."""
    params, (case, *_) = matrices(tree), cases
    sides = {case.name: ours(case.make(), params, case.period) for case in cases}
    sides[case.theirs[0]] = of_torch(case.theirs[1], params, case.period)
    for steps in sides.values():
        steps()  # compiles, and takes a period for what begins in another way
    measured = by_turns(sides, effort)
    return {case.name: found(case, measured, params) for case in cases}


def found(case: Case, measured: dict[str, list[list[float]]], params: Any) -> dict[str, Any]:
    """What the samples of a case come to."""
    own, others = measured[case.name], measured[case.theirs[0]]
    phases = [[median(phase) for phase in zip(*periods, strict=True)] for periods in (own, others)]
    means = [sum(one) / len(one) for one in phases]
    compared = ratio([sum(x) for x in own], [sum(x) for x in others])
    return dict(
        seconds=means[0],
        theirs=means[1],
        ratio=[compared.median, compared.lower, compared.upper],
        worst=max(phases[0]) / means[0],
        their_worst=max(phases[1]) / means[1],
        peak=share_of_peak(params, means[0]) if case.name.endswith("bfloat16") else None,
    )


def share_of_peak(params: Any, seconds: float) -> float | None:
    """Of Newton–Schulz in five steps; None for a device that is not known."""
    peak = next((own for name, own in PEAK.items() if name in jax.devices()[0].device_kind), None)
    sides = [sorted(x.shape) for x in params.values()]
    work = sum(5 * (4 * m * m * n + 2 * m**3) for m, n in sides)
    return work / seconds / peak if peak else None


# --- over the width ---------------------------------------------------------------------------------


def widths(effort: Effort, largest: int) -> dict[str, dict[str, float]]:
    """Of each optimizer a step of ten square matrices, in seconds by width: all its steps cost the same."""
    found: dict[str, dict[str, float]] = {name: {} for name in ALONE}
    for width in WIDTHS:
        if width > largest:
            continue
        params = normal({f"w{i}": (width, width) for i in range(EVERY)}, 0)
        sides = {name: ours(make(), params, 1) for name, make in ALONE.items()}
        for steps in sides.values():
            steps()
        for name, periods in by_turns(sides, effort).items():
            found[name][str(width)] = median(seconds for (seconds,) in periods)
    return found


# --- to compile -------------------------------------------------------------------------------------


def compiling(effort: Effort) -> dict[str, float]:
    """Seconds to lower and compile a step on all 148 leaves, and SOAP's over AdamW's."""
    params = normal(gpt2(), 0)
    txs = {
        "adamw": gradtx.adamw(1e-3),
        "soap": gradtx.soap(3e-3, every=EVERY, weight_dimension_numbers=BLOCKS),
    }

    def of(tx: GradientTransformation) -> Callable[[], float]:
        state = tx.init(params)

        def once() -> float:
            jax.clear_caches()
            step = jax.jit(step_of(gradtx, tx), donate_argnums=(0, 1))
            begin = time.perf_counter()
            step.lower(params, state, params).compile()
            return time.perf_counter() - begin

        return once

    jax.config.update("jax_enable_compilation_cache", False)
    try:
        seconds = by_turns({name: of(tx) for name, tx in txs.items()}, effort)
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    return {
        **{name: Quartiles.of(own).median for name, own in seconds.items()},
        "ratio": ratio(seconds["soap"], seconds["adamw"]).median,
    }

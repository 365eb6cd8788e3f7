"""What a way to train costs: bytes kept, the time of a step, and memory besides its inputs."""

import contextlib
import ctypes
from functools import cache
from typing import Any

import jax
import numpy as np
from measures.memory import IN_ORDER, extra_bytes
from speed import Effort, Quartiles, by_turns, from_copies, ratio, step_of
from storage_cases import BASELINE, VARIANTS, Variant
from trees import Shapes, gpt2, normal

import gradtx
from gradtx import GradientTransformation

EQUAL = {f"w{i}": (1024, 1024) for i in range(8)}
"""8.4 million params, no tensor larger than another: where what one of them needs counts least."""

STACKED = gpt2(width=256, blocks=8, vocabulary=8192, context=256, stacked=True)
"""As many, in 16 tensors, of which the largest holds a quarter."""

TREES = {"8 of 1024 × 1024": EQUAL, "gpt2, stacked": STACKED}

OPTIONS: dict[str, dict[str, str]] = {"as it comes": {}, "in order": IN_ORDER}


def bytes_per_parameter(tx: GradientTransformation, dtype: str) -> dict[str, float]:
    """Of the state for GPT-2 small and of its params, from the shapes of the arrays.

    What `compensated` keeps is counted to the params, which it completes.
    """
    params = abstract(gpt2(width=768, vocabulary=50257, context=1024), dtype)
    count = sum(x.size for x in jax.tree.leaves(params))
    state = tx.init(params)
    residual = size_of([gradtx.tree.get(state, "residual", default=None)])
    return dict(state=(size_of(state) - residual) / count, params=(size_of(params) + residual) / count)


def size_of(tree: Any) -> int:
    """The bytes of all arrays."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def abstract(shapes: Shapes, dtype: str) -> Any:
    """The params without their numbers."""
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, dtype), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


@cache
def compiled(variant: Variant, tree: str, options: str) -> Any:
    """The step without a model, with donated params and state."""
    tx, params = variant.tx(), abstract(TREES[tree], variant.params)
    step = jax.jit(step_of(gradtx, tx), donate_argnums=(0, 1))
    return step.lower(params, tx.init(params), params).compile(OPTIONS[options])


def memory(variant: Variant, tree: str) -> dict[str, float]:
    """Bytes besides the inputs, with each of the options; the numbers in the largest tensor, and in all."""
    sizes = [int(np.prod(x.shape)) for x in jax.tree.leaves(abstract(TREES[tree], "float32"))]
    found = {options: extra_bytes(compiled(variant, tree, options)) for options in OPTIONS}
    return {**found, "largest tensor": max(sizes), "params": sum(sizes)}


def times(effort: Effort) -> dict[str, dict[str, Quartiles]]:
    """Of every variant a step's time over that of float32: all by turns, and again after `keep_memory`."""
    samples = {}
    for variant in VARIANTS:
        params, grads = (cast(normal(EQUAL, seed), variant.params) for seed in range(2))
        step = compiled(variant, "8 of 1024 × 1024", "as it comes")
        samples[variant.name] = from_copies(step, (params, variant.tx().init(params)), grads)
    found: dict[str, dict[str, Quartiles]] = {name: {} for name in samples}
    for kind, prepare in {"as it comes": lambda: None, "memory kept": keep_memory}.items():
        prepare()
        seconds = by_turns(samples, effort)
        for name, own in seconds.items():
            found[name][kind] = ratio(own, seconds[BASELINE.name])
    return found


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""What glibc calls these in malloc.h."""


def keep_memory() -> None:
    """Let the process keep memory that it frees, where the C library is glibc.

    Otherwise each large temporary buffer is asked from the system anew, which hands it out page by page.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def cast(tree: Any, dtype: str) -> Any:
    """The arrays in another dtype."""
    return jax.tree.map(lambda x: x.astype(dtype), tree)

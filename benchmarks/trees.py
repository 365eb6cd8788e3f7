"""What is optimised and by what: trees of parameters, and the optimizers, the same for both libraries."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

Shapes = dict[str, Any]


def gpt2(width: int = 128, blocks: int = 12, vocabulary: int = 1024, context: int = 128) -> Shapes:
    """The 148 tensors of GPT-2 small, at a width that two CPU cores can step in a few milliseconds."""

    def norm() -> Shapes:
        return {"scale": (width,), "bias": (width,)}

    def dense(inputs: int, outputs: int) -> Shapes:
        return {"kernel": (inputs, outputs), "bias": (outputs,)}

    def block() -> Shapes:
        return {
            "norm_1": norm(),
            "attention": {"in": dense(width, 3 * width), "out": dense(width, width)},
            "norm_2": norm(),
            "mlp": {"in": dense(width, 4 * width), "out": dense(4 * width, width)},
        }

    embeddings = {"tokens": (vocabulary, width), "positions": (context, width)}
    return {**{f"block_{i}": block() for i in range(blocks)}, "embeddings": embeddings, "norm": norm()}


TREES: dict[str, Callable[[], Shapes]] = {
    "gpt2 (148 leaves)": gpt2,
    "1000 leaves of 64": lambda: {f"leaf_{i}": (64,) for i in range(1000)},
    "1 leaf of 32M": lambda: {"leaf": (32_000_000,)},
}

CASES: dict[str, Callable[[Any], Any]] = {
    "adamw": lambda library: library.adamw(1e-3),
    "chain(clip, adamw)": lambda library: library.chain(
        library.clip_by_global_norm(1.0), library.adamw(1e-3)
    ),
    "sgd(momentum)": lambda library: library.sgd(0.1, momentum=0.9),
}


def normal(shapes: Shapes, seed: int) -> Any:
    """Standard normal float32 arrays of these shapes."""
    rng = np.random.default_rng(seed)

    def fill(shape: Any) -> Any:
        if isinstance(shape, dict):
            return {name: fill(child) for name, child in shape.items()}
        return jnp.asarray(rng.standard_normal(shape, np.float32))

    return fill(shapes)

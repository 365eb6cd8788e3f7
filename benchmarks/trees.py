"""What is optimised: trees of parameters, by name, and the series along which they grow."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Shapes = dict[str, Any]


def norm(*width: int) -> Shapes:
    """A layer norm's or a batch norm's two tensors."""
    return {"scale": width, "bias": width}


def dense(inputs: int, outputs: int, *stack: int) -> Shapes:
    """A layer's matrix and bias, or a stack of such layers."""
    return {"kernel": (*stack, inputs, outputs), "bias": (*stack, outputs)}


def block(width: int, *stack: int) -> Shapes:
    """The 12 tensors of a transformer's block, or of a stack of blocks."""
    return {
        "norm_1": norm(*stack, width),
        "attention": {"in": dense(width, 3 * width, *stack), "out": dense(width, width, *stack)},
        "norm_2": norm(*stack, width),
        "mlp": {"in": dense(width, 4 * width, *stack), "out": dense(4 * width, width, *stack)},
    }


def gpt2(
    width: int = 128, blocks: int = 12, vocabulary: int = 1024, context: int = 128, stacked: bool = False
) -> Shapes:
    """The 148 tensors of GPT-2 small, at a width that two CPU cores can step in a few milliseconds.

    Stacked, as a model that scans over its blocks keeps them, there are 16.
    """
    layers = {"blocks": block(width, blocks)} if stacked else _numbered(blocks, lambda: block(width))
    embeddings = {"tokens": (vocabulary, width), "positions": (context, width)}
    return {**layers, "embeddings": embeddings, "norm": norm(width)}


def _numbered(blocks: int, make: Callable[[], Shapes]) -> Shapes:
    return {f"block_{i}": make() for i in range(blocks)}


def resnet50(width: int = 32) -> Shapes:
    """The 161 tensors of ResNet-50 (He et al., arXiv:1512.03385), whose own width is 64."""

    def convolution(size: int, inputs: int, outputs: int) -> Shapes:
        return {"kernel": (size, size, inputs, outputs), "norm": norm(outputs)}

    shapes, inputs = {"stem": convolution(7, 3, width)}, width
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner, outputs = width * 2**stage, 4 * width * 2**stage
        for i in range(blocks):
            branches = {} if i else {"projection": convolution(1, inputs, outputs)}
            shapes[f"stage_{stage}_block_{i}"] = {
                "reduce": convolution(1, inputs, inner),
                "filter": convolution(3, inner, inner),
                "expand": convolution(1, inner, outputs),
                **branches,
            }
            inputs = outputs
    return {**shapes, "head": dense(inputs, 1000)}


def even(leaves: int, total: int) -> Shapes:
    """A number of tensors of one size."""
    return {f"leaf_{i}": (total // leaves,) for i in range(leaves)}


GPT2 = "gpt2 (148 leaves)"
STACKED = "gpt2, stacked (16 leaves)"
RESNET = "ResNet-50 (161 leaves)"
MANY = "1000 leaves of 64"
ONE = "1 leaf of 32M"
GPT2_124M = "gpt2, 124M (148 leaves)"
GPT2_1B = "gpt2, 1B (220 leaves)"

TREES: dict[str, Callable[[], Shapes]] = {
    GPT2: gpt2,
    MANY: lambda: even(1000, 64_000),
    ONE: lambda: even(1, 32_000_000),
    STACKED: lambda: gpt2(stacked=True),
    RESNET: resnet50,
    GPT2_124M: lambda: gpt2(768, 12, 50257, 1024),
    GPT2_1B: lambda: gpt2(2048, 18, 50257, 1024),
}

GROWTH: dict[str, dict[int, str]] = {
    "leaves": {n: f"3M in {n} leaves" for n in (10, 30, 100, 300, 1000, 3000)},
    "size": {n: f"{n:.0e} in 10 leaves".replace("e+0", "e") for n in (10**5, 10**6, 10**7, 10**8)},
}
"""The trees of each series, by what grows along it."""

TREES |= {name: lambda n=n: even(n, 3_000_000) for n, name in GROWTH["leaves"].items()}
TREES |= {name: lambda n=n: even(10, n) for n, name in GROWTH["size"].items()}


def normal(shapes: Shapes, seed: int) -> Any:
    """Standard normal float32 arrays of these shapes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.standard_normal(shape, np.float32)),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )

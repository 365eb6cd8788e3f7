"""Ways to keep state and params in fewer bytes, each with what it is asked to do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

import gradtx
from gradtx import GradientTransformation
from gradtx.formats import Format, companded, dynamic, float8, floating, square_root
from gradtx.formats.blocks import scaled, unscaled

Make = Callable[[GradientTransformation, Any], GradientTransformation]


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        name: as the page has it.
        make: of the optimizer and a seed, the optimizer that is used.
        params: the dtype of the params.
        judged: whether its loss is to be that of float32.
    """

    name: str
    make: Make
    params: str = "float32"
    judged: bool = False

    def tx(self) -> GradientTransformation:
        """Around AdamW, where no training looks at the numbers."""
        return self.make(gradtx.adamw(1e-3), 0)


def storing(mu: Any, nu: Any) -> Make:
    """Both moments in formats."""
    return lambda tx, seed: gradtx.stored(tx, {"mu": mu, "nu": nu}, seed=seed)


def by_chance(tx: GradientTransformation, seed: Any) -> GradientTransformation:
    """Params rounded by chance."""
    return gradtx.chain(tx, gradtx.round_stochastically(seed))


def compensated(bits: int) -> Make:
    """Params with what was rounded off them."""
    return lambda tx, seed: gradtx.chain(tx, gradtx.compensated(bits, seed))


def evenly_spaced(block_size: int = 256) -> Format:
    """Numbers of at least 0 in codes from 0 to 255 times a step: what a second moment must not be kept in."""

    def encode(x: jax.Array) -> dict[str, jax.Array]:
        z, scales = scaled(x, block_size)
        return dict(codes=jnp.round(255 * z).astype(jnp.uint8), scales=scales)

    def decode(codes: jax.Array, scales: jax.Array) -> jax.Array:
        return unscaled(codes / 255, scales, block_size)

    return Format(encode, decode)


COMPANDED = storing(companded(), square_root())

BASELINE = Variant("float32", lambda tx, seed: tx)
VARIANTS = (
    BASELINE,
    Variant("8 bits, companded and square root", COMPANDED, judged=True),
    Variant(
        "8 bits, companded and square root, by chance",
        storing(companded(stochastic=True), square_root(stochastic=True)),
    ),
    Variant("8 bits, dynamic", storing(dynamic(), dynamic(signed=False))),
    Variant("8 bits, float8 e4m3 and e5m2", storing(float8("float8_e4m3fn"), float8("float8_e5m2"))),
    Variant("8 bits, nu evenly spaced", storing(companded(), evenly_spaced())),
    Variant("16 bits, bfloat16", storing("bfloat16", "bfloat16")),
    Variant(
        "16 bits, bfloat16 by chance",
        storing(floating("bfloat16", stochastic=True), floating("bfloat16", stochastic=True)),
    ),
    Variant("4 bits, companded and square root", storing(companded(4), square_root(4))),
    Variant("bfloat16 params, to the nearest", BASELINE.make, "bfloat16"),
    Variant("bfloat16 params, by chance", by_chance, "bfloat16", judged=True),
    Variant("bfloat16 params, compensated(16)", compensated(16), "bfloat16"),
    Variant("bfloat16 params, compensated(8)", compensated(8), "bfloat16", judged=True),
    Variant(
        "8 bits, and bfloat16 params by chance",
        lambda tx, seed: by_chance(COMPANDED(tx, seed), seed),
        "bfloat16",
        judged=True,
    ),
)

OTHERS = {
    "SGD with momentum, companded": (gradtx.sgd(0.1, momentum=0.9), {"trace": companded()}),
    "Lion, companded": (gradtx.lion(1e-4), {"mu": companded()}),
    "Lion, bfloat16": (gradtx.lion(1e-4), {"mu": "bfloat16"}),
}
"""Optimizers besides AdamW whose bytes are counted."""

"""Odd polynomials of matrices, which drive all singular values towards 1, and known coefficients."""

from collections.abc import Sequence
from itertools import chain, cycle, islice, repeat
from typing import Any

import jax.numpy as jnp

from gradtx.arrays.types import Array

Triple = tuple[Any, Any, Any]

STANDARD: Triple = (3.4445, -4.7750, 2.0315)
_QUINTIC: tuple[Triple, ...] = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
# The optimal ones for singular values from 0.001 to 1. They are for values of at most 1: with a little more
# from rounding they would go astray, so that all but the last are of x / 1.01.
_POLAR_EXPRESS: tuple[Triple, ...] = (
    *(
        (a / 1.01, b / 1.01**3, c / 1.01**5)
        for a, b, c in (
            (8.28721201814563, -23.595886519098837, 17.300387312530933),
            (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
            (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
            (3.3184196573706015, -2.488488024314874, 0.51004894012372),
            (2.300652019954817, -1.6689039845749493, 0.4188073119525673),
            (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
            (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
        )
    ),
    (1.875, -1.25, 0.375),
)
COEFFICIENTS: dict[str, Triple | tuple[Triple, ...]] = {
    "standard": STANDARD,
    "quintic": _QUINTIC,
    "dion": _QUINTIC,
    "polar_express": _POLAR_EXPRESS,
    "cans": (
        (8.4703, -25.1081, 18.6293),
        (4.1828, -3.1087, 0.5806),
        (3.9619, -2.9541, 0.5630),
        (3.2866, -2.4647, 0.5074),
        (2.2737, -1.6447, 0.4162),
    ),
    "aol": (
        (4.0098, -7.0585, 2.4635),
        (3.4585, -5.5479, 2.5959),
        (2.7573, -3.2939, 1.4254),
        (2.7215, -3.0494, 1.3169),
    ),
    "8+2": (*[STANDARD] * 8, *[(2.0, -1.5, 0.5)] * 2),
    "cubic": (
        (3.3656576, -3.3420992, 0.0),
        (2.5744352, -1.4957376, 0.0),
        (2.5368962, -1.4312570, 0.0),
        (2.4418906, -1.2764040, 0.0),
        (2.2230472, -0.9630650, 0.0),
    ),
}
"""Coefficients a, b, c by name: for every step, or a triple for each step.

Sources: standard, Jordan et al., Muon, 2024; quintic, known as dion too, Cesista et al., Squeezing 1-2%
efficiency gains out of Muon, 2025; polar_express, Amsel et al., arXiv:2505.16932; cans, Grishina et al.,
arXiv:2506.10935; aol, Boissin et al., arXiv:2512.04632; 8+2, DeepSeek-V4, 2026; cubic, arXiv:2606.00371.
"""


def triples_of(name: str, coefficients: Any, steps: int, beyond: str | None) -> list[Triple]:
    """The coefficients of every step.

    Args:
        name: of the transformation, for errors.
        coefficients: a name, a triple for all steps, or one for each.
        steps: how many steps, if there is one triple, or if it is said what comes beyond the last.
        beyond: what follows the last triple, if there are fewer than steps: ``"last"`` or ``"cycle"``.
    """
    if isinstance(coefficients, str):
        if coefficients not in COEFFICIENTS:
            raise ValueError(
                f"{name}: ns_coeffs names no coefficients: {coefficients!r}; "
                f"there are: {', '.join(COEFFICIENTS)}"
            )
        coefficients = COEFFICIENTS[coefficients]
    if beyond not in (None, "last", "cycle"):
        raise ValueError(f"{name}: ns_beyond must be None, 'last' or 'cycle', got {beyond!r}")
    first = coefficients[0]
    single = getattr(first, "ndim", int(isinstance(first, tuple | list))) == 0
    triples = [coefficients] if single else list(coefficients)
    if any(len(triple) != 3 for triple in triples):
        raise ValueError(
            f"{name}: ns_coeffs must be three numbers, or one triple for each step, got {coefficients!r}"
        )
    if not single and beyond is None:
        return triples
    endless = cycle(triples) if beyond == "cycle" else chain(triples, repeat(triples[-1]))
    return list(islice(endless, steps))


def newton_schulz(x: Array, coefficients: Sequence[Any], steps: int, eps: Any) -> Array:
    """The orthogonal matrix near x, by an odd polynomial that drives the singular values to about 1.

    X ← X / max(‖X‖, eps), then `steps` times X ← (a·I + b·A + c·A²)·X with A = X·Xᵀ. Products are summed
    in at least float32 and rounded to the dtype of x, as matrix units do.

    Args:
        x: a matrix; it is transposed meanwhile if it is tall, so that A is the smaller product.
        coefficients: a, b, c of the polynomial.
        steps: how often it is applied.
        eps: lower bound of the norm.

    Source: Jordan et al., Muon, 2024; Bernstein and Newhouse, Old optimizer, new norm, arXiv:2409.20325.
    """
    dtype, wide = x.dtype, jnp.promote_types(x.dtype, jnp.float32)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    size = jnp.sqrt(jnp.sum(jnp.square(x.astype(wide)))).astype(dtype)
    x = x / jnp.maximum(size, jnp.asarray(eps, dtype))
    for _ in range(steps):
        x = quintic(x, *coefficients)
    return x.mT if tall else x


def quintic(x: Array, a: Any, b: Any, c: Any) -> Array:
    """(a·I + b·A + c·A²)·X with A = X·Xᴴ: one step of Newton–Schulz, on the last two axes."""
    dtype, wide = x.dtype, jnp.promote_types(x.dtype, jnp.float32)
    outer = gram(x).astype(dtype)
    if type(c) is float and c == 0:  # a cubic, which needs no square; a traced 0 is multiplied by
        factor = a * jnp.eye(x.shape[-2], dtype=wide) + b * outer.astype(wide)
        return jnp.matmul(factor.astype(dtype), x, preferred_element_type=wide).astype(dtype)
    squared = jnp.matmul(outer, outer, preferred_element_type=wide)
    # With a inside the parenthesis the pass over X, the larger matrix, is the product alone.
    factor = a * jnp.eye(x.shape[-2], dtype=wide) + b * outer.astype(wide) + c * squared
    return jnp.matmul(factor.astype(dtype), x, preferred_element_type=wide).astype(dtype)


def gram(x: Array) -> Array:
    """X·Xᴴ, on the last two axes, summed in at least float32."""
    # XLA would copy a transposed operand; an einsum names the axes to contract instead.
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.einsum("...ij,...kj->...ik", x, x.conj(), preferred_element_type=wide)

"""How near two results must be, on any processor.

Processors, and compilations of one formula, differ in the last digit of a root, in fused products and in
the order of sums. A difference of nearly equal numbers, a division by a small one or a hundred steps make
many digits of the last, so that a fixed bound between two float32 results holds where it was measured. Two
kinds of bounds hold anywhere: in float64, where from 1e-16 to the bound there is room for whatever the
formula makes of a rounding; and from float32 to the float64 result, as far as the formula itself, in the
float32 of another library, gets from there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

ULP = 2.0**-23
"""The last digit of a float32 in [1, 2), which is two roundings."""


@contextmanager
def double_precision() -> Iterator[None]:
    """Within, or in a function that this decorates, JAX computes in float64 by default."""
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", False)


def furthest(found: Sequence[Any], exact: Sequence[Any]) -> float:
    """The largest difference of any two numbers."""
    differences = (
        np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
        for a, b in zip(found, exact, strict=True)
    )
    return max((float(np.max(x, initial=0)) for x in differences), default=0.0)


def assert_no_further(
    found: Sequence[Any],
    peer: Sequence[Any],
    exact: Sequence[Any],
    *,
    scale: float,
    ulps: float,
    factor: float = 4.0,
) -> None:
    """What was found in float32 is about as far from the exact result as a peer's float32 is.

    Both errors are of the same roundings, times what the formula makes of them, and which way each goes is
    chance. The largest of many differs little from one computation to the other; 4-fold is rare even if
    one rounding decides it all. Where the peer happens to be lucky there are units in the last place:
    as many as there are roundings of numbers of that scale.

    Args:
        found: arrays, of ours.
        peer: those of another implementation in float32, on this processor.
        exact: the same formula in float64, for the same float32 numbers.
        scale: the size of the numbers that are rounded.
        ulps: how many units in the last place, of this scale, are allowed besides.
        factor: how many times as far as the peer.
    """
    ours, theirs = furthest(found, exact), furthest(peer, exact)
    bound = factor * theirs + ulps * ULP * scale
    assert ours <= bound, f"{ours:.2e} from float64, the peer {theirs:.2e}; the bound is {bound:.2e}"

"""What the formulas share: counts subtracted without losing digits, and ways from one number to another.

The numbers of a schedule may be Python numbers, arrays or tracers. Python numbers stay in Python, so
that making a schedule touches no device; no branch here depends on a number that may be traced. Values
are weakly typed, as Python numbers are: they take on the dtype of what they multiply.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.arrays.types import Array, Scalar

LARGEST = 2**31 - 1

Weight = Callable[[Array], Array]
"""From the share still to go, 1 at the start and 0 at the end, to the weight of the start."""


def exact(x: Any) -> Any:
    """A count or a number of steps, ready to subtract and compare.

    Arrays of integers become signed and as wide as integers get, so that ``steps - count`` neither
    wraps nor loses digits. JAX refuses Python integers beyond int32; as floats they pass.
    """
    if isinstance(x, np.generic | np.ndarray):
        x = x.item() if x.ndim == 0 else jnp.asarray(x)
    if isinstance(x, jax.Array):
        return x.astype(int) if jnp.issubdtype(x.dtype, jnp.integer) else x
    return float(x) if isinstance(x, int) and abs(x) > LARGEST else x


def at_least_0(x: Any) -> Any:
    """x, or 0 where it is negative."""
    return max(x, 0) if isinstance(x, int | float) else jnp.maximum(x, 0)


def since(count: Any, begin: Any) -> Any:
    """Updates since `begin`, 0 before it; an integer if both are, and never more than the largest."""
    count, begin = exact(count), exact(begin)
    passed = count - begin
    may_wrap = not isinstance(begin, int | float) or begin < 0
    if may_wrap and isinstance(passed, jax.Array) and jnp.issubdtype(passed.dtype, jnp.integer):
        passed = jnp.where((begin < 0) & (passed < count), jnp.iinfo(passed.dtype).max, passed)
    return at_least_0(passed)


def remaining(count: Any, steps: Any) -> Array:
    """The share of `steps` still to go: 1 at count 0, 0 from count `steps` on.

    Steps that are not positive never begin, and infinitely many never end: the share stays 1.
    """
    count, steps = exact(count), exact(steps)
    runs = (steps > 0) & (steps < math.inf)
    # The difference of integers is exact; 1 - count / steps would lose digits towards the end. XLA
    # multiplies by the reciprocal of constant steps, which at count 0 can give a little less than 1.
    share = 1.0 * (steps - count) / jnp.where(runs, steps, 1)
    return jnp.where(runs & (count > 0), jnp.clip(share, 0, 1), 1.0)


def mix(start: Scalar, end: Scalar, weight: Array) -> Array:
    """start·weight + end·(1 − weight): exactly `start` for weight 1, exactly `end` for weight 0."""
    return start * weight + end * (1 - weight)


def straight(share: Array) -> Array:
    """The weight of a straight line: the share itself."""
    return share


def half_cosine(share: Array) -> Array:
    """The weight of half a cosine wave, ½(1 − cos(π·share)), level at both ends."""
    # As a squared sine it has no cancellation near 0.
    return jnp.sin(jnp.pi / 2 * share) ** 2


def raised(weight: Array, exponent: Scalar) -> Array:
    """A weight to a power of at least 0, whose derivative at weight 0 is 0.

    The true one is infinite for exponents below 1, and would make gradients of all values after the end
    NaN.
    """
    positive = weight > 0
    return jnp.where(positive, jnp.where(positive, weight, 1) ** exponent, 0.0**exponent)

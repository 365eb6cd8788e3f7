"""The arithmetic that formulas share, each piece once and accurate to the last digits.

``1 - b`` and ``1 - b**t`` lose digits in float32 when the two are rounded apart: Adam's first step
divides one by the other. Here both follow from one number, kept in double precision while it is a
Python float.

Complex tensors: `abs_sq` is |x|², the convention of Optax. PyTorch's rules look at real and imaginary
parts apart; they live in ``gradtx.torch``.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gradtx.arrays.types import Array, DType, Scalar


def abs_sq(x: Array) -> Array:
    """|x|², real also for complex x."""
    return (x.conj() * x).real if jnp.iscomplexobj(x) else jax.lax.square(x)


@jax.custom_jvp
def sqrt(x: Array) -> Array:
    """√x whose derivative at 0 is 0, so that gradients through an optimizer stay finite."""
    return jnp.sqrt(x)


@jax.custom_jvp
def cbrt(x: Array) -> Array:
    """∛x, for x of at least 0, whose derivative at 0 is 0."""
    return jnp.cbrt(x)


def _slope(of_root: Callable[[Array], Array]) -> Callable[..., Array]:
    def times(dx: Array, y: Array, x: Array) -> Array:
        del x
        elsewhere = y != 0
        return jnp.where(elsewhere, of_root(jnp.where(elsewhere, y, 1)), 0) * dx

    return times


sqrt.defjvps(_slope(lambda y: 0.5 / y))
cbrt.defjvps(_slope(lambda y: 1 / (3 * y * y)))


def as_array(x: ArrayLike) -> Array:
    """x as an array of JAX; itself if it is one, for `jnp.asarray` takes its time to find out."""
    return x if isinstance(x, jax.Array) else jnp.asarray(x)


def as_real(x: Any) -> Any:
    """A complex tensor as a real one with a last axis of 2, (real, imaginary); others as they are."""
    if x is None or not jnp.iscomplexobj(x):
        return x
    return jnp.stack([x.real, x.imag], axis=-1)


def as_complex(x: Array) -> Array:
    """The complex tensor of which `as_real` made x."""
    return jax.lax.complex(x[..., 0], x[..., 1])


def norm(x: Array) -> Array:
    """The Euclidean norm of all entries, differentiable at 0."""
    return sqrt(jnp.sum(abs_sq(x)))


def rms(x: Array) -> Array:
    """The root of the mean of squares; 0 for a tensor of size 0."""
    return sqrt(jnp.sum(abs_sq(x)) / max(x.size, 1))


Extreme: TypeAlias = Literal["max", "min"]


def extreme(of: Extreme, x: ArrayLike, axis: int | tuple[int, ...] | None = None, *, initial: float) -> Array:
    """The largest or smallest of `initial` and x along an axis, or all of x; NaN where there is one.

    On a CPU, XLA's own lose a NaN among some ten thousand numbers and more (seen with JAX 0.10 and 0.11).
    """
    x = as_array(x)
    if is_inexact(x.dtype):
        return _extreme(x, of, axis, initial)
    return _JNP[of](x, axis, initial=None if math.isinf(initial) else initial)  # no integer is infinite


_JNP = {"max": jnp.max, "min": jnp.min}


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _extreme(x: Array, of: Extreme, axis: int | tuple[int, ...] | None, initial: float) -> Array:
    every = range(x.ndim)
    axes = tuple(every[i] for i in (every if axis is None else np.atleast_1d(axis)))
    first = np.asarray(initial, x.dtype), np.bool_(False)
    # Both in one reduction, which reads x once: a CPU takes three times as long for two.
    found, lost = jax.lax.reduce((x, jnp.isnan(x)), first, _PAIRS[of], axes)
    return jnp.where(lost, jnp.nan, found)


@_extreme.defjvp
def _(of: Extreme, axis: int | tuple[int, ...] | None, initial: float, primals: Any, tangents: Any) -> Any:
    def found(x: Array) -> Array:
        return _JNP[of](x, axis, initial=initial)

    return _extreme(*primals, of, axis, initial), jax.jvp(found, primals, tangents)[1]


def _of_pairs(of: Callable[[Array, Array], Array]) -> Callable[..., tuple[Array, Array]]:
    """Of two pairs of a number and whether a NaN was seen, one that stands for both."""
    return lambda p, q: (of(p[0], q[0]), jax.lax.bitwise_or(p[1], q[1]))


_PAIRS = {"max": _of_pairs(jax.lax.max), "min": _of_pairs(jax.lax.min)}


def largest(x: Array) -> Array:
    """The largest magnitude in x; 0 if x is empty, NaN if it has one."""
    return extreme("max", jnp.abs(x), initial=0)


def quotient(x: Scalar, y: Array, least: Scalar = 0) -> Array:
    """x / y, and 0 where y is at most `least`: NaN for NaN, and differentiable everywhere."""
    nothing = y <= least  # so that NaN, which no comparison holds for, is divided by
    return jnp.where(nothing, 0, x / jnp.where(nothing, 1, y))


def bounding_factor(size: Array, bound: Scalar) -> Array:
    """min(1, bound / size), which brings a norm down to a bound; differentiable at 0, and NaN for NaN."""
    within = size <= bound
    return jnp.where(within, 1, bound / jnp.where(within, 1, size))


# Eager updates ask for every tensor; jax answers in microseconds, a cache in a tenth of that.
@lru_cache(maxsize=1024)
def promoted(a: DType, b: DType) -> DType:
    """The dtype that both dtypes promote to."""
    return jnp.dtype(a) if a == b else jnp.promote_types(_promotable(a), _promotable(b))


@lru_cache(maxsize=1024)
def is_byte_float(dtype: DType) -> bool:
    """Whether it is one of the floating dtypes of a byte or less, which JAX promotes to nothing."""
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize == 1


def _promotable(dtype: DType) -> DType:
    return jnp.bfloat16 if is_byte_float(dtype) else dtype  # every number of theirs is one of bfloat16


def _is_kind_of(dtype: DType, kind: Any) -> bool:
    try:
        return bool(jnp.issubdtype(dtype, kind))
    except TypeError:  # of another library
        return False


@lru_cache(maxsize=1024)
def is_inexact(dtype: DType) -> bool:
    """Whether numbers of this dtype are real or complex, not integers or keys, nor of another library."""
    return _is_kind_of(dtype, jnp.inexact)


def has_numbers(leaf: Any) -> bool:
    """Whether a leaf is of real or complex numbers, and so can be optimised."""
    return is_inexact(leaf.dtype) if hasattr(leaf, "dtype") else isinstance(leaf, float | complex)


@lru_cache(maxsize=1024)
def at_least_float32(*dtypes: DType) -> DType:
    """The dtype to compute in: the promoted dtype of these, never below float32."""
    result = jnp.dtype(jnp.float32)
    for dtype in dtypes:
        result = jnp.promote_types(result, _promotable(dtype))
    return result


def compute_dtype(dtype: DType) -> DType:
    """The dtype to compute in with numbers of this one: at least float32, but integers and keys stay."""
    return at_least_float32(dtype) if is_inexact(dtype) else dtype


def real_dtype(x: Array) -> Any:
    """The dtype of |x|."""
    # x.real has it too, but outside of jit compiles a program for each shape.
    return jnp.finfo(x.dtype).dtype


def real_like(x: Array, fill: Scalar = 0) -> Array:
    """A tensor of one number in the shape of x, in the dtype of |x|: how a second moment begins."""
    return jnp.full_like(x, fill, dtype=real_dtype(x))


@lru_cache(maxsize=1024)
def is_number(dtype: DType) -> bool:
    """Whether there is a 0 of this dtype, which keys and the gradients of integers have not."""
    return _is_kind_of(dtype, jnp.bool_) or _is_kind_of(dtype, jnp.number)


def zero_like(x: Any) -> Any:
    """0 in the shape and dtype of x; x itself where there is no 0 of its kind."""
    return jnp.zeros_like(x) if is_number(getattr(x, "dtype", None) or jnp.result_type(x)) else x


def cast(x: Array, dtype: DType) -> Array:
    """x as an array of JAX in this dtype, strongly typed; x itself if it is that, for tracing is not free.

    Without x64 there is no float64, which NumPy arrays often are: then it is float32.
    """
    if x.dtype == dtype and not getattr(x, "weak_type", isinstance(x, np.ndarray | np.generic)):
        return x
    return jax.lax.convert_element_type(x, jax.dtypes.canonicalize_dtype(dtype, allow_extended_dtype=True))


def would_cut(x: Array, dtype: DType) -> bool:
    """Whether numbers of the kind of x have no place in this dtype: fractions in integers, complex in real
    numbers, long integers in shorter ones. Digits are another matter: any real number has a place in any
    floating dtype, and Python's integers in any of integers."""
    if x.dtype == dtype:
        return False
    if is_inexact(dtype):
        return jnp.iscomplexobj(x) and not jnp.issubdtype(dtype, jnp.complexfloating)
    if getattr(x, "weak_type", False) and jnp.issubdtype(x.dtype, jnp.integer):
        return not jnp.issubdtype(dtype, jnp.integer)
    return promoted(x.dtype, dtype) != dtype


def computable(x: Array) -> Array:
    """x, in float32 if it is in one of the dtypes of a byte, with which there is no arithmetic."""
    return cast(x, jnp.float32) if is_byte_float(x.dtype) else x


def decay_towards(old: Array, new: Array, decay: Scalar) -> Array:
    """decay·old + (1 − decay)·new, written as a step from old to new.

    Two weights that are rounded apart do not add up to 1, and the average drifts off by their error
    over 1 − decay: in float32 and for decay 0.999, 1e-5 after 2000 noisy values, against 1e-6 here.
    """
    return between(old, new, decay, 1 - decay)


def between(old: Array, new: Array, kept: Scalar, taken: Scalar) -> Array:
    """kept·old + taken·new, where the two weights are 1 together: a step from the nearer end.

    So the result is old or new to the last digit where one of the weights is 0.
    """
    if isinstance(kept, float | int):
        return old + taken * (new - old) if kept >= 0.5 else new + kept * (old - new)
    return jnp.where(kept >= 0.5, old + taken * (new - old), new + kept * (old - new))


def debias(moment: Array, decay: Scalar, step: Array) -> Array:
    """A moving average that began at 0, divided by the weight it has seen: moment / (1 − decayᵗ)."""
    # XLA makes a product of the quotient in most programs, and not in all: so all have the same digits.
    return moment * (1 / one_minus_power(decay, step.astype(moment.real.dtype)))


def one_minus_power(base: Scalar, exponent: Array) -> Array:
    """1 − baseᵗ for t > 0, to full precision for base of at least 0; exponent must be floating."""
    if isinstance(base, float | int):
        if base < 0:
            return 1 - base**exponent
        log = math.log(base) if base > 0 else -math.inf
        return -jnp.expm1(exponent * log)
    return _one_minus_power(base.astype(jnp.promote_types(base.dtype, exponent.dtype)), exponent)


@jax.custom_jvp
def _one_minus_power(base: Array, exponent: Array) -> Array:
    # 1 - base is exact for base in [0.5, 1], so log1p of it keeps the digits that 1 - base**t loses.
    powered = -jnp.expm1(exponent * jnp.log1p(-(1 - jnp.abs(base))))
    return jnp.where(base < 0, 1 - base**exponent, powered)


@_one_minus_power.defjvp
def _one_minus_power_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    base, exponent = primals
    dbase, _ = tangents
    return _one_minus_power(base, exponent), -exponent * base ** (exponent - 1) * dbase


# Of 1/q + 1/log(1 − q) in powers of q (Gregory's numbers), and of x/(eˣ − 1) − 1 + x/2 in powers of x².
_GREGORY = (1 / 2, 1 / 12, 1 / 24, 19 / 720, 3 / 160, 863 / 60480, 275 / 24192, 33953 / 3628800)
_GREGORY += (8183 / 1036800, 3250433 / 479001600, 4671 / 788480, 13695779093 / 2615348736000)
_BERNOULLI = (0, 1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000)


def averaged_length(decay: Scalar, step: Array) -> Array:
    """How many values the debiased moving average of so many holds: 2/(1−b) − 1 − 2t·bᵗ/(1 − bᵗ).

    For b near 1 and few values these are differences of large numbers: in float32, nothing right is left
    of them. With q = 1 − b, l = −log b and x = t·l it is 2(1/q − 1/l) − 1 + t − 2/l·(x/(eˣ − 1) − 1 + x/2),
    whose parentheses are taken from their series where they cancel. For many values it is this that cancels,
    t with 2/l·x/2, and the first form, with 2t/(eˣ − 1) for its last term, does not.
    """
    q = jnp.asarray(1 - decay, step.dtype)
    rate = -jnp.log1p(-jnp.minimum(q, 1 - jnp.finfo(step.dtype).eps))
    x = step * rate
    offset = jnp.where(q < 0.1, jnp.polyval(jnp.asarray(_GREGORY[::-1], q.dtype), q), 1 / q - 1 / rate)
    series = jnp.polyval(jnp.asarray(_BERNOULLI[::-1], q.dtype), x * x)
    bend = jnp.where(x < 0.5, series, x / jnp.expm1(x) - 1 + x / 2)
    few = 2 * offset - 1 + step - 2 / rate * bend
    return jnp.where(x < 2, few, 2 / q - 1 - 2 * step / jnp.expm1(x))


def rounded(x: Array) -> Array:
    """x as its dtype holds it: the compiler must not fuse this product into the sum that follows.

    A fused multiply-add rounds once where the formula rounds twice; over many steps from a param that is
    large beside its steps, the two drift apart by the param's last digit each time.
    """
    return jnp.where(x == x, x, jnp.nan)  # true but for NaN, which no compiler may assume away


def owned(x: ArrayLike, dtype: DType | None = None) -> Array:
    """A copy of an array of any library that shares memory with nothing, strongly typed.

    JAX may read a NumPy array later than it is called, and PyTorch changes in place what NumPy has a view
    of: so what is not of JAX is copied on the host first.
    """
    if not isinstance(x, jax.Array):
        return jnp.asarray(np.array(x, dtype))
    return jnp.array(x, dtype=x.dtype if dtype is None else dtype, copy=True)


def safe_increment(count: ArrayLike) -> Array:
    """count + 1 in the dtype of count, staying at the largest number of it instead of wrapping.

    Args:
        count: an array of integers or real numbers, signed or unsigned, or a Python number.

    Raises:
        ValueError: for what does not count, such as a bool or a complex number.
    """
    count = as_array(count)
    if not jnp.issubdtype(count.dtype, jnp.integer) and not jnp.issubdtype(count.dtype, jnp.floating):
        raise ValueError(
            f"safe_increment: count must be an integer or a real number, its dtype is {count.dtype}"
        )
    limits = jnp.iinfo if jnp.issubdtype(count.dtype, jnp.integer) else jnp.finfo
    largest = jnp.asarray(limits(count.dtype).max, count.dtype)
    return jnp.where(count >= largest, largest, count + jnp.ones([], count.dtype))

"""What losses ask of their arguments: dtypes to compute in, shapes that fit, labels within bounds, masks."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from gradtx.arrays.numerics import at_least_float32, cast
from gradtx.arrays.types import Array
from gradtx.values.domains import Interval

Axis = int | tuple[int, ...] | None


def widened(name: str, predictions: ArrayLike, *others: ArrayLike) -> tuple[list[Array], Any]:
    """Arrays in the dtype to compute in, at least float32, and the dtype of the result: the promoted one.

    Predictions must be floating; others, such as labels of 0 and 1, are converted.
    """
    found = [jnp.asarray(x) for x in (predictions, *others)]
    dtype = jnp.result_type(*found)
    for wrong in (found[0].dtype, dtype):
        if not jnp.issubdtype(wrong, jnp.floating):
            raise TypeError(f"{name}: predictions must be real floating numbers, got {wrong}; convert them")
    wide = at_least_float32(dtype)
    return [cast(x, wide) for x in found], dtype


def floating(name: str, **arrays: ArrayLike) -> None:
    """Raise if one of these is not of floating dtype."""
    for argument, x in arrays.items():
        if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
            raise TypeError(f"{name}: {argument} must be floating, got {jnp.result_type(x)}")


def fitting(name: str, **arrays: Any) -> tuple[int, ...]:
    """The shape that these broadcast to, or an error with all of them."""
    shapes = {argument: np.shape(x) for argument, x in arrays.items() if x is not None}
    try:
        return jnp.broadcast_shapes(*shapes.values())
    except ValueError:
        raise ValueError(f"{name}: shapes do not fit: {_listed(shapes)}") from None


def same_shape(name: str, **arrays: Any) -> None:
    """Raise unless these have one shape."""
    shapes = {argument: np.shape(x) for argument, x in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{name}: shapes must be the same: {_listed(shapes)}")


def check_axis(name: str, axis: Axis, *arrays: ArrayLike) -> None:
    """Raise unless what these broadcast to has the axis, or all of several."""
    shape = np.broadcast_shapes(*map(np.shape, arrays))
    for one in axis if isinstance(axis, tuple) else () if axis is None else (axis,):
        if not -len(shape) <= one < len(shape):
            raise ValueError(f"{name}: axis {one} is none of an array of shape {shape}")


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{argument} {shape}" for argument, shape in shapes.items())


def check_each(numbers: ArrayLike, allowed: Array, message: str, error: type[Exception] = ValueError) -> None:
    """Raise with the first number that is not allowed; where numbers are traced, none can be seen."""
    if not isinstance(allowed, Tracer) and not allowed.all():
        raise error(message.format(np.asarray(numbers)[~np.asarray(allowed)][0]))


def within(name: str, interval: str, **numbers: ArrayLike) -> None:
    """Raise for a number outside an interval; where it is traced, it cannot be seen."""
    domain = Interval(interval)
    for argument, x in numbers.items():
        for number in () if isinstance(x, Tracer) else np.ravel(np.asarray(x)):
            if not domain.holds(number):
                raise ValueError(f"{name}: {domain.error(argument, number.item())}")


def integers(name: str, labels: ArrayLike) -> Array:
    """Labels as an array, which must be of integers."""
    found = jnp.asarray(labels)
    if not jnp.issubdtype(found.dtype, jnp.integer):
        raise TypeError(f"{name}: labels must be integers, got {found.dtype}; or use a loss of soft labels")
    return found


def class_index(name: str, labels: ArrayLike, classes: int, counts: Any = True) -> tuple[Array, Array]:
    """Integer labels as indices of classes, and which of them are; the others have index 0.

    A label that counts and is no class is an error, which only labels that are not traced show.
    """
    found = integers(name, labels)
    known = (found >= 0) & (found < classes)
    check_each(found, known | ~jnp.asarray(counts), f"{name}: label {{}} is not in [0, {classes})")
    return jnp.where(known, found, 0).astype(int), known


def take(x: Array, index: Array, axis: int = -1) -> Array:
    """The entry of each index along an axis, which disappears."""
    return jnp.take_along_axis(x, jnp.expand_dims(index, axis), axis).squeeze(axis)


def mask_of(name: str, where: ArrayLike | None, x: Array, axis: Axis = None) -> Array | None:
    """`where` as booleans that broadcast to x; one with fewer dimensions lacks the axis."""
    if where is None:
        return None
    mask = jnp.asarray(where).astype(bool)
    if mask.ndim != x.ndim and axis is not None:
        mask = jnp.expand_dims(mask, axis)
    fitting(name, predictions=x, where=mask)
    return mask


def masked(mask: Array | None, x: Array, fill: float) -> Array:
    """x, with a number in place of what is left out: so that not even NaN gets through, nor its gradient."""
    return x if mask is None else jnp.where(mask, x, fill)

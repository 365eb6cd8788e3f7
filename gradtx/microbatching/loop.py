"""A function of a batch, run on one microbatch after the other."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from gradtx.arrays.loops import fori_loop
from gradtx.arrays.types import Array
from gradtx.microbatching.accumulators import AccumulationType, combined


def reshape_batch_axis(tree: Any, microbatch_size: int, axis: int = 0) -> Any:
    """Split the axis of a batch in two: microbatches, and the examples of each.

    Microbatch i of k has the examples i, i + k, i + 2k, …: so each device keeps its share of every
    microbatch where the batch is sharded.

    Args:
        tree: a tree of arrays.
        microbatch_size: how many examples go into one; it divides the length of the axis.
        axis: the axis of the batch; negative from the end.

    Returns:
        The tree with axes of lengths (microbatches, microbatch_size) in place of the one.

    Raises:
        ValueError: if the length is not a multiple of the size.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> print(gradtx.microbatching.reshape_batch_axis(jnp.arange(6), 2))
        [[0 3]
         [1 4]
         [2 5]]
    """

    def split(path: Any, x: Any) -> Array:
        length, i = jnp.shape(x)[axis], axis % jnp.ndim(x)
        _check_divides("reshape_batch_axis", f"the tree{jax.tree_util.keystr(path)}", length, microbatch_size)
        shape = (*x.shape[:i], microbatch_size, length // microbatch_size, *x.shape[i + 1 :])
        return jnp.swapaxes(x.reshape(shape), i, i + 1)

    return jax.tree_util.tree_map_with_path(split, tree)


def _check_divides(name: str, what: str, length: int, size: int) -> None:
    if not hasattr(size, "__index__"):
        raise TypeError(f"{name}: microbatch_size must be a whole number, got {size!r}")
    if size < 1 or length % size:
        raise ValueError(
            f"{name}: microbatch_size must divide the batch, got {size}, and {what} has {length} examples"
        )


def microbatch(
    fun: Callable[..., Any],
    argnums: int | Sequence[int],
    microbatch_size: int | None,
    accumulator: Any = AccumulationType.SUM,
    *,
    argnames: str | Sequence[str] = (),
    in_axes: int | Sequence[int] = 0,
    num_real_microbatches: int | Array | None = None,
) -> Callable[..., Any]:
    """A function of a batch, run on its microbatches one after the other.

    Less memory at a time, for more time: the loop is sequential, and each result is accumulated before
    the next begins.

    Args:
        fun: a function of arrays.
        argnums: the positional arguments that are batches: trees of arrays.
        microbatch_size: how many examples go into one microbatch; it divides the batch. With None,
            `fun` is returned as it is.
        accumulator: how the results become one: an `AccumulationType`, an `Accumulator`, or a tree of
            them that is a prefix of what `fun` returns.
        argnames: the keyword arguments that are batches.
        in_axes: the axis of the batch, or one for each of `argnums` and then of `argnames`; negative from the
            end.
        num_real_microbatches: how many microbatches run, if not all; it may be traced, so that batches of
            several sizes, padded to one, compile once. A number of Python's or an int32 scalar.

    Returns:
        A function with the arguments of `fun`.

    Raises:
        ValueError: if batches have different sizes or none, or the microbatches do not divide them.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> from gradtx.microbatching import AccumulationType
        >>> how = (AccumulationType.CONCAT, AccumulationType.SUM)
        >>> double_and_sum = gradtx.microbatch(lambda x: (2 * x, jnp.sum(x)), 0, 2, how)
        >>> print(*double_and_sum(jnp.array([1, 2, 3, 4])))
        [2 4 6 8] 10
    """
    if microbatch_size is None:
        return fun
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    names = (argnames,) if isinstance(argnames, str) else tuple(argnames)
    places = (*numbers, *names)
    axes = (in_axes,) * len(places) if isinstance(in_axes, int) else tuple(in_axes)
    if not places or len(axes) != len(places):
        raise ValueError(
            f"microbatch: in_axes must have an axis for each of argnums and argnames, got {axes} for {places}"
        )

    @wraps(fun)
    def microbatched(*args: Any, **kwargs: Any) -> Any:
        given = {**dict(enumerate(args)), **kwargs}
        if missing := [place for place in places if place not in given]:
            raise ValueError(f"microbatch: there is no argument {missing[0]!r} in this call")
        batches = {place: given[place] for place in places}
        count = _batch_size(batches, axes, microbatch_size) // microbatch_size
        split = {
            place: reshape_batch_axis(batch, microbatch_size, axis)
            for (place, batch), axis in zip(batches.items(), axes, strict=True)
        }

        def value(i: Any) -> Any:
            def at(axis: int) -> Callable[[Any], Array]:
                # Counted from the end, that of the microbatches is the one before that of their examples.
                first = axis if axis >= 0 else axis - 1
                return lambda x: jax.lax.dynamic_index_in_dim(x, i, first, keepdims=False)

            taken = {
                place: jax.tree.map(at(axis), batch)
                for (place, batch), axis in zip(split.items(), axes, strict=True)
            }
            rest = [taken.get(n, x) for n, x in enumerate(args)]
            return fun(*rest, **{name: taken.get(name, x) for name, x in kwargs.items()})

        loops = count if num_real_microbatches is None else num_real_microbatches
        if not isinstance(loops, Tracer) and not 0 <= int(loops) <= count:
            raise ValueError(
                f"microbatch: num_real_microbatches must lie in [0, {count}], which are all, got {loops}"
            )
        shapes = jax.eval_shape(value, jnp.int32(0))
        how = combined("microbatch", accumulator, count, shapes)
        return how.finalize(
            fori_loop(0, loops, lambda i, carry: how.update(carry, value(i), i), how.init(shapes))
        )

    return microbatched


def _batch_size(batches: dict[Any, Any], axes: Sequence[int], size: int) -> int:
    """The one length of all batches, checked."""
    lengths = {
        f"argument {place!r}{jax.tree_util.keystr(path)}": jnp.shape(x)[axis]
        for (place, batch), axis in zip(batches.items(), axes, strict=True)
        for path, x in jax.tree_util.tree_leaves_with_path(batch)
    }
    if len(set(lengths.values())) != 1:
        shown = ", ".join(f"{where} has {length}" for where, length in lengths.items()) or "no arrays"
        raise ValueError(f"microbatch: batches must have the same number of examples: {shown}")
    where, length = next(iter(lengths.items()))
    _check_divides("microbatch", where, length, size)
    if not length:
        raise ValueError(f"microbatch: {where} has no examples")
    return length

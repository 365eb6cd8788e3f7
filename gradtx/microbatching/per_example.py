"""Each example of a batch by itself, some at a time."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.arrays.types import Array
from gradtx.microbatching.accumulators import AccumulationType, combined
from gradtx.microbatching.loop import microbatch


def micro_vmap(
    fun: Callable[..., Any],
    in_axes: int | Sequence[int | None] = 0,
    out_axes: int = 0,
    *,
    microbatch_size: int | None = None,
    vmap_fn: Callable[..., Any] = jax.vmap,
    accumulator: Any = AccumulationType.CONCAT,
    num_real_microbatches: int | Array | None = None,
) -> Callable[..., Any]:
    """`jax.vmap` of some examples at a time, whose results may be reduced on the way.

    Args:
        fun: a function of one example.
        in_axes: the axis of the examples in each positional argument, None where it has none; a number
            for all. Keyword arguments have it first.
        out_axes: 0.
        microbatch_size: how many examples are mapped at a time; it divides their number. Default: all.
        vmap_fn: what maps: ``vmap_fn(fun, in_axes, out_axes)``. Default: `jax.vmap`.
        accumulator: what becomes of the results: an `AccumulationType` or `Accumulator`, or a tree of
            them that is a prefix of what `fun` returns. Default: all of them, as `jax.vmap` has it.
        num_real_microbatches: how many microbatches run, if not all; it may be traced.

    Raises:
        NotImplementedError: for other `out_axes`.
        ValueError: if arguments have different numbers of examples, or the size does not divide them.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> square = gradtx.microbatching.micro_vmap(lambda x: x**2, microbatch_size=2)
        >>> print(square(jnp.arange(6)))
        [ 0  1  4  9 16 25]
    """
    if out_axes != 0:
        raise NotImplementedError(f"micro_vmap: out_axes must be 0, got {out_axes}; move the axis afterwards")

    @wraps(fun)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        axes = (in_axes,) * len(args) if isinstance(in_axes, int) else tuple(in_axes)

        def reduced(*args: Any, kwargs: Any) -> Any:
            values = vmap_fn(fun, axes, out_axes)(*args, **kwargs)
            examples = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), values)
            return combined("micro_vmap", accumulator, 1, examples).aggregate(values)

        run = microbatch(
            reduced,
            argnums=[i for i, axis in enumerate(axes) if axis is not None],
            argnames="kwargs",
            microbatch_size=microbatch_size,
            accumulator=accumulator,
            in_axes=[*(axis for axis in axes if axis is not None), 0],
            num_real_microbatches=num_real_microbatches,
        )
        return run(*args, kwargs=kwargs)

    return mapped


class IndividualOutputs(NamedTuple):
    """What `micro_grad` says of each example: trees with the examples on a first axis.

    values: of the function; metrics: what `metrics_fn` made of the gradient; aux: what the function
    returned beside its value.
    """

    values: Array
    metrics: Any
    aux: Any


def _itself(grads: Any) -> Any:
    return grads


def _nothing(grads: Any) -> None:
    del grads


def micro_grad(
    fun: Callable[..., Any],
    has_aux: bool = False,
    argnums: int | Sequence[int] = 0,
    *,
    batch_argnums: int | Sequence[int] = 1,
    keep_batch_dim: bool = True,
    microbatch_size: int | None = None,
    accumulator: Any = AccumulationType.SUM,
    transform_fn: Callable[[Any], Any] = _itself,
    metrics_fn: Callable[[Any], Any] = _nothing,
    num_real_microbatches: int | Array | None = None,
) -> Callable[..., tuple[Any, IndividualOutputs]]:
    """Gradients of each example, transformed and then added up, with memory for some at a time.

    Clipping per example, second moments of gradients, and their norms, for batches of any size.

    Args:
        fun: a function of params and a batch that returns a scalar, or a scalar and more.
        has_aux: whether it returns more.
        argnums: the arguments to differentiate by.
        batch_argnums: the arguments that are batches, the examples on their first axis.
        keep_batch_dim: whether `fun` gets batches of one example. Default: yes; otherwise the example
            without that axis.
        microbatch_size: how many examples at a time; it divides their number. Default: all.
        accumulator: what becomes of the transformed gradients, as in `microbatch`.
        transform_fn: a function of the gradient of one example.
        metrics_fn: a function of the gradient of one example, whose (small) results are all returned.
        num_real_microbatches: how many microbatches run, if not all; it may be traced.

    Returns:
        A function with the arguments of `fun` that returns the accumulated gradients, and the
        `IndividualOutputs` of the examples.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> from gradtx.microbatching import AccumulationType, micro_grad
        >>> def loss(w, x, y):
        ...     return jnp.mean((x * w - y) ** 2) / 2
        >>> both = micro_grad(
        ...     loss,
        ...     batch_argnums=(1, 2),
        ...     microbatch_size=2,
        ...     accumulator=AccumulationType.MEAN,
        ...     transform_fn=lambda g: (g, g**2),
        ...     metrics_fn=jnp.abs,
        ... )
        >>> (mean, second_moment), each = both(jnp.array(0.0), jnp.ones(4), jnp.array([0.0, 2.0, 4.0, 6.0]))
        >>> print(mean, second_moment, each.values, each.metrics)
        -3.0 14.0 [ 0.  2.  8. 18.] [0. 2. 4. 6.]
    """
    batches = (batch_argnums,) if isinstance(batch_argnums, int) else tuple(batch_argnums)
    value_and_grad = jax.value_and_grad(fun, argnums, has_aux=has_aux)

    def of_example(*args: Any, **kwargs: Any) -> Any:
        value, grads = value_and_grad(*args, **kwargs)
        values, aux = value if has_aux else (value, None)
        return transform_fn(grads), IndividualOutputs(values, metrics_fn(grads), aux)

    @wraps(fun)
    def grads_and_outputs(*args: Any, **kwargs: Any) -> Any:
        rows = list(args)
        if keep_batch_dim:
            for i in batches:
                rows[i] = jax.tree.map(lambda x: jnp.expand_dims(x, 1), args[i])
        run = micro_vmap(
            of_example,
            in_axes=[0 if i in batches else None for i in range(len(args))],
            accumulator=(accumulator, AccumulationType.CONCAT),
            microbatch_size=microbatch_size,
            num_real_microbatches=num_real_microbatches,
        )
        return run(*rows, **kwargs)

    return grads_and_outputs

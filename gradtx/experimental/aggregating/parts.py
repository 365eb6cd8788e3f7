"""An optimizer of gradients per example, put together of its parts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax

from gradtx import tree
from gradtx.arrays.cond import cond
from gradtx.arrays.types import Params, State, TransformInitFn, Updates
from gradtx.core.transformation import GradientTransformation
from gradtx.transforms.functions import with_extra_args_support

PerElementUpdates: TypeAlias = Any
"""A tree like the params, whose tensors have one more axis or several: the examples of a batch."""
AggregatedUpdates: TypeAlias = Any
"""A tree like the params, or a pair of one and a dict of more that is known of the examples."""
MaybeAxis: TypeAlias = int | Sequence[int] | None
"""The axes of the examples, or None where there are none."""


class AggregatorUpdateFn(Protocol):
    """``update(per_elt_updates, state, params=None, **extra) -> (aggregated, state)``, of an `Aggregator`."""

    def __call__(
        self, per_elt_updates: PerElementUpdates, state: State, /, *args: Any, **extra: Any
    ) -> tuple[AggregatedUpdates, State]: ...


class Aggregator(NamedTuple):
    """How gradients of each example become one: a pair of functions, for `process`.

    init: ``init(params) -> state``;
    update: ``update(per_elt_updates, state, params=None, **extra_args) -> (aggregated, state)``.
    """

    init: TransformInitFn
    update: AggregatorUpdateFn


def process(
    preprocessor: GradientTransformation,
    aggregator: GradientTransformation | Aggregator,
    postprocessor: GradientTransformation,
    aggregator_has_aux: bool = False,
) -> GradientTransformation | Aggregator:
    """An optimizer of gradients per example, of its three parts.

    Args:
        preprocessor: what happens to the gradients of all examples; it gets params only if it needs them.
        aggregator: what makes one of them. While a field ``ready`` of its state is false, as while it
            accumulates, the optimizer rests and updates are 0.
        postprocessor: the optimizer of the one.
        aggregator_has_aux: whether the aggregator returns a pair, of the one and of a dict that the
            optimizer gets as extra arguments.

    Returns:
        An `Aggregator` if `aggregator` is one, otherwise a transformation. The state is the tuple of the
        three states.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> from gradtx.experimental import aggregating
        >>> mean = aggregating.average_per_element_updates()
        >>> tx = aggregating.process(gradtx.clip(1.0), mean, gradtx.sgd(0.5))
        >>> updates, state = tx.update(jnp.array([0.5, 3.0]), tx.init(jnp.array(0.0)))
        >>> print(updates)
        -0.375
    """
    before, after = map(with_extra_args_support, (preprocessor, postprocessor))
    aggregates_examples = isinstance(aggregator, Aggregator)
    between = aggregator if aggregates_examples else with_extra_args_support(aggregator)

    def init(params: Params) -> State:
        return before.init(params), between.init(params), after.init(params)

    def update(updates: Updates, state: State, params: Params | None = None, **extra: Any) -> Any:
        first, middle, last = state
        theirs = params if "params" in before.plan.needs else None
        updates, first = before.update(updates, first, theirs, **extra)
        updates, middle = between.update(updates, middle, params, **extra)
        aux: Mapping[str, Any] = {}
        if aggregator_has_aux:
            updates, aux = updates

        def step(updates: Updates, last: State) -> Any:
            return after.update(updates, last, params, **{**extra, **aux})

        def rest(updates: Updates, last: State) -> Any:
            shapes, _ = jax.eval_shape(step, updates, last)
            return tree.zeros_like(shapes), last

        updates, last = cond(tree.get(middle, "ready", True), step, rest, updates, last)
        return updates, (first, middle, last)

    return (Aggregator if aggregates_examples else GradientTransformation)(init, update)

"""QK-clip: weights of attention shrink where its logits have become too large."""

from collections.abc import Sequence
from typing import Annotated, Any

import jax.numpy as jnp

from gradtx.arrays.numerics import bounding_factor
from gradtx.arrays.select import select
from gradtx.arrays.types import PyTree, Selector
from gradtx.core.leafwise import leafwise
from gradtx.values.domains import Interval, Positive, ScalarOrSchedule, Static

Share = Annotated[ScalarOrSchedule, Interval("[0, 1]")]
PARTS = ("query", "key")


def _parts_of(name: str, what: str, chosen: Selector, tree: PyTree) -> Sequence[Any]:
    labels = select(name, what, chosen, tree, default=None)
    return [_part(name, what, label) for label in labels]


def _part(name: str, what: str, label: Any) -> str | None:
    if label is not None and label not in PARTS:
        raise ValueError(f"{name}: {what} must give 'query' or 'key', got {label!r}")
    return label


@leafwise(by_leaf={"parts": _parts_of})
def qk_clip(parts: Selector, threshold: Positive = 100.0, alpha: Share = 0.5, *, head_axis: Static[int] = -1):
    """Shrink the weights of queries and keys of heads whose attention logits have exceeded a threshold.

    With the largest logit Sₕ of a head in the last batch, γₕ = min(1, threshold/Sₕ), and the params after the
    step, W + u, of this head are multiplied by γₕ^alpha for queries, γₕ^(1 − alpha) for keys. It is the last
    stage of a chain: what it returns is that product minus W.

    An update is told ``max_logits=``, a tree like the params: for every weight of queries or keys the largest
    logits of its heads, a vector, and None for all other params.

    Args:
        parts: which params are of queries and which of keys, such as ``{r".*/q": "query", r".*/k": "key"}``.
        threshold: the largest logit that is left alone, above 0.
        alpha: the queries' share, in [0, 1].
        head_axis: the axis along which heads lie, in equal parts.

    Raises:
        NotGiven: for an update without ``max_logits=``.
        ValueError: for maxima that are not there, or do not fit the axis of heads.

    Example:
        >>> import gradtx, jax.numpy as jnp
        >>> tx = gradtx.chain(gradtx.sgd(0.1), gradtx.qk_clip({"q": "query", "k": "key"}))
        >>> params = {"q": jnp.ones((2, 4)), "k": jnp.ones((2, 4)), "v": jnp.ones((2, 4))}
        >>> grads = {name: jnp.zeros((2, 4)) for name in params}
        >>> largest = {"q": jnp.array([400.0, 7.0]), "k": jnp.array([400.0, 7.0]), "v": None}  # of two heads
        >>> updates, _ = tx.update(grads, tx.init(params), params, max_logits=largest)
        >>> print((params["q"] + updates["q"])[0])
        [0.5 0.5 1.  1. ]

    Source: Kimi team, Kimi K2, arXiv:2507.20534, section 2.1.
    """
    part: Any = parts

    def update(grad, param, max_logits):
        if part is None:
            return grad
        size, count = param.shape[head_axis], getattr(max_logits, "size", 0)
        if getattr(max_logits, "ndim", None) != 1 or count == 0 or size % count:
            there = getattr(max_logits, "shape", max_logits)
            raise ValueError(
                f"qk_clip: max_logits must have a vector for this {part}, one number for each head, whose "
                f"number divides the size {size} of axis {head_axis}; got {there}"
            )
        gamma = bounding_factor(max_logits, threshold)
        factor = jnp.repeat(gamma ** (alpha if part == "query" else 1 - alpha), size // count)
        along = [1] * param.ndim
        along[head_axis] = size
        return factor.reshape(along) * (param + grad) - param

    return update

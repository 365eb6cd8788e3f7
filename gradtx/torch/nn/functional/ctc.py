"""Connectionist temporal classification: a sequence of labels without their times."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from gradtx.arrays.types import Array
from gradtx.losses.arguments import check_each, take
from gradtx.losses.ctc import forward
from gradtx.losses.logarithms import log_sum
from gradtx.torch.nn.functional._arguments import integers, widened
from gradtx.torch.nn.functional._reduction import check_reduction, reduced


def ctc_loss(
    log_probs: ArrayLike,
    targets: ArrayLike,
    input_lengths: ArrayLike,
    target_lengths: ArrayLike,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Array:
    """The negative log-likelihood of a sequence of labels, summed over all ways to spread it over time.

    A way is one class per time, which gives the labels once repetitions are merged and blanks are
    removed. The mean divides the loss of each sample by its number of labels (at least 1) and then by
    the number of samples.

    The derivative by log_probs is exp(log_probs) minus the posterior probability of each class at each
    time, as in PyTorch: that of the loss of log_softmax(log_probs), for log_probs that are normalised.
    Times beyond the length of a sample have derivative 0, and so has everything in a sample whose
    infinite loss zero_infinity removed; otherwise that is NaN.

    Args:
        log_probs: logarithms of the probabilities of classes at each time, of shape (T, N, C), or
            (T, C) for one sample.
        targets: labels, integers in [0, C) other than blank: (N, S), of which the first target_lengths
            count, or all samples one after the other in one dimension. A label out of range is an
            error; where it is traced, the loss of its sample is NaN.
        input_lengths: (N,) or a tuple, or a number for one sample: how many times each sample has.
        target_lengths: likewise, how many labels. Traced lengths are not checked.
        blank: the class that stands for no label.
        reduction: 'none', 'mean' or 'sum'.
        zero_infinity: whether a sample that its labels do not fit into counts as 0, not as infinite.

    Raises:
        RuntimeError: for shapes that do not fit, lengths out of range, or a blank that is no class.
        IndexError: for a label out of range.
        ValueError: for an unknown reduction.

    Source: Graves et al., Connectionist temporal classification: labelling unsegmented sequence data
    with recurrent neural networks, ICML 2006.
    """
    check_reduction(reduction)
    (log_q,), dtype = widened("ctc_loss", log_probs)
    unbatched = log_q.ndim == 2
    log_q = log_q[:, None] if unbatched else log_q
    if log_q.ndim != 3:
        raise RuntimeError(
            f"Expected 3-dimensional tensor, but got {log_q.ndim}-dimensional tensor for argument #1 "
            "'log_probs'"
        )
    if log_q.size == 0:
        raise RuntimeError("log_probs tensor must not be empty")
    times, samples, classes = log_q.shape
    if not 0 <= blank < classes:
        raise RuntimeError(f"blank must be in label range: {blank} is not in [0, {classes})")
    input_lengths = _lengths("input_lengths", input_lengths, samples, most=times)
    target_lengths = _lengths("target_lengths", target_lengths, samples)
    labels = integers(targets, "targets must be integral, not {}")
    labels = _in_rows(labels, target_lengths) if labels.ndim == 1 else labels
    _check_targets(labels, target_lengths)
    counts = jnp.arange(labels.shape[1]) < target_lengths[:, None]
    known = (labels >= 0) & (labels < classes) | ~counts
    check_each(labels, known, f"Target {{}} is out of bounds. There are {classes} classes", IndexError)
    # Before, between and after the labels there may be blanks.
    states = jnp.full((samples, 2 * labels.shape[1] + 1), blank)
    states = states.at[:, 1::2].set(jnp.where(counts & known, labels, blank))
    losses = _compiled_loss(zero_infinity, log_q, _Paths(states, input_lengths, target_lengths))
    losses = jnp.where(jnp.all(known, -1), losses, jnp.nan)
    if reduction == "mean":
        losses = losses / jnp.maximum(target_lengths, 1)
    return reduced(losses[0] if unbatched else losses, reduction, dtype)


class _Paths(NamedTuple):
    """states: (N, 2S + 1), the labels with blanks around each; input_lengths, target_lengths: (N,)."""

    states: Array
    input_lengths: Array
    target_lengths: Array


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _loss(zero_infinity: bool, log_q: Array, paths: _Paths) -> Array:
    """The loss of each sample, with PyTorch's derivative."""
    losses = _negative_log_likelihood(log_q, paths)
    return jnp.where(jnp.isinf(losses), 0, losses) if zero_infinity else losses


@_loss.defjvp
def _loss_jvp(zero_infinity: bool, primals: Any, tangents: Any) -> Any:
    log_q, paths = primals
    losses, pull = jax.vjp(lambda x: _negative_log_likelihood(x, paths), log_q)
    (posterior,) = pull(-jnp.ones_like(losses))
    impossible = jnp.isinf(losses)[:, None]
    gradient = jnp.where(impossible, 0 if zero_infinity else jnp.nan, jnp.exp(log_q) - posterior)
    within = jnp.arange(len(log_q))[:, None] < paths.input_lengths
    gradient = jnp.where(within[..., None], gradient, 0)
    return _loss(zero_infinity, log_q, paths), jnp.sum(gradient * tangents[0], (0, 2))


# Outside of `jit`, a scan would be compiled anew at each call.
_compiled_loss = jax.jit(_loss, static_argnums=0)


def _negative_log_likelihood(log_q: Array, paths: _Paths) -> Array:
    """By the forward recursion, from the last row of which the lengths pick the two ends of a way."""
    states, input_lengths, target_lengths = paths
    alpha = forward(log_q, states, jnp.arange(len(log_q))[:, None] < input_lengths)[-1]
    in_blank = take(alpha, 2 * target_lengths)
    in_label = take(alpha, jnp.maximum(2 * target_lengths - 1, 0))
    in_label = jnp.where(target_lengths > 0, in_label, -jnp.inf)
    return -log_sum(jnp.stack([in_blank, in_label]), 0)


def _lengths(name: str, lengths: Any, samples: int, most: float = math.inf) -> Array:
    """The length of each sample."""
    found = integers(lengths, f"{name} must be integral, not {{}}").reshape(-1)
    if found.size != samples:
        raise RuntimeError(f"{name} must be of size batch_size: {found.size} lengths for {samples} samples")
    for allowed, bound in ((found >= 0, "at least 0"), (found <= most, f"at most {most}")):
        message = f"Expected {name} to have value {bound}, but got value {{}}"
        check_each(found, allowed, message, RuntimeError)
    return found


def _in_rows(labels: Array, lengths: Array) -> Array:
    """Labels of all samples in one dimension, as one row for each sample."""
    if isinstance(lengths, Tracer):
        longest = labels.size
    else:
        longest = int(lengths.max())
        if labels.size != lengths.sum():
            raise RuntimeError(
                f"Expected tensor to have size {lengths.sum()} at dimension 0, but got size {labels.size} "
                "for argument #2 'targets': the sum of target_lengths"
            )
    if longest == 0:
        return jnp.zeros((lengths.size, 0), labels.dtype)
    start = jnp.cumsum(lengths) - lengths
    return jnp.take(labels, start[:, None] + jnp.arange(longest), mode="fill", fill_value=0)


def _check_targets(labels: Array, lengths: Array) -> None:
    if labels.ndim != 2:
        raise RuntimeError(
            f"Expected 1 to 2 dimensions, but got {labels.ndim}-dimensional tensor for argument #2 'targets'"
        )
    samples, longest = labels.shape
    if samples != lengths.size:
        raise RuntimeError(
            f"Expected tensor to have size {lengths.size} at dimension 0, but got size {samples} for "
            "argument #2 'targets'"
        )
    message = (
        f"Expected tensor to have size at least {{}} at dimension 1, but got size {longest} for "
        "argument #2 'targets'"
    )
    check_each(lengths, lengths <= longest, message, RuntimeError)

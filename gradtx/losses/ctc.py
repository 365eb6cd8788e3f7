"""Connectionist temporal classification: a sequence of labels without their times."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.arrays.loops import scan
from gradtx.arrays.types import Array
from gradtx.losses.arguments import class_index, same_shape, take, widened
from gradtx.losses.logarithms import log_softmax, log_sum


def ctc_loss(
    logits: ArrayLike,
    logit_paddings: ArrayLike,
    labels: ArrayLike,
    label_paddings: ArrayLike,
    *,
    blank_id: int = 0,
    log_epsilon: ArrayLike = -1e5,
) -> Array:
    """The negative log-likelihood of a sequence of labels, summed over all ways to spread it over time.

    A way is one class per time, which gives the labels once repetitions are merged and blanks are
    removed. Labels that do not fit into the times have loss −log_epsilon, with derivative 0.

    Args:
        logits: scores, floating, of shape (batch, times, classes).
        logit_paddings: (batch, times): 1 for times that do not count, 0 for the others.
        labels: integers in [0, classes) other than blank_id, of shape (batch, most labels). A label out
            of range is an error; where labels are traced, the loss of its sequence is NaN.
        label_paddings: of the same shape: 1 for labels that do not count, which come last.
        blank_id: the class that stands for no label. Default: 0.
        log_epsilon: what is given for the logarithm of 0. Default: −10⁵.

    Returns:
        The losses, of shape (batch,).

    Raises:
        TypeError: for logits that are not floating, or labels that are no integers.
        ValueError: for shapes that do not fit, labels out of range, or a blank_id that is no class.

    Source: Graves et al., Connectionist temporal classification: labelling unsegmented sequence data
    with recurrent neural networks, ICML 2006.
    """
    return ctc_loss_with_forward_probs(
        logits, logit_paddings, labels, label_paddings, blank_id=blank_id, log_epsilon=log_epsilon
    )[0]


def ctc_loss_with_forward_probs(
    logits: ArrayLike,
    logit_paddings: ArrayLike,
    labels: ArrayLike,
    label_paddings: ArrayLike,
    *,
    blank_id: int = 0,
    log_epsilon: ArrayLike = -1e5,
) -> tuple[Array, Array, Array]:
    """`ctc_loss`, and the log-probabilities of all ways to come as far by each time.

    Args:
        logits: scores, floating, of shape (batch, times, classes).
        logit_paddings: (batch, times): 1 for times that do not count, 0 for the others.
        labels: integers in [0, classes) other than blank_id, of shape (batch, most labels).
        label_paddings: of the same shape: 1 for labels that do not count, which come last.
        blank_id: the class that stands for no label. Default: 0.
        log_epsilon: what is given for the logarithm of 0. Default: −10⁵.

    Returns:
        The losses, of shape (batch,);
        of shape (times, batch, most labels + 1): the log-probability to be in the blank before label n
        (at the last time: or in the label before it, so that its entry at the number of labels is the
        likelihood);
        of shape (times, batch, most labels): the log-probability to be in label n.

    Raises:
        TypeError: for logits that are not floating, or labels that are no integers.
        ValueError: for shapes that do not fit, labels out of range, or a blank_id that is no class.

    Source: Graves et al., Connectionist temporal classification: labelling unsegmented sequence data
    with recurrent neural networks, ICML 2006.
    """
    (x,), dtype = widened("ctc_loss", logits)
    if x.ndim != 3 or 0 in x.shape[1:]:
        raise ValueError(f"ctc_loss: logits must be of shape (batch, times, classes), got {x.shape}")
    samples, times, classes = x.shape
    if jnp.ndim(labels) != 2 or jnp.shape(labels)[0] != samples:
        raise ValueError(f"ctc_loss: labels must be of shape ({samples}, labels), got {jnp.shape(labels)}")
    same_shape("ctc_loss", logits_without_classes=x[..., 0], logit_paddings=logit_paddings)
    same_shape("ctc_loss", labels=labels, label_paddings=label_paddings)
    if not 0 <= blank_id < classes:
        raise ValueError(f"ctc_loss: blank_id must lie in [0, {classes}), got {blank_id}")
    counts = jnp.asarray(label_paddings) == 0
    index, known = class_index("ctc_loss", labels, classes, counts)
    # Before, between and after the labels there may be blanks.
    states = jnp.full((samples, 2 * index.shape[1] + 1), blank_id).at[:, 1::2].set(index)
    log_q = jnp.moveaxis(log_softmax(x, -1), 1, 0)
    alphas = forward(log_q, states, jnp.asarray(logit_paddings).T == 0)
    in_blank, in_label = alphas[..., ::2], alphas[..., 1::2]
    likelihood = log_sum(jnp.stack([in_blank[-1], shifted(alphas[-1], 1)[..., ::2]]), 0)
    in_blank = in_blank.at[-1].set(likelihood)
    in_blank, in_label = (jnp.where(jnp.isneginf(a), log_epsilon, a) for a in (in_blank, in_label))
    losses = -take(in_blank[-1], jnp.sum(counts, 1))
    losses = jnp.where(jnp.all(known | ~counts, 1), losses, jnp.nan)
    return losses.astype(dtype), in_blank.astype(dtype), in_label.astype(dtype)


@jax.jit  # outside of which a scan would be compiled anew at each call
def forward(log_q: Array, states: Array, runs: Array) -> Array:
    """log P of all ways to be in a state by each time, (times, batch, states); −∞ where there is none.

    Args:
        log_q: log-probabilities of classes, (times, batch, classes).
        states: (batch, states): the classes of blank, label, blank, label, …, blank.
        runs: (times, batch): whether a time counts; at others, everything stays as it is.
    """
    emitted = jnp.take_along_axis(log_q, states[None], 2)
    # A blank may be left out between two labels, unless they are the same.
    may_skip = states != shifted(states, 2, -1)

    def advance(alpha: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        log_p, running = now
        skipped = jnp.where(may_skip, shifted(alpha, 2), -jnp.inf)
        reached = log_sum(jnp.stack([alpha, shifted(alpha, 1), skipped]), 0) + log_p
        alpha = jnp.where(running[:, None], reached, alpha)
        return alpha, alpha

    # Before the first time, the way is in the first blank: from there it goes on to it or to a label.
    start = jnp.where(jnp.arange(states.shape[1]) == 0, 0, jnp.full(states.shape, -jnp.inf, log_q.dtype))
    return scan(advance, start, (emitted, runs))[1]


def shifted(x: Array, by: int, fill: float = -jnp.inf) -> Array:
    """Each row moved towards its end."""
    return jnp.pad(x, ((0, 0), (by, 0)), constant_values=fill)[:, : x.shape[1]]

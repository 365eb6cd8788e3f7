"""Losses beside PyTorch's, in float64: values and gradients, also where a derivative is a convention."""

import itertools
import pickle
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from gradtx.torch import nn
from gradtx.torch.nn import functional as F

RNG = np.random.default_rng(5)
INF, NAN = np.inf, np.nan

pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def uniform(*shape: int) -> np.ndarray:
    return RNG.uniform(0.05, 0.95, size=shape)


def labels(*shape: int, classes: int = 3) -> np.ndarray:
    return RNG.integers(0, classes, size=shape)


def array(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float64)


def probabilities(*shape: int) -> np.ndarray:
    p = uniform(*shape)
    return p / p.sum(1, keepdims=True)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


DISTANCES = array(0.0, 0.3, 1.0, 1.5, -1.0, -4.0, 2.0)
SIGNS = np.array([1, -1, 1, -1])
LOGITS = normal(4, 3)
EDGE_LOGITS = np.array([[0.0, -INF, 1.0], [800.0, -800.0, 1.0], [1.0, 1.0, 1.0], [0.2, 0.1, -0.3]])
LABELS = np.array([0, 2, 1, 2])
WEIGHT = array(0.5, 2.0, 0.0)
SEQUENCES = log_softmax(normal(7, 3, 4))
SEQUENCE_LABELS = np.array([[1, 2, 2], [3, 1, 1], [2, 3, 1]])
TRIPLET = tuple(normal(4, 3) for _ in range(3))
# Equal anchors and positives; entries of 0; two entries that tie; all three the same.
TRIPLET_EDGES = (
    np.array([[0.0, 0.0], [1.0, 2.0], [1.0, 1.0], [1.0, 1.0]]),
    np.array([[0.0, 0.0], [3.0, 2.0], [2.0, 0.0], [1.0, 1.0]]),
    np.array([[1.0, 1.0], [1.0, 2.5], [1.0, 1.0], [1.0, 1.0]]),
)

CASES: dict[str, tuple[str, dict[str, Any], tuple[Any, ...]]] = {
    "mse": ("MSELoss", {}, (normal(4, 3), normal(4, 3))),
    "mse 0-d": ("MSELoss", {}, (np.array(1.5), np.array(0.5))),
    "mse of none": ("MSELoss", {}, (normal(0, 3), normal(0, 3))),
    "mse of infinity": ("MSELoss", {}, (array(INF, NAN, 1.0), array(1.0, 1.0, 1.0))),
    "l1": ("L1Loss", {}, (DISTANCES, np.zeros(7))),
    "l1 of infinity": ("L1Loss", {}, (array(INF, -INF), array(1.0, 1.0))),
    "smooth l1": ("SmoothL1Loss", {}, (DISTANCES, np.zeros(7))),
    "smooth l1, beta": ("SmoothL1Loss", {"beta": 0.3}, (DISTANCES, np.zeros(7))),
    "smooth l1, beta 0": ("SmoothL1Loss", {"beta": 0}, (DISTANCES, np.zeros(7))),
    "smooth l1 of infinity": ("SmoothL1Loss", {}, (array(INF, -INF, NAN), array(1.0, 1.0, 1.0))),
    "huber": ("HuberLoss", {}, (DISTANCES, np.zeros(7))),
    "huber, delta": ("HuberLoss", {"delta": 1.5}, (DISTANCES, np.zeros(7))),
    "huber of infinity": ("HuberLoss", {"delta": 2}, (array(INF, -INF, NAN), array(1.0, 1.0, 1.0))),
    "cross entropy": ("CrossEntropyLoss", {}, (LOGITS, LABELS)),
    "cross entropy, one sample": ("CrossEntropyLoss", {}, (normal(3), np.array(1))),
    "cross entropy, d1": ("CrossEntropyLoss", {"weight": WEIGHT}, (normal(4, 3, 2), labels(4, 2))),
    "cross entropy, d1 d2": ("CrossEntropyLoss", {"ignore_index": 1}, (normal(2, 3, 2, 2), labels(2, 2, 2))),
    "cross entropy, d1 d2 d3": ("CrossEntropyLoss", {}, (normal(2, 3, 1, 2, 2), labels(2, 1, 2, 2))),
    "cross entropy, weight": ("CrossEntropyLoss", {"weight": WEIGHT}, (LOGITS, LABELS)),
    "cross entropy, ignore": ("CrossEntropyLoss", {"ignore_index": 2}, (LOGITS, LABELS)),
    "cross entropy, ignore -100": ("CrossEntropyLoss", {}, (LOGITS, np.array([0, -100, 1, -100]))),
    "cross entropy, ignore all": ("CrossEntropyLoss", {}, (LOGITS, np.full(4, -100))),
    "cross entropy, weights of 0": ("CrossEntropyLoss", {"weight": WEIGHT}, (LOGITS, np.full(4, 2))),
    "cross entropy, smoothing": ("CrossEntropyLoss", {"label_smoothing": 0.1}, (LOGITS, LABELS)),
    "cross entropy, smoothing 1": ("CrossEntropyLoss", {"label_smoothing": 1.0}, (LOGITS, LABELS)),
    "cross entropy, all at once": (
        "CrossEntropyLoss",
        {"label_smoothing": 0.2, "weight": WEIGHT, "ignore_index": 1},
        (normal(2, 3, 2), np.array([[0, 1], [2, 0]])),
    ),
    "cross entropy, smoothing, ignore all": (
        "CrossEntropyLoss",
        {"label_smoothing": 0.2, "weight": WEIGHT, "ignore_index": 1},
        (LOGITS, np.full(4, 1)),
    ),
    "cross entropy, infinite logits": ("CrossEntropyLoss", {}, (EDGE_LOGITS, LABELS)),
    "cross entropy, impossible class": ("CrossEntropyLoss", {}, (EDGE_LOGITS, np.array([1, 1, 0, 0]))),
    "cross entropy, bytes": ("CrossEntropyLoss", {}, (LOGITS, LABELS.astype(np.uint8))),
    "cross entropy of none": ("CrossEntropyLoss", {"label_smoothing": 0.1}, (normal(0, 3), labels(0))),
    "cross entropy, p": ("CrossEntropyLoss", {}, (LOGITS, probabilities(4, 3))),
    "cross entropy, p of one sample": ("CrossEntropyLoss", {"weight": WEIGHT}, (normal(3), uniform(3))),
    "cross entropy, p, weight": (
        "CrossEntropyLoss",
        {"weight": WEIGHT, "label_smoothing": 0.3},
        (normal(4, 3, 2), probabilities(4, 3, 2)),
    ),
    "cross entropy, p of none": ("CrossEntropyLoss", {}, (normal(0, 3), normal(0, 3))),
    "nll": ("NLLLoss", {}, (log_softmax(LOGITS), LABELS)),
    "nll, one sample": ("NLLLoss", {"weight": WEIGHT}, (normal(3), np.array(1))),
    "nll, weight, ignore": (
        "NLLLoss",
        {"weight": WEIGHT, "ignore_index": 1},
        (normal(4, 3, 2), labels(4, 2)),
    ),
    "nll, impossible class": ("NLLLoss", {}, (log_softmax(EDGE_LOGITS), np.array([1, 1, 0, 0]))),
    "bce": ("BCELoss", {}, (uniform(4, 3), uniform(4, 3))),
    "bce, weight": ("BCELoss", {"weight": array(0.5, 2.0, 0.0)}, (uniform(4, 3), uniform(4, 3))),
    "bce, edges": (
        "BCELoss",
        {},
        (array(0, 0, 1, 1, 0.5, 0, 1, 1e-50, 1 - 1e-16), array(0, 1, 0, 1, 0.3, 0.5, 0.5, 0.5, 0.5)),
    ),
    "bce with logits": ("BCEWithLogitsLoss", {}, (3 * normal(4, 3), uniform(4, 3))),
    "bce with logits, weights": (
        "BCEWithLogitsLoss",
        {"weight": uniform(4, 1), "pos_weight": WEIGHT},
        (3 * normal(4, 3), uniform(4, 3)),
    ),
    "bce with logits, large": ("BCEWithLogitsLoss", {}, (array(1e3, -1e3, 0, 40), array(0.3, 0.3, 0.4, 1))),
    "bce with logits, infinite": ("BCEWithLogitsLoss", {}, (array(INF, INF), array(0.0, 0.5))),
    "kl": ("KLDivLoss", {}, (log_softmax(LOGITS), probabilities(4, 3))),
    "kl, log": ("KLDivLoss", {"log_target": True}, (log_softmax(LOGITS), log_softmax(normal(4, 3)))),
    "kl, broadcast": ("KLDivLoss", {}, (log_softmax(normal(1, 3)), probabilities(4, 3))),
    "kl, zeros": ("KLDivLoss", {}, (array(-1.0, -INF, -INF, -2.0), array(0.0, 0.0, 0.5, 1.0))),
    "cosine": ("CosineEmbeddingLoss", {"margin": 0.2}, (normal(4, 3), normal(4, 3), SIGNS)),
    "cosine, one pair": ("CosineEmbeddingLoss", {}, (normal(3), normal(3), np.array(-1))),
    "cosine, zeros and ties": (
        "CosineEmbeddingLoss",
        {},
        (
            np.array([[0, 0], [1, 1], [1, 0], [2, 2]]) * 1.0,
            np.array([[1, 2], [0, 0], [0, 1], [1, 1]]) * 1.0,
            SIGNS,
        ),
    ),
    "cosine, other targets": (
        "CosineEmbeddingLoss",
        {"margin": -0.5},
        (normal(4, 3), normal(1, 3), np.array([1, 0, 2, -1])),
    ),
    "ranking": ("MarginRankingLoss", {"margin": 0.5}, (normal(4), normal(4), SIGNS * 1.0)),
    "ranking, ties": (
        "MarginRankingLoss",
        {"margin": 0.5},
        (array(1.0, 1.0, 1.5, 0.5), array(1.0, 0.5, 1.0, 1.0), array(1.0, 1.0, -1.0, -1.0)),
    ),
    "hinge": ("HingeEmbeddingLoss", {}, (normal(4), SIGNS)),
    "hinge, ties": (
        "HingeEmbeddingLoss",
        {"margin": 0.5},
        (array(1, 0.5, 0.2, 0.7, 0.2), np.array([1, -1, -1, -1, 0])),
    ),
    "triplet": ("TripletMarginLoss", {}, TRIPLET),
    "triplet, swap": ("TripletMarginLoss", {"swap": True, "margin": 2.0}, TRIPLET),
    "triplet, one": ("TripletMarginLoss", {}, tuple(x[0] for x in TRIPLET)),
    "triplet, 3-d": ("TripletMarginLoss", {"p": 1.5}, tuple(normal(2, 2, 3) for _ in range(3))),
    **{
        f"triplet, edges, p={p}": ("TripletMarginLoss", {"p": p, "eps": 0.0, "margin": 0.5}, TRIPLET_EDGES)
        for p in (0, 0.5, 1, 2, 3, INF)
    },
    "triplet, swap ties": (
        "TripletMarginLoss",
        {"swap": True, "margin": 5.0},
        (np.zeros((1, 2)), np.zeros((1, 2)), np.ones((1, 2))),
    ),
    "poisson": ("PoissonNLLLoss", {}, (normal(4), array(0.0, 1.0, 2.0, 7.0))),
    "poisson, full": ("PoissonNLLLoss", {"full": True}, (normal(4), array(0.5, 1.0, 2.0, 7.0))),
    "poisson, rate": (
        "PoissonNLLLoss",
        {"log_input": False, "full": True},
        (array(0, 0.5, 3), array(0.5, 2.5, 7)),
    ),
    "gaussian": ("GaussianNLLLoss", {"full": True}, (normal(4, 3), normal(4, 3), uniform(4, 3))),
    "gaussian, column": ("GaussianNLLLoss", {}, (normal(4, 3), normal(4, 3), uniform(4, 1))),
    "gaussian, one less": ("GaussianNLLLoss", {}, (normal(4, 3), normal(4, 3), uniform(4))),
    "gaussian, small": ("GaussianNLLLoss", {"eps": 0.1}, (normal(3), normal(3), array(0.0, 0.1, 0.2))),
    "soft margin": ("SoftMarginLoss", {}, (3 * normal(4), SIGNS)),
    "soft margin, large": ("SoftMarginLoss", {}, (array(0.0, 800.0, 30.0, -600.0), SIGNS[[0, 0, 0, 0]])),
    "multi-margin": ("MultiMarginLoss", {}, (normal(4, 3), LABELS)),
    "multi-margin, squared": (
        "MultiMarginLoss",
        {"p": 2, "margin": 0.5, "weight": WEIGHT},
        (normal(4, 3), LABELS),
    ),
    "multi-margin, one sample": ("MultiMarginLoss", {}, (normal(3), np.array(1))),
    "multi-margin, one sample, one label": ("MultiMarginLoss", {}, (normal(3), np.array([1]))),
    "multi-margin, 0-d": ("MultiMarginLoss", {}, (np.array(1.0), np.array(0))),
    "multi-margin, ties": ("MultiMarginLoss", {}, (np.array([[1.0, 0.0, 2.0]] * 4), LABELS)),
    "multi-label margin": (
        "MultiLabelMarginLoss",
        {},
        (normal(2, 4), np.array([[0, 1, -1, 2], [2, -1, 0, 1]])),
    ),
    "multi-label margin, ties": ("MultiLabelMarginLoss", {}, (array(1, 0, 2, 1), np.array([3, 1, -1, 2]))),
    "multi-label margin, twice": ("MultiLabelMarginLoss", {}, (normal(4), np.array([1, 1, -1, 2]))),
    "multi-label margin, none": ("MultiLabelMarginLoss", {}, (normal(4), np.array([-1, 1, -1, 2]))),
    "multi-label margin, all": ("MultiLabelMarginLoss", {}, (normal(4), np.array([0, 3, 1, 2]))),
    "multi-label soft margin": (
        "MultiLabelSoftMarginLoss",
        {"weight": WEIGHT},
        (3 * normal(4, 3), uniform(4, 3)),
    ),
    "multi-label soft margin, large": (
        "MultiLabelSoftMarginLoss",
        {},
        (np.array([[0, 800, -800], [900, -1, 1]]) * 1.0, np.array([[1, 0.5, 0.5], [1, 1, 0]])),
    ),
    "ctc": ("CTCLoss", {}, (SEQUENCES, SEQUENCE_LABELS, np.array([7, 4, 0]), np.array([3, 1, 0]))),
    "ctc, in one row": (
        "CTCLoss",
        {"blank": 3},
        (SEQUENCES, np.array([1, 2, 2, 0, 2, 1]), np.array([7, 4, 5]), np.array([3, 1, 2])),
    ),
    "ctc, one sample": ("CTCLoss", {}, (SEQUENCES[:, 0], np.array([1, 2]), np.array(7), np.array(2))),
    "ctc, not normalised": (
        "CTCLoss",
        {},
        (normal(7, 3, 4), SEQUENCE_LABELS, np.array([7, 5, 6]), np.array([3, 0, 2])),
    ),
    "ctc, no labels in one row": (
        "CTCLoss",
        {},
        (SEQUENCES, labels(0), np.array([7, 4, 0]), np.zeros(3, int)),
    ),
    "ctc, impossible": (
        "CTCLoss",
        {},
        (SEQUENCES, SEQUENCE_LABELS, np.array([3, 3, 0]), np.array([3, 3, 1])),
    ),
    "ctc, impossible counts as 0": (
        "CTCLoss",
        {"zero_infinity": True},
        (SEQUENCES, SEQUENCE_LABELS, np.array([3, 3, 0]), np.array([3, 3, 1])),
    ),
}

CONSTANT = {"SoftMarginLoss": {1}}
"""Float arguments that PyTorch has no derivative for."""


def as_torch(x: Any) -> Any:
    return torch.tensor(x) if isinstance(x, np.ndarray) else x


def differentiated(kind: str, inputs: tuple[Any, ...]) -> list[int]:
    """The positions of the arguments to differentiate by."""
    return [i for i, x in enumerate(inputs) if x.dtype == np.float64 and i not in CONSTANT.get(kind, ())]


def theirs(kind: str, options: dict[str, Any], inputs: tuple[Any, ...], reduction: str) -> list[np.ndarray]:
    """The value of PyTorch's loss, and the gradient of its sum along `directions`."""
    tensors = [as_torch(x) for x in inputs]
    wrt = [tensors[i].requires_grad_() for i in differentiated(kind, inputs)]
    loss = getattr(torch.nn, kind)(
        **{name: as_torch(option) for name, option in options.items()}, reduction=reduction
    )
    value = loss(*tensors)
    total = (value * torch.tensor(directions(tuple(value.shape)))).sum()
    grads = torch.autograd.grad(total, wrt, allow_unused=True) if total.requires_grad else [None] * len(wrt)
    zeros = [torch.zeros_like(x) for x in wrt]
    return [value.detach().numpy()] + [
        (zero if grad is None else grad).numpy() for grad, zero in zip(grads, zeros, strict=True)
    ]


def directions(shape: tuple[int, ...]) -> np.ndarray:
    """A different factor for each loss, so that no two can change places."""
    return np.linspace(1.0, 2.0, int(np.prod(shape))).reshape(shape)


def ours(kind: str, options: dict[str, Any], inputs: tuple[Any, ...], reductions: Any) -> list[list[Any]]:
    """The same, for all reductions in one program."""
    wrt = differentiated(kind, inputs)
    losses = [getattr(nn, kind)(**options, reduction=reduction) for reduction in reductions]

    def run(arrays: list[Any]) -> list[list[Any]]:
        def total(loss: Any, *differentiable: Any) -> Any:
            given = list(inputs)
            for i, x in zip(wrt, differentiable, strict=True):
                given[i] = x
            value = loss(*given)
            return jnp.sum(value * directions(value.shape)), value

        rows = []
        for loss in losses:
            numbers = tuple(range(1, len(wrt) + 1))
            (_, value), grads = jax.value_and_grad(total, numbers, has_aux=True)(loss, *arrays)
            rows.append([value, *grads])
        return rows

    return jax.jit(run)([inputs[i] for i in wrt])


def assert_same(mine: Any, reference: np.ndarray) -> None:
    """Equal within 1e-12 of the largest finite number, some hundred roundings of sums of a few
    numbers; infinite and NaN in the same places."""
    mine = np.asarray(mine)
    assert mine.shape == reference.shape
    assert mine.dtype == reference.dtype
    finite = np.isfinite(reference)
    np.testing.assert_array_equal(mine[~finite], reference[~finite])
    largest = np.max(np.abs(reference[finite]), initial=0)
    np.testing.assert_allclose(mine[finite], reference[finite], rtol=0, atol=1e-12 * largest)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_values_and_gradients_are_torch(case, x64) -> None:
    kind, options, inputs = case
    reductions = getattr(nn, kind).reductions
    for reduction, mine in zip(reductions, ours(kind, options, inputs, reductions), strict=True):
        for x, reference in zip(mine, theirs(kind, options, inputs, reduction), strict=True):
            assert_same(x, reference)


def every(*lists: list[float]) -> tuple[np.ndarray, ...]:
    """One argument for each list, with all combinations of their numbers."""
    return tuple(map(np.array, zip(*itertools.product(*lists), strict=True)))


def every_row(numbers: list[float], length: int) -> np.ndarray:
    """Rows of this length, with all combinations of these numbers."""
    return np.array(list(itertools.product(numbers, repeat=length)))


HARD = [0.0, -0.0, 1.0, -2.5, 800.0, -800.0, 1e200, -1e200, 1e-200, INF, -INF, NAN]
ROWS = every_row([0.0, 1.0, -2.0, 800.0, INF, -INF, NAN], 3)
ROW_LABELS = np.arange(len(ROWS)) % 3
PAIR = every_row([0.0, 1.0, -2.0, INF, NAN], 2)
FIRST, SECOND = (np.array(i) for i in zip(*itertools.product(range(len(PAIR)), repeat=2), strict=True))

# Not here, for they differ on purpose: SoftMarginLoss, which PyTorch lets overflow; the multi-class margins,
# where PyTorch hides NaN; and derivatives by the target of PoissonNLLLoss with full=True, which in PyTorch
# are NaN for targets of 0.
HARD_CASES: dict[str, tuple[str, dict[str, Any], tuple[np.ndarray, ...]]] = {
    "mse": ("MSELoss", {}, every(HARD, HARD)),
    "l1": ("L1Loss", {}, every(HARD, HARD)),
    "smooth l1": ("SmoothL1Loss", {"beta": 0.3}, every(HARD, HARD)),
    "smooth l1, beta 0": ("SmoothL1Loss", {"beta": 0}, every(HARD, HARD)),
    "huber": ("HuberLoss", {"delta": 2.0}, every(HARD, HARD)),
    "bce": ("BCELoss", {}, every([0.0, 0.3, 1.0, 1e-200], [0.0, 0.3, 1.0])),
    "bce with logits": ("BCEWithLogitsLoss", {}, every(HARD, [0.0, 0.3, 1.0, NAN])),
    "bce with logits, pos_weight": (
        "BCEWithLogitsLoss",
        {"pos_weight": array(2.0)},
        every(HARD, [0.0, 0.3, 1.0]),
    ),
    "kl": ("KLDivLoss", {}, every(HARD, HARD)),
    "kl, log": ("KLDivLoss", {"log_target": True}, every(HARD, HARD)),
    "ranking": ("MarginRankingLoss", {"margin": 0.5}, every(HARD, HARD, [1.0, -1.0])),
    "hinge": ("HingeEmbeddingLoss", {"margin": 0.5}, every(HARD, [1.0, -1.0, 0.0])),
    "gaussian": (
        "GaussianNLLLoss",
        {},
        every([0.0, 800.0, INF, NAN], [0.0, NAN], [0.0, 1e-7, 2.0, INF, NAN]),
    ),
    "poisson": ("PoissonNLLLoss", {}, every(HARD, [0.0, 2.0, INF, NAN])),
    "poisson, rate": ("PoissonNLLLoss", {"log_input": False}, every(HARD, [0.0, 2.0, INF, NAN])),
    "cross entropy": ("CrossEntropyLoss", {}, (ROWS, ROW_LABELS)),
    "cross entropy, smoothing": (
        "CrossEntropyLoss",
        {"weight": WEIGHT, "ignore_index": 1, "label_smoothing": 0.2},
        (ROWS, ROW_LABELS),
    ),
    "nll": ("NLLLoss", {"ignore_index": 1}, (ROWS, ROW_LABELS)),
    "multi-label soft margin": ("MultiLabelSoftMarginLoss", {}, (ROWS, np.array([[0, 1, 0.5]] * len(ROWS)))),
    "cosine": ("CosineEmbeddingLoss", {"margin": 0.2}, (PAIR[FIRST], PAIR[SECOND], 1 - 2 * (FIRST % 2))),
    **{
        f"triplet, p={p}": (
            "TripletMarginLoss",
            {"p": p, "swap": True},
            (PAIR[FIRST], PAIR[SECOND], PAIR[:1]),
        )
        for p in (1, 2, INF)
    },
}


@pytest.mark.parametrize("case", HARD_CASES.values(), ids=HARD_CASES.keys())
def test_at_nan_infinite_and_huge_inputs(case, x64) -> None:
    kind, options, inputs = case
    (mine,) = ours(kind, options, inputs, ["none"])
    for x, reference in zip(mine, theirs(kind, options, inputs, "none"), strict=True):
        finite = np.isfinite(reference)
        np.testing.assert_array_equal(np.asarray(x)[~finite], reference[~finite])
        # Some roundings of sums of a few numbers, none of which is above 1e3 where they may cancel.
        np.testing.assert_allclose(np.asarray(x)[finite], reference[finite], rtol=1e-12, atol=1e-12)


EAGER = ["cross entropy, weight", "bce", "multi-margin", "ctc, in one row"]


@pytest.mark.parametrize("name", EAGER)
def test_what_is_checked_outside_of_jit_has_the_same_values(name: str, x64) -> None:
    kind, options, inputs = CASES[name]
    assert_same(getattr(nn, kind)(**options)(*inputs), theirs(kind, options, inputs, "mean")[0])


def test_ctc_takes_lengths_as_tuples(x64) -> None:
    targets = SEQUENCE_LABELS
    mine = nn.CTCLoss()(SEQUENCES, targets, (7, 4, 5), (3, 1, 2))
    tensors = torch.tensor(SEQUENCES), torch.tensor(targets)
    assert_same(mine, torch.nn.CTCLoss()(*tensors, (7, 4, 5), (3, 1, 2)).numpy())


X, Y, W = normal(4, 3), normal(4, 3), uniform(4, 3)
WEIGHTED = {
    "mse_loss": (X, Y, W),
    "l1_loss": (X, Y, W),
    "huber_loss": (X, Y, W),
    "cross_entropy": (X, probabilities(4, 3), uniform(3)),
    "multilabel_soft_margin_loss": (X, uniform(4, 3), uniform(3)),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_are_torch_and_differentiable(name: str, x64) -> None:
    """Where PyTorch has the derivative by the weight."""
    for reduction in ("none", "mean", "sum"):
        tensors = [torch.tensor(x, requires_grad=True) for x in WEIGHTED[name]]
        function = getattr(torch.nn.functional, name)
        value = function(*tensors[:2], weight=tensors[2], reduction=reduction)
        factors = directions(tuple(value.shape))
        reference = torch.autograd.grad((value * torch.tensor(factors)).sum(), tensors)

        def total(x, y, weight, reduction=reduction, factors=factors):
            return jnp.sum(getattr(F, name)(x, y, weight=weight, reduction=reduction) * factors)

        mine = jax.grad(total, (0, 1, 2))(*WEIGHTED[name])
        assert_same(
            getattr(F, name)(X, *WEIGHTED[name][1:2], weight=WEIGHTED[name][2], reduction=reduction),
            value.detach().numpy(),
        )
        for x, expected in zip(mine, reference, strict=True):
            assert_same(x, expected.numpy())


def test_l1_of_complex_numbers(x64) -> None:
    """The gradient is the conjugate of PyTorch's, as everywhere in JAX; it is 0 where they are equal."""
    x, y = normal(3) + 1j * normal(3), np.zeros(3, np.complex128)
    x[0] = 0
    tensor = torch.tensor(x, requires_grad=True)
    value = torch.nn.L1Loss()(tensor, torch.tensor(y))
    value.backward()
    mine, grad = jax.value_and_grad(lambda x: nn.L1Loss()(x, y))(jnp.asarray(x))
    assert_same(mine, value.detach().numpy())
    assert_same(grad.conj(), tensor.grad.numpy())


SECOND = {
    "huber": (nn.HuberLoss(), torch.nn.HuberLoss(), DISTANCES, np.zeros(7)),
    "bce": (nn.BCELoss(), torch.nn.BCELoss(), uniform(5), uniform(5)),
    "triplet": (
        lambda x, y: nn.TripletMarginLoss()(x, y, 2 * y),
        lambda x, y: torch.nn.TripletMarginLoss()(x, y, 2 * y),
        normal(2, 3),
        normal(2, 3),
    ),
}


@pytest.mark.parametrize("case", SECOND.values(), ids=SECOND.keys())
def test_second_derivatives_are_torch(case, x64) -> None:
    mine, other, x, y = case
    tensor = torch.tensor(x, requires_grad=True)
    (grad,) = torch.autograd.grad(other(tensor, torch.tensor(y)), tensor, create_graph=True)
    (reference,) = torch.autograd.grad((grad * torch.tensor(x)).sum(), tensor)
    curvature = jax.jit(jax.grad(lambda z: jnp.vdot(jax.grad(lambda x: mine(x, y))(z), x)))(x)
    # PyTorch adds 1e-12 to the denominator of this derivative of the binary cross entropy.
    np.testing.assert_allclose(curvature, reference, rtol=1e-10, atol=1e-12)


def test_forward_derivatives_at_the_edges_are_finite(x64) -> None:
    x, y = jnp.array([0.0, 1.0]), jnp.array([0.0, 1.0])
    _, change = jax.jvp(lambda x: nn.BCELoss()(x, y), (x,), (jnp.ones(2),))
    assert np.isfinite(change)


def test_finite_where_torch_overflows(x64) -> None:
    """PyTorch computes exp(-y x) of the soft margin, and 0 log 0 in Stirling's term."""
    value, grad = jax.value_and_grad(nn.SoftMarginLoss())(jnp.array([-800.0]), jnp.array([1.0]))
    assert (value, grad) == (800.0, -1.0)
    poisson = nn.PoissonNLLLoss(full=True)
    grad = jax.grad(poisson, 1)(jnp.array([2.0]), jnp.array([0.0]))
    np.testing.assert_array_equal(grad, [-2.0])


def test_a_nan_is_not_hidden() -> None:
    """PyTorch's multi-class margins drop a score of NaN."""
    scores = jnp.array([[0.0, jnp.nan]])
    assert jnp.isnan(nn.MultiMarginLoss()(scores, jnp.array([1])))
    assert jnp.isnan(nn.MultiLabelMarginLoss()(scores, jnp.array([[1, -1]])))
    assert jnp.isnan(nn.CTCLoss(zero_infinity=True)(scores.repeat(3, 0), jnp.array([1]), 3, 1))


# --- dtypes -----------------------------------------------------------------------------------------

f64, f32, bf16, f16, i32 = (jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16, jnp.int32)
DTYPES = [(f32, f32), (bf16, bf16), (f16, f16), (bf16, f32), (bf16, f16), (f32, f64), (f32, i32), (bf16, i32)]


@pytest.mark.parametrize("dtypes", DTYPES, ids=lambda pair: "-".join(jnp.dtype(d).name for d in pair))
def test_results_have_the_dtype_of_torch(dtypes, x64) -> None:
    x, y = np.array([0.5, 1.5]), np.array([1.0, -1.0])
    tensors = [
        torch.tensor(a).to(getattr(torch, jnp.dtype(d).name)) for a, d in zip((x, y), dtypes, strict=True)
    ]
    arrays = [jnp.asarray(a, d) for a, d in zip((x, y), dtypes, strict=True)]
    for kind in ("MSELoss", "L1Loss", "PoissonNLLLoss", "HingeEmbeddingLoss"):
        mine, reference = getattr(nn, kind)()(*arrays), getattr(torch.nn, kind)()(*tensors)
        assert f"torch.{mine.dtype}" == str(reference.dtype), kind
        precision = 2.0**-7 if {bf16, f16}.intersection(dtypes) else 1e-6  # PyTorch rounds each of its steps
        np.testing.assert_allclose(np.float64(mine), reference.double(), rtol=precision, err_msg=kind)


def test_half_precision_is_float32_rounded_once() -> None:
    scores = jnp.asarray(normal(64, 10), bf16)
    target = jnp.asarray(labels(64, classes=10))
    step = jax.jit(jax.value_and_grad(nn.CrossEntropyLoss(label_smoothing=0.1)))
    value, grad = step(scores, target)
    exact, exact_grad = step(scores.astype(f32), target)
    assert value.dtype == grad.dtype == bf16
    assert value == exact.astype(bf16)
    np.testing.assert_array_equal(grad, exact_grad.astype(bf16))


# --- as values --------------------------------------------------------------------------------------


def test_a_loss_is_a_value() -> None:
    weight = jnp.array([1.0, 2.0, 3.0])
    loss = nn.CrossEntropyLoss(weight, label_smoothing=0.1)
    assert repr(nn.CrossEntropyLoss()) == repr(torch.nn.CrossEntropyLoss()) == "CrossEntropyLoss()"
    assert eval(repr(loss), {"CrossEntropyLoss": nn.CrossEntropyLoss, "jax": jax}) == loss
    assert pickle.loads(pickle.dumps(loss)) == loss
    again = nn.CrossEntropyLoss(jnp.array([1.0, 2.0, 3.0]), label_smoothing=0.1)
    assert again == loss and hash(again) == hash(loss)
    assert loss != nn.CrossEntropyLoss(weight) and loss != nn.NLLLoss(weight)
    assert nn.MSELoss() == nn.MSELoss() != nn.L1Loss()
    with pytest.raises(AttributeError):
        loss.reduction = "sum"  # type: ignore[misc]


def test_a_loss_is_a_pytree_of_its_weights() -> None:
    x, y = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
    stacked = nn.CrossEntropyLoss(jnp.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
    assert [leaf.shape for leaf in jax.tree.leaves(stacked)] == [(2, 3)]
    apart = [nn.CrossEntropyLoss(w)(x, y) for w in stacked.weight]
    np.testing.assert_allclose(jax.vmap(lambda loss: loss(x, y))(stacked), jnp.stack(apart), rtol=1e-6)
    traced = jax.jit(lambda loss: loss(x, y))
    for w, expected in zip(stacked.weight, apart, strict=True):
        np.testing.assert_allclose(traced(nn.CrossEntropyLoss(w)), expected, rtol=1e-6)
    assert traced._cache_size() == 1


MAPPED = ["cross entropy, weight", "bce, edges", "multi-label margin", "triplet"]


@pytest.mark.parametrize("name", MAPPED)
def test_vmap_is_a_loop(name: str) -> None:
    kind, options, inputs = CASES[name]
    loss = getattr(nn, kind)(**options, reduction="sum")
    arrays = [jnp.asarray(x, jnp.float32 if x.dtype == np.float64 else jnp.int32) for x in inputs]
    one = jax.jit(loss)
    apart = [one(*(x[i] for x in arrays)) for i in range(len(arrays[0]))]
    np.testing.assert_allclose(jax.jit(jax.vmap(loss))(*arrays), apart, rtol=1e-5)


# --- bad input --------------------------------------------------------------------------------------

T = np.array([0, 1, 2])
ROWS = normal(3, 4)
SPATIAL = normal(3, 4, 1)
CTC = (SEQUENCES, SEQUENCE_LABELS)
ONES = np.ones(3, int)


def bad(error: type[Exception], text: str, name: str, *arguments: Any, **options: Any) -> Any:
    return pytest.param(error, text, name, arguments, options, id=f"{name}: {text}")


BAD = [
    bad(ValueError, "foo is not a valid value", "mse_loss", ROWS, ROWS, reduction="foo"),
    bad(ValueError, "batchmean is not a valid value", "l1_loss", ROWS, ROWS, reduction="batchmean"),
    bad(RuntimeError, "not implemented for", "mse_loss", T, T),
    bad(RuntimeError, "not implemented for", "multi_margin_loss", T[:, None], T),
    bad(RuntimeError, "not implemented for", "cross_entropy", T[:, None], T),
    bad(RuntimeError, "not implemented for", "mse_loss", ROWS * 1j, ROWS * 1j),
    bad(ValueError, "Weights and input must have the same size.", "mse_loss", ROWS, ROWS, weight=normal(4)),
    bad(ValueError, "Weights and input must have the same size.", "huber_loss", ROWS, ROWS, weight=normal(4)),
    bad(RuntimeError, "does not support negative values for beta.", "smooth_l1_loss", ROWS, ROWS, beta=-1.0),
    bad(RuntimeError, "does not support non-positive values", "huber_loss", ROWS, ROWS, delta=0.0),
    bad(RuntimeError, "expected target dtype to be Long or Byte, but got ", "cross_entropy", ROWS, normal(3)),
    bad(RuntimeError, "multi-target not supported", "cross_entropy", ROWS, T[:, None]),
    bad(ValueError, "batch_size (3) to match target batch_size (2).", "cross_entropy", ROWS, T[:2]),
    bad(ValueError, "batch_size (3) to match target batch_size (0).", "cross_entropy", ROWS, np.array(0)),
    bad(ValueError, "1D target must have size 1, but got target size: 2", "cross_entropy", ROWS[0], T[:2]),
    bad(
        RuntimeError,
        "Expected target size [3, 1], got [3, 2]",
        "cross_entropy",
        SPATIAL,
        T[:, None].repeat(2, 1),
    ),
    bad(RuntimeError, "Expected target size [3, 1], got [3]", "nll_loss", SPATIAL, T),
    bad(ValueError, "batch_size (3) to match target batch_size (2).", "nll_loss", SPATIAL, T[:2, None]),
    bad(
        RuntimeError,
        "floating point type for target with class probabilities",
        "cross_entropy",
        ROWS,
        np.zeros((3, 4), int),
    ),
    bad(ValueError, "Expected 1 or more dimensions (got 0)", "nll_loss", np.array(1.0), np.array(0)),
    bad(IndexError, "Target 7 is out of bounds.", "cross_entropy", ROWS, np.array([0, 7, 9])),
    bad(IndexError, "Target -7 is out of bounds.", "nll_loss", ROWS, np.array([0, 1, -7])),
    bad(IndexError, "Target 0 is out of bounds.", "nll_loss", ROWS[:, :0], T),
    bad(RuntimeError, "but got weight tensor of shape: [3]", "cross_entropy", ROWS, T, weight=normal(3)),
    bad(RuntimeError, "but got weight tensor of shape: [3]", "cross_entropy", ROWS, ROWS, weight=normal(3)),
    bad(RuntimeError, "between 0.0 and 1.0. Got: 1.5", "cross_entropy", ROWS, T, label_smoothing=1.5),
    bad(RuntimeError, "not supported for floating point target", "cross_entropy", ROWS, ROWS, ignore_index=2),
    bad(ValueError, "Please ensure they have the same size.", "binary_cross_entropy", W, W[:, :1]),
    bad(RuntimeError, "elements of input should be between 0 and 1", "binary_cross_entropy", W + 1, W),
    bad(RuntimeError, "elements of input should be between 0 and 1", "binary_cross_entropy", W * NAN, W),
    bad(RuntimeError, "elements of target should be between 0 and 1", "binary_cross_entropy", W, -W),
    bad(
        RuntimeError,
        "doesn't match the broadcast shape",
        "binary_cross_entropy",
        W,
        W,
        weight=uniform(2, 4, 3),
    ),
    bad(ValueError, "must be the same as input size", "binary_cross_entropy_with_logits", W, W[:, :1]),
    bad(
        RuntimeError,
        "doesn't match the broadcast shape",
        "binary_cross_entropy_with_logits",
        W,
        W,
        weight=uniform(2, 4, 3),
    ),
    bad(
        RuntimeError,
        "must match the size of tensor",
        "binary_cross_entropy_with_logits",
        W,
        W,
        pos_weight=uniform(2),
    ),
    bad(RuntimeError, "must match the size of tensor", "kl_div", W, W[:2]),
    bad(ValueError, "foo is not a valid value", "kl_div", W, W, reduction="foo"),
    bad(RuntimeError, "expects 2D input tensors", "cosine_embedding_loss", W[0], W[0], SIGNS[:1]),
    bad(RuntimeError, "expects 1D input tensors", "cosine_embedding_loss", W, W, np.array(1)),
    bad(RuntimeError, "The size of tensor a (", "cosine_embedding_loss", W, W, SIGNS[:3]),
    bad(RuntimeError, "multi-target not supported", "cosine_embedding_loss", W, W, SIGNS[:, None]),
    bad(RuntimeError, "All input tensors should have same dimension", "margin_ranking_loss", W, W, W[0]),
    bad(
        RuntimeError, "size of tensor b (3) at non-singleton dimension 0", "margin_ranking_loss", W, W[:3], W
    ),
    bad(RuntimeError, "must match the size of tensor b (", "hinge_embedding_loss", W, SIGNS),
    bad(RuntimeError, "must match the size of tensor", "soft_margin_loss", W, SIGNS),
    bad(ValueError, "margin must be greater than 0, got 0", "triplet_margin_loss", *TRIPLET, margin=0),
    bad(RuntimeError, "anchor 2D, positive 1D, and negative 2D inputs", "triplet_margin_loss", W, W[0], W),
    bad(ValueError, "var is of incorrect size", "gaussian_nll_loss", W, W, W[0]),
    bad(ValueError, "var is of incorrect size", "gaussian_nll_loss", W, W, W[:1, :1]),
    bad(ValueError, "var has negative entry/entries", "gaussian_nll_loss", W, W, -W),
    bad(ValueError, "var has negative entry/entries", "gaussian_nll_loss", W, W, -1.0),
    bad(ValueError, "only p == 1 and p == 2 supported", "multi_margin_loss", ROWS, T, p=3),
    bad(ValueError, "weight must be one-dimensional", "multi_margin_loss", ROWS, T, weight=normal(1, 4)),
    bad(
        RuntimeError,
        "inconsistent weight size, expected 4 but got [3]",
        "multi_margin_loss",
        ROWS,
        T,
        weight=normal(3),
    ),
    bad(RuntimeError, "optional 0-dim batch size, but got: [3, 4, 1]", "multi_margin_loss", SPATIAL, T),
    bad(RuntimeError, "Expected target size [3], but got [2].", "multi_margin_loss", ROWS, T[:2]),
    bad(RuntimeError, "target out of range", "multi_margin_loss", ROWS, T + 3),
    bad(RuntimeError, "expected scalar type Long but found ", "multi_margin_loss", ROWS, normal(3)),
    bad(RuntimeError, "inconsistent target size: [3]", "multilabel_margin_loss", ROWS, T),
    bad(
        RuntimeError,
        "argument #2 'target' is out of range",
        "multilabel_margin_loss",
        ROWS[0],
        np.array([1, -1, 0, 4]),
    ),
    bad(IndexError, "tensor has no dimensions", "multilabel_soft_margin_loss", np.array(1.0), np.array(1.0)),
    bad(RuntimeError, "at most 7, but got value 8", "ctc_loss", *CTC, (7, 8, 7), (1, 1, 1)),
    bad(RuntimeError, "at least 0, but got value -1", "ctc_loss", *CTC, (7, -1, 7), (1, 1, 1)),
    bad(RuntimeError, "at least 0, but got value -3", "ctc_loss", *CTC, (7, 7, 7), (1, -3, 1)),
    bad(
        RuntimeError, "size at least 4 at dimension 1, but got size 3", "ctc_loss", *CTC, (7, 7, 7), (1, 4, 1)
    ),
    bad(RuntimeError, "input_lengths must be of size batch_size", "ctc_loss", *CTC, (7, 7), (1, 1, 1)),
    bad(RuntimeError, "target_lengths must be of size batch_size", "ctc_loss", *CTC, (7, 7, 7), (1, 1)),
    bad(
        RuntimeError,
        "size 3 at dimension 0, but got size 4",
        "ctc_loss",
        SEQUENCES,
        np.array([1, 2, 3, 1]),
        (7, 7, 7),
        (1, 1, 1),
    ),
    bad(
        RuntimeError,
        "size 3 at dimension 0, but got size 2",
        "ctc_loss",
        SEQUENCES,
        SEQUENCE_LABELS[:2],
        (7, 7, 7),
        (1, 1, 1),
    ),
    bad(
        RuntimeError,
        "but got 3-dimensional tensor",
        "ctc_loss",
        SEQUENCES,
        SEQUENCE_LABELS[None],
        (7, 7, 7),
        (1, 1, 1),
    ),
    bad(RuntimeError, "blank must be in label range", "ctc_loss", *CTC, (7, 7, 7), (1, 1, 1), blank=4),
    bad(
        RuntimeError,
        "log_probs tensor must not be empty",
        "ctc_loss",
        SEQUENCES[:, :0],
        SEQUENCE_LABELS[:0],
        np.zeros(0, int),
        np.zeros(0, int),
    ),
    bad(
        RuntimeError,
        "input_lengths must be integral",
        "ctc_loss",
        SEQUENCES,
        SEQUENCE_LABELS,
        np.ones(3),
        np.ones(3, int),
    ),
    bad(
        RuntimeError,
        "for argument #1 'log_probs'",
        "ctc_loss",
        SEQUENCES[0, 0],
        SEQUENCE_LABELS,
        (7, 7, 7),
        (1, 1, 1),
    ),
]


@pytest.mark.parametrize(("error", "text", "name", "arguments", "options"), BAD)
def test_errors_are_torch(error, text, name, arguments, options, x64) -> None:
    """The type of PyTorch's error, or of its parent, and PyTorch's words."""
    torch_options = {key: as_torch(x) for key, x in options.items()}
    with pytest.raises(error, match=re.escape(text)):
        getattr(torch.nn.functional, name)(*map(as_torch, arguments), **torch_options)
    with pytest.raises(error, match=re.escape(text)):
        getattr(F, name)(*arguments, **options)


BAD_OPTIONS = {
    "HuberLoss": ({"delta": "a"}, TypeError, "delta must be a float or int, got: <class 'str'>"),
    "TripletMarginLoss": (
        {"margin": -1},
        ValueError,
        "TripletMarginLoss: expected margin to be greater than 0, got -1 instead",
    ),
    "MultiMarginLoss": ({"p": 3}, ValueError, "only p == 1 and p == 2 supported"),
    "MultiMarginLoss ": (
        {"weight": np.ones((1, 2))},
        ValueError,
        "MultiMarginLoss: expected weight to be None or 1D tensor, got 2D instead",
    ),
}


@pytest.mark.parametrize("kind", BAD_OPTIONS)
def test_errors_of_constructors_are_torch(kind: str) -> None:
    options, error, text = BAD_OPTIONS[kind]
    for module in (torch.nn, nn):
        given = {key: as_torch(x) if module is torch.nn else x for key, x in options.items()}
        with pytest.raises(error, match=re.escape(text)):
            getattr(module, kind.strip())(**given)


def test_an_unknown_reduction_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="foo is not a valid value for reduction; it is one of"):
        nn.MSELoss(reduction="foo")


@pytest.mark.parametrize("kind", ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"])
def test_another_size_is_broadcast_with_a_warning(kind: str, x64) -> None:
    x, y = normal(4, 1), normal(3)
    with pytest.warns(UserWarning, match="Using a target size .* that is different to the input size"):
        mine = getattr(nn, kind)()(x, y)
    with pytest.warns(UserWarning, match="Using a target size"):
        reference = getattr(torch.nn, kind)()(torch.tensor(x), torch.tensor(y))
    assert_same(mine, reference.numpy())


OUT_OF_RANGE = {
    "cross_entropy": (ROWS, np.array([0, 4, -1]), {}),
    "nll_loss": (ROWS, np.array([0, 4, -1]), {}),
    "multi_margin_loss": (ROWS, np.array([0, 4, -1]), {}),
    "multilabel_margin_loss": (ROWS, np.array([[0, -1, 0, 0], [4, -1, 0, 0], [0, -2, 0, 0]]), {}),
    "ctc_loss": (
        SEQUENCES,
        np.array([[1, 2], [4, 1], [-1, 1]]),
        {"input_lengths": (7, 7, 7), "target_lengths": (2, 2, 2)},
    ),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_traced_labels_out_of_range_are_nan(name: str) -> None:
    x, y, options = OUT_OF_RANGE[name]
    losses = jax.jit(lambda x, y: getattr(F, name)(x, y, **options, reduction="none"))(x, y)
    np.testing.assert_array_equal(np.isnan(losses), [False, True, True])


def test_traced_lengths_need_no_numbers(x64) -> None:
    """Labels in one row are then spread over rows of their total length."""
    kind, options, inputs = CASES["ctc, in one row"]
    mine = jax.jit(getattr(nn, kind)(**options))(*inputs)
    assert_same(mine, theirs(kind, options, inputs, "mean")[0])

"""Losses: one table of calls, each against its definition in NumPy, finite differences, and Optax.

Everything runs in double precision. The edges (infinite scores, labels of 0, masks, vectors of zeros) have
tables of their own, with values and derivatives taken from the definitions by hand.
"""

import inspect
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

import gradtx
from gradtx import losses

pytestmark = pytest.mark.usefixtures("x64")

INF = np.inf

NAMES = [name for name in dir(optax.losses) if not inspect.ismodule(getattr(optax.losses, name))]
NAMES = [name for name in NAMES if not name.startswith("_")]

ROUNDING = 1e-12
"""Some hundred roundings of 1e-16, relative to the largest loss of a case."""

OPTAX = 1e-10
"""Optax subtracts where it could avoid it: `log_cosh` and `ctc_loss` lose three digits."""

DIFFERENCE = 1e-7
"""Central differences with a step of 1e-5 are off by its square, times a third derivative, and by the
rounding of losses over the step."""


compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compiling takes nearly all the time of these tests, and of that a third less when it does not optimise."""


# --- definitions ------------------------------------------------------------------------------------


def binary_cross_entropy(x, y):
    return y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x)


def focal(x, y, alpha=None, gamma=2.0):
    p = special.expit(x)
    right = y * p + (1 - y) * (1 - p)
    weight = 1 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
    return weight * (1 - right) ** gamma * binary_cross_entropy(x, y)


def binary_sparsemax(x, y):
    z = np.where(y, -x, x)
    return np.where(z <= -1, 0, np.where(z >= 1, z, (z + 1) ** 2 / 4))


def cross_entropy(x, y, axis=-1, where=True):
    where = np.broadcast_to(where, x.shape)
    masked = np.where(where, x, -INF)
    log_q = x - special.logsumexp(masked, axis=axis, keepdims=True)
    return -np.sum(np.where(where, y * log_q, 0), axis)


def integer_cross_entropy(x, y, axis=-1, where=True):
    return cross_entropy(x, np.moveaxis(np.eye(x.shape[axis])[y], -1, axis), axis, where)


def poly(x, y, epsilon=2.0):
    return cross_entropy(x, y) + epsilon * np.sum(y * (1 - special.softmax(x, -1)), -1)


def hinge_of_classes(x, y):
    return np.array(
        [max(row[c] - row[k] + (c != k) for c in range(len(row))) for row, k in zip(x, y, strict=True)]
    )


def perceptron_of_classes(x, y):
    return np.array([max(row) - row[k] for row, k in zip(x, y, strict=True)])


def sparsemax(x, y):
    def one(row, k):
        # The face that the projection lies in: of all faces, the one whose point is nearest.
        faces = [np.array(f, bool) for f in product([0, 1], repeat=len(row)) if any(f)]
        points = [np.where(f, row - (row[f].sum() - 1) / f.sum(), 0) for f in faces]
        p = min((q for q in points if q.min() >= 0), key=lambda q: np.sum((q - row) ** 2))
        return p @ row - row[k] + (1 - p @ p) / 2

    return np.array([one(row, k) for row, k in zip(x, y, strict=True)])


def divergence(log_q, p, axis=-1, where=True):
    return np.sum(special.xlogy(p, p) - p * log_q, axis, where=where)


def generalized_divergence(log_q, p, axis=-1, where=True):
    return np.sum(special.kl_div(p, np.exp(log_q)), axis, where=where)


def huber(x, y=0.0, delta=1.0):
    return special.huber(delta, x - y)


def cosine(a, b, epsilon=0.0, axis=-1, where=True):
    def norm(x):
        return np.sqrt(np.maximum(np.sum(x * x, axis, where=where), epsilon))

    return np.sum(a * b, axis, where=where) / norm(a) / norm(b)


def ranking(s, y, where=True, weights=1.0, reduce_fn=np.mean):
    found = cross_entropy(s, y * weights, where=where)
    return found if reduce_fn is None else reduce_fn(found[np.any(np.broadcast_to(where, s.shape), -1)])


def triplet(a, p, n, k=2, margin=1.0, eps=1e-6, axis=-1):
    def distance(x, y):
        return (np.sum(np.abs(x - y) ** k, axis) + eps) ** (1 / k)

    return np.maximum(distance(a, p) - distance(a, n) + margin, 0)


def ntxent(x, y, temperature=0.07):
    s = cosine(x[:, None], x[None]) / temperature
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j and y[i] == y[j]]
    total = [-np.log(np.exp(s[i, j]) / (np.exp(s[i, j]) + np.exp(s[i][y != y[i]]).sum())) for i, j in pairs]
    return np.mean(total)


def dice(x, t, smooth=1.0, alpha=0.5, beta=0.5, weights=1.0, axis=None, scores=True):
    p = x
    if scores:
        p = special.expit(x) if x.shape[-1] == 1 else special.softmax(x, -1)
    axis = tuple(range(1, x.ndim - 1)) if axis is None else axis
    both = np.sum(p * t, axis)
    wrong = alpha * np.sum(p * (1 - t), axis) + beta * np.sum((1 - p) * t, axis)
    return weights * (1 - (both + smooth) / (both + wrong + smooth))


def generalized_dice(x, t, smooth=1.0):
    weights = 1 / (t.sum(tuple(range(t.ndim - 1))) ** 2 + 1e-7)
    return np.mean(dice(x, t, smooth, weights=weights / weights.mean()))


def ctc(x, x_pad, y, y_pad, blank=0):
    """By enumeration of all ways."""
    log_q = special.log_softmax(x, -1)
    losses = []
    for q, pad, row, row_pad in zip(log_q, x_pad, y, y_pad, strict=True):
        q, labels = q[pad == 0], list(row[row_pad == 0])
        total = []
        for way in product(range(q.shape[1]), repeat=len(q)):
            merged = [c for c, before in zip(way, (None, *way), strict=False) if c != before and c != blank]
            if merged == labels:
                total.append(sum(q[t, c] for t, c in enumerate(way)))
        losses.append(-special.logsumexp(total))
    return np.array(losses)


# --- the table --------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A call of a loss.

    formula: the definition, of the same arguments. by: the arguments to differentiate by. in_optax:
    whether Optax has the same numbers.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    formula: Callable[..., Any]
    by: tuple[int, ...]
    in_optax: bool

    def call(self, library: Any, *changed: Any) -> Any:
        args = list(self.args)
        for place, x in zip(self.by, changed, strict=False):
            args[place] = x
        return getattr(library, self.name)(*args, **self.kwargs)


def case(name, *args, formula, by=(0,), in_optax=True, **kwargs):
    return Case(name, args, kwargs, formula, by, in_optax)


def normal(*shape, seed=0, scale=2.0):
    return scale * np.random.default_rng(seed).normal(size=shape)


def simplex(*shape, seed=1):
    return special.softmax(normal(*shape, seed=seed), -1)


X, Y = normal(3, 4), simplex(3, 4)
MASK = np.array([[1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 1, 0]], bool)
LABELS = np.array([1, 3, 0])
SIGNS = np.sign(normal(3, 4, seed=2))
BITS = SIGNS > 0
SOFT = special.expit(normal(3, 4, seed=3))
CUBE, CUBE_LABELS = normal(2, 3, 4, seed=4), np.array([[0, 2, 1, 1], [2, 0, 0, 1]])
ONE_HOT = np.eye(3)[np.array([[[0, 2], [1, 1]], [[2, 2], [0, 2]]])]
PIXELS = normal(2, 2, 2, 3, seed=5)
TIMES = normal(3, 4, 3, seed=6), np.array([[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1]])
WORDS = np.array([[1, 2], [1, 1], [2, 0]]), np.array([[0, 0], [0, 0], [0, 1]])


def as_mean(f):
    return lambda *args, **kwargs: np.mean(f(*args, **kwargs), -1)


CASES = [
    case("sigmoid_binary_cross_entropy", X, SOFT, formula=binary_cross_entropy, by=(0, 1)),
    case("sigmoid_binary_cross_entropy", X, BITS, formula=binary_cross_entropy),
    case("sigmoid_focal_loss", X, BITS, formula=focal),
    case("sigmoid_focal_loss", X, SOFT, alpha=0.3, gamma=1.5, formula=focal),
    case("sigmoid_focal_loss", X, BITS, gamma=0.0, formula=focal),
    case("hinge_loss", X, SIGNS, formula=lambda x, y: np.maximum(0, 1 - x * y)),
    case("perceptron_loss", X, SIGNS, formula=lambda x, y: np.maximum(0, -x * y)),
    case("sparsemax_loss", X, BITS, formula=binary_sparsemax),
    case("softmax_cross_entropy", X, Y, formula=cross_entropy, by=(0, 1)),
    case("softmax_cross_entropy", X, Y, axis=0, formula=cross_entropy),
    case("softmax_cross_entropy", CUBE, CUBE**2, axis=(0, 2), formula=cross_entropy),
    case("softmax_cross_entropy", X, Y, axis=None, formula=cross_entropy),
    case("softmax_cross_entropy", X, Y, where=MASK, formula=cross_entropy),
    case("safe_softmax_cross_entropy", X, Y, formula=cross_entropy),
    case("softmax_cross_entropy_with_integer_labels", X, LABELS, formula=integer_cross_entropy),
    case(
        "softmax_cross_entropy_with_integer_labels", CUBE, CUBE_LABELS, axis=1, formula=integer_cross_entropy
    ),
    case(
        "softmax_cross_entropy_with_integer_labels",
        CUBE,
        np.array([7, 3, 0]),
        axis=(0, 2),
        formula=lambda x, y, axis: integer_cross_entropy(x.transpose(1, 0, 2).reshape(3, 8), y),
    ),
    case(
        "softmax_cross_entropy_with_integer_labels",
        X,
        LABELS * [1, 1, 1],
        where=MASK,
        formula=integer_cross_entropy,
    ),
    case("poly_loss_cross_entropy", X, Y, formula=poly, by=(0, 1)),
    case("poly_loss_cross_entropy", X, Y, epsilon=-1.0, formula=poly),
    case("multiclass_hinge_loss", X, LABELS, formula=hinge_of_classes),
    case("multiclass_perceptron_loss", X, LABELS, formula=perceptron_of_classes),
    case("multiclass_sparsemax_loss", 0.4 * X, LABELS, formula=sparsemax),
    case("kl_divergence", np.log(SOFT), Y, formula=divergence, by=(0, 1)),
    case("kl_divergence", np.log(SOFT), Y, axis=None, formula=divergence),
    case("kl_divergence", np.log(SOFT), Y, where=MASK, formula=divergence),
    case(
        "kl_divergence_with_log_targets",
        np.log(SOFT),
        np.log(Y),
        where=MASK,
        formula=lambda q, p, where: divergence(q, np.exp(p), where=where),
        by=(0, 1),
    ),
    case("generalized_kl_divergence", np.log(SOFT), Y, formula=generalized_divergence, by=(0, 1)),
    case("generalized_kl_divergence", np.log(SOFT), Y, axis=0, where=MASK, formula=generalized_divergence),
    case("ctc_loss", TIMES[0], TIMES[1], *WORDS, formula=ctc),
    case(
        "ctc_loss",
        TIMES[0],
        TIMES[1],
        2 - WORDS[0],
        WORDS[1],
        blank_id=2,
        formula=lambda *a, blank_id: ctc(*a, blank_id),
    ),
    case("squared_error", X, Y, formula=lambda x, y: (x - y) ** 2, by=(0, 1)),
    case("squared_error", X, formula=lambda x: x**2),
    case("l2_loss", X, Y, formula=lambda x, y: (x - y) ** 2 / 2),
    case("huber_loss", X, Y, formula=huber, by=(0, 1)),
    case("huber_loss", X, delta=0.5, formula=huber),
    case("log_cosh", X, Y, formula=lambda x, y: np.log(np.cosh(x - y)), by=(0, 1)),
    case("cosine_similarity", X, Y, formula=cosine, by=(0, 1)),
    case("cosine_similarity", X, Y, axis=0, epsilon=30.0, formula=cosine),
    case("cosine_distance", X, Y, where=MASK, formula=lambda *a, **k: 1 - cosine(*a, **k)),
    case("cosine_distance", X, Y, axis=None, formula=lambda *a, **k: 1 - cosine(*a, **k)),
    case("ranking_softmax_loss", X, Y, formula=ranking),
    case("ranking_softmax_loss", X, Y, where=MASK, weights=SOFT, formula=ranking),
    case("ranking_softmax_loss", X, Y, where=MASK, reduce_fn=None, formula=ranking),
    case("ntxent", X, np.array([0, 1, 0]), formula=ntxent),
    case("ntxent", normal(6, 3), np.array([0, 1, 2, 0, 1, 0]), 0.5, formula=ntxent),
    case("triplet_margin_loss", X, Y, SOFT, formula=triplet, by=(0, 1, 2)),
    case(
        "triplet_margin_loss", X, Y, SOFT, 0, 4, 3.0, 0.1, formula=lambda *a: triplet(*a[:3], *a[4:], axis=0)
    ),
    case("triplet_margin_loss", X, Y, SOFT, -1, 3, formula=lambda *a: triplet(*a[:3], a[4]), in_optax=False),
    case(
        "triplet_margin_loss", X, Y, SOFT, -1, 1.5, formula=lambda *a: triplet(*a[:3], a[4]), in_optax=False
    ),
    case("dice_loss", PIXELS, ONE_HOT, formula=as_mean(dice)),
    case("dice_loss", PIXELS, ONE_HOT, alpha=0.3, beta=0.7, smooth=0.1, formula=as_mean(dice)),
    case(
        "dice_loss",
        PIXELS,
        ONE_HOT,
        class_weights=np.array([1.0, 2.0, 3.0]),
        reduction="sum",
        ignore_background=True,
        formula=lambda x, t, class_weights, **_: dice(x, t, weights=class_weights)[:, 1:].sum(-1),
    ),
    case(
        "dice_loss",
        PIXELS,
        ONE_HOT,
        reduction="none",
        axis=(0, 1),
        formula=lambda x, t, axis, **_: dice(x, t, axis=axis),
    ),
    case(
        "dice_loss",
        special.softmax(PIXELS, -1),
        ONE_HOT,
        apply_softmax=False,
        formula=lambda p, t, **_: dice(p, t, scores=False).mean(-1),
    ),
    case("multiclass_generalized_dice_loss", PIXELS, ONE_HOT, formula=generalized_dice),
    case("binary_dice_loss", X, BITS, formula=lambda x, t: dice(x[..., None], t[..., None])[..., 0]),
    case(
        "binary_dice_loss",
        SOFT,
        BITS,
        apply_sigmoid=False,
        formula=lambda p, t, **_: dice(p[..., None], t[..., None], scores=False)[..., 0],
        in_optax=False,
    ),
    case("smooth_labels", Y, 0.2, formula=lambda y, a: (1 - a) * y + a / 4),
    case("smooth_labels", Y, 0.2, axis=(0, 1), formula=lambda y, a, axis: (1 - a) * y + a / 12),
    case(
        "smooth_labels",
        Y * MASK,
        0.2,
        where=MASK,
        formula=lambda y, a, where: (1 - a) * y + a * where / where.sum(-1, keepdims=True),
        in_optax=False,
    ),
]

IDS = [f"{c.name}-{i}" for i, c in enumerate(CASES)]
CASE = pytest.mark.parametrize("c", CASES, ids=IDS)


def close(got: Any, expected: Any, tolerance: float) -> None:
    expected = np.asarray(expected)
    scale = max(1.0, float(np.max(np.abs(expected), initial=0)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


def inputs(c: Case) -> list[Any]:
    return [jnp.asarray(c.args[place]) for place in c.by]


@cache
def measured(number: int, library: Any) -> tuple[Any, Any]:
    """The losses of a case, and the gradients of a sum of them whose weights tell them apart.

    Compiled as one, which is quicker than operation by operation. Optax looks at probabilities, and then
    cannot be compiled.
    """
    c = CASES[number]

    def total(*changed):
        found = c.call(library, *changed)
        return jnp.sum(found * jnp.cos(jnp.arange(found.size)).reshape(found.shape)), found

    both = jax.value_and_grad(total, tuple(range(len(c.by))), has_aux=True)
    if library is optax.losses and "apply_softmax" in c.kwargs:
        return c.call(library), None
    (_, found), gradients = compiled(both)(*inputs(c))
    return found, gradients


def test_the_table_has_all_losses():
    made = {"make_fenchel_young_loss", "convex_kl_divergence", "ctc_loss_with_forward_probs"}
    assert {c.name for c in CASES} | made == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_signature_is_that_of_optax(name):
    def signature(library):
        parameters = inspect.signature(getattr(library, name)).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters]

    assert signature(losses) == signature(optax.losses)
    assert hasattr(gradtx, name) == hasattr(optax, name)


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_equals_its_definition_and_its_slope(number):
    c = CASES[number]
    got, gradients = measured(number, losses)
    assert got.dtype == jnp.float64
    close(got, c.formula(*c.args, **c.kwargs), ROUNDING)

    points = [np.asarray(x) for x in inputs(c)]
    directions = [normal(*x.shape, seed=7, scale=1.0) for x in points]

    def along(step):
        args = list(c.args)
        for place, x, direction in zip(c.by, points, directions, strict=True):
            args[place] = x + step * direction
        found = np.asarray(c.formula(*args, **c.kwargs))
        return np.sum(found * np.cos(np.arange(found.size)).reshape(found.shape))

    slope = sum(np.sum(g * d) for g, d in zip(gradients, directions, strict=True))
    close(slope, (along(1e-5) - along(-1e-5)) / 2e-5, DIFFERENCE)


IN_OPTAX = [number for number, c in enumerate(CASES) if c.in_optax]


@pytest.mark.parametrize("number", IN_OPTAX, ids=[IDS[number] for number in IN_OPTAX])
def test_equals_optax(number):
    ours, theirs = measured(number, losses), measured(number, optax.losses)
    close(ours[0], theirs[0], OPTAX)
    if theirs[1] is not None:
        jax.tree.map(lambda a, b: close(a, b, OPTAX), ours[1], theirs[1])


@pytest.mark.parametrize("name", ["sigmoid_binary_cross_entropy", "softmax_cross_entropy", "kl_divergence"])
def test_eager_is_compiled(name):
    number = next(i for i, c in enumerate(CASES) if c.name == name)
    close(CASES[number].call(losses), measured(number, losses)[0], 1e-15)


@CASE
def test_dtype_is_that_of_the_arguments(c):
    halves = [
        jnp.asarray(x, jnp.bfloat16) if np.asarray(x).dtype == np.float64 and np.ndim(x) else x
        for x in c.args
    ]
    kwargs = {k: jnp.asarray(x, jnp.bfloat16) if k == "weights" else x for k, x in c.kwargs.items()}
    fixed = {i: x for i, x in enumerate(halves) if not isinstance(x, jax.Array)}
    given = [x for x in halves if isinstance(x, jax.Array)]

    def call(*arrays):
        rest = iter(arrays)
        args = [fixed[i] if i in fixed else next(rest) for i in range(len(halves))]
        return getattr(losses, c.name)(*args, **kwargs)

    assert jax.eval_shape(call, *given).dtype == jnp.bfloat16


def test_half_precision_is_computed_in_float32():
    logits = jnp.asarray(normal(4, 300, scale=1.0), jnp.bfloat16)
    labels = jnp.arange(4)
    expected = integer_cross_entropy(np.asarray(logits, np.float64), np.arange(4))
    got = losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(np.asarray(got, np.float64), expected, rtol=2**-8)  # one rounding to bfloat16


# --- edges ------------------------------------------------------------------------------------------


class Edge(NamedTuple):
    """A call at the edge: arguments, the losses there, and their derivatives by the first one."""

    name: str
    args: tuple[Any, ...]
    losses: Any
    slopes: Any
    kwargs: dict[str, Any] = {}


P, Q = np.exp(1) / (np.exp(1) + 1), 1 / (np.exp(1) + 1)
"""The softmax of 1 and 0."""

E = [
    Edge(
        "sigmoid_binary_cross_entropy",
        ([INF, INF, -INF, -INF], [1, 0, 1, 0]),
        [0, INF, INF, 0],
        [0, 1, -1, 0],
    ),
    Edge(
        "sigmoid_binary_cross_entropy", ([800.0, -800.0, 0.0], [1, 1, 1]), [0, 800, np.log(2)], [0, -1, -0.5]
    ),
    Edge("sigmoid_focal_loss", ([INF, INF, -INF, -INF], [1, 0, 1, 0]), [0, INF, INF, 0], [0, 1, -1, 0]),
    Edge(
        "sigmoid_focal_loss",
        ([INF, 900.0, -INF], [1, 1, 0]),
        [0, 0, 0],
        [0, 0, 0],
        dict(gamma=0.5, alpha=0.25),
    ),
    Edge("hinge_loss", ([INF, -INF, 3.0], [1, -1, 1]), [0, 0, 0], [0, 0, 0]),
    Edge("sparsemax_loss", ([INF, -INF, INF, 1.0], [1, 0, 0, 1]), [0, 0, INF, 0], [0, 0, 1, 0]),
    Edge("softmax_cross_entropy", ([1.0, 0.0, -INF], [1.0, 0.0, 0.0]), -np.log(P), [P - 1, Q, 0]),
    Edge("softmax_cross_entropy", ([1.0, 0.0, -INF], [0.0, 0.0, 1.0]), INF, [P, Q, -1]),
    Edge("softmax_cross_entropy", ([INF, 0.0, 5.0], [1.0, 0.0, 0.0]), 0, [0, 0, 0]),
    Edge("softmax_cross_entropy", ([INF, 0.0, INF], [0.5, 0.0, 0.5]), np.log(2), [0, 0, 0]),
    Edge("softmax_cross_entropy", ([INF, 0.0, 5.0], [0.0, 1.0, 0.0]), INF, [1, -1, 0]),
    Edge("softmax_cross_entropy", ([1e4, 0.0], [1.0, 0.0]), 0, [0, 0]),
    Edge("safe_softmax_cross_entropy", ([1.0, 0.0, -INF], [1.0, 0.0, 0.0]), -np.log(P), [P - 1, Q, 0]),
    Edge("poly_loss_cross_entropy", ([1.0, 0.0, -INF], [1.0, 0.0, 0.0]), 2 * Q - np.log(P), None),
    Edge("softmax_cross_entropy_with_integer_labels", ([1.0, 0.0, -INF], 0), -np.log(P), [P - 1, Q, 0]),
    Edge("softmax_cross_entropy_with_integer_labels", ([INF, 0.0, -INF], 0), 0, [0, 0, 0]),
    Edge("multiclass_hinge_loss", ([3.0, 0.0, -INF], 0), 0, [0, 0, 0]),
    Edge("multiclass_hinge_loss", ([INF, 0.0, -INF], 0), 0, [0, 0, 0]),
    Edge("multiclass_perceptron_loss", ([3.0, 4.0, -INF], 0), 1, [-1, 1, 0]),
    Edge("multiclass_sparsemax_loss", ([0.0, 0.5, -INF], 0), 0.5625, [-0.75, 0.75, 0]),
    Edge("multiclass_sparsemax_loss", ([INF, 0.5, -INF], 0), 0, [0, 0, 0]),
    Edge("kl_divergence", ([0.0, -INF], [1.0, 0.0]), 0, [-1, 0]),
    Edge("kl_divergence", ([0.0, -INF], [0.5, 0.5]), INF, [-0.5, -0.5]),
    Edge("kl_divergence_with_log_targets", ([0.0, -INF], [0.0, -INF]), 0, [-1, 0]),
    Edge("generalized_kl_divergence", ([0.0, -INF], [1.0, 0.0]), 0, [0, 0]),
    Edge("huber_loss", ([INF, -INF, 0.0, 1.0],), [INF, INF, 0, 0.5], [2, -2, 0, 1], dict(delta=2.0)),
    Edge("huber_loss", ([np.nan],), np.nan, [np.nan]),
    Edge("log_cosh", ([INF, -INF, 0.0, 800.0],), [INF, INF, 0, 800 - np.log(2)], [1, -1, 0, 1]),
    Edge("cosine_similarity", ([0.0, 0.0], [3.0, 4.0]), 0, [0, 0]),
    Edge("cosine_distance", ([3.0, 4.0], [0.0, 0.0]), 1, [0, 0]),
    Edge("triplet_margin_loss", ([1.0, 2.0], [1.0, 2.0], [9.0, 2.0]), 0, [0, 0]),
    Edge("dice_loss", ([[[9.0, -INF]]], [[[1.0, 0.0]]]), [0], [[[0, 0]]], dict(smooth=0.0)),
    Edge("ntxent", ([[1.0, 0.0], [0.0, 1.0]], [0, 1]), 0, [[0, 0], [0, 0]]),
    Edge("ntxent", ([[1.0, 0.0], [0.0, 1.0]], [0, 0]), 0, [[0, 0], [0, 0]]),
    Edge("ntxent", ([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [0, 1, 1]), np.log(2), None),
    Edge("ranking_softmax_loss", ([1.0, 0.0, -INF], [1, 0, 0]), -np.log(P), [P - 1, Q, 0]),
    Edge("ranking_softmax_loss", ([1.0, 0.0], [1.0, 0.0]), 0, [0, 0], dict(where=np.array([False, False]))),
]


@pytest.mark.parametrize("e", E, ids=lambda e: e.name)
def test_edges(e):
    first, *rest = (jnp.asarray(x) for x in e.args)

    def loss(x):
        return getattr(losses, e.name)(x, *rest, **e.kwargs)

    gradient, found = compiled(jax.grad(lambda x: (jnp.sum(loss(x)), loss(x)), has_aux=True))(first)
    np.testing.assert_allclose(found, e.losses, rtol=1e-14, atol=1e-300)
    if e.slopes is None:
        assert np.all(np.isfinite(gradient))
    else:
        np.testing.assert_allclose(gradient, e.slopes, rtol=0, atol=1e-14)


TARGETS_OF_0 = [
    ("kl_divergence", [np.log(0.5), -INF], [0.5, 0.0]),
    ("generalized_kl_divergence", [np.log(0.5), -INF], [0.5, 0.0]),
    ("kl_divergence_with_log_targets", [np.log(0.5), -INF], [np.log(0.5), -INF]),
    ("softmax_cross_entropy", [0.0, -INF], [1.0, 0.0]),
    ("sigmoid_binary_cross_entropy", [INF, -INF], [1.0, 0.0]),
]


@pytest.mark.parametrize(("name", "x", "y"), TARGETS_OF_0)
def test_derivatives_by_targets_of_0_are_finite(name, x, y):
    loss = getattr(losses, name)
    gradient = compiled(jax.grad(lambda y: jnp.sum(loss(jnp.asarray(x), y))))(jnp.asarray(y))
    assert np.all(np.isfinite(gradient))


def test_log_cosh_of_small_errors():
    errors = np.array([1e-150, 1e-9, 1e-3, 0.9999999, 1.0, 30.0])
    expected = np.where(errors < 0.01, errors**2 / 2 - errors**4 / 12, np.log(np.cosh(errors)))
    np.testing.assert_allclose(losses.log_cosh(errors), expected, rtol=1e-12)


@pytest.mark.parametrize("logit", [30.0, 600.0])
def test_cross_entropy_of_sure_predictions_keeps_its_digits(logit):
    expected = np.exp(-logit)
    np.testing.assert_allclose(losses.sigmoid_binary_cross_entropy(-logit, 0), expected, rtol=1e-12)


def test_second_derivative_of_cross_entropy():
    hessian = compiled(jax.hessian(lambda x: losses.softmax_cross_entropy(x, jnp.asarray(Y[0]))))(X[0])
    p = special.softmax(X[0])
    np.testing.assert_allclose(hessian, np.diag(p) - np.outer(p, p), atol=1e-14)


MASKED = [
    ("softmax_cross_entropy", (X, Y)),
    ("softmax_cross_entropy_with_integer_labels", (X, LABELS)),
    ("poly_loss_cross_entropy", (X, Y)),
    ("kl_divergence", (np.log(SOFT), Y)),
    ("kl_divergence_with_log_targets", (np.log(SOFT), np.log(Y))),
    ("generalized_kl_divergence", (np.log(SOFT), Y)),
    ("cosine_similarity", (X, Y)),
    ("cosine_distance", (X, Y)),
    ("ranking_softmax_loss", (X, Y)),
]


@pytest.mark.parametrize(("name", "args"), MASKED)
def test_nothing_comes_through_a_mask(name, args):
    """NaN where the mask is False, and a row without anything, change neither losses nor gradients."""
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]], bool)
    loss = getattr(losses, name)

    def total(x, y):
        return jnp.sum(loss(x, y, where=mask))

    both = compiled(jax.value_and_grad(total))

    def spoiled(x):
        return jnp.where(mask, x, jnp.nan) if x.shape == mask.shape else x

    x, y = (jnp.asarray(a) for a in args)
    value, slope = both(x, y)
    spoiled_value, spoiled_slope = both(spoiled(x), spoiled(y))
    assert np.isfinite(value) and np.all(np.isfinite(slope))
    assert value == spoiled_value
    np.testing.assert_array_equal(slope, spoiled_slope)
    np.testing.assert_array_equal(np.where(mask, 0, slope), 0)


@pytest.mark.parametrize("where", [[True, False, True], [[True], [False], [True]], MASK])
def test_integer_labels_are_one_hot_labels_also_under_a_mask(where):
    where = np.asarray(where)
    labels = np.array([2, 3, 0])  # the first two are masked out by MASK or their row
    got = losses.softmax_cross_entropy_with_integer_labels(X, labels, where=where)
    np.testing.assert_allclose(
        got, losses.softmax_cross_entropy(X, np.eye(4)[labels], where=where), rtol=1e-14
    )


def test_labels_of_masked_rows_are_not_looked_at():
    got = losses.softmax_cross_entropy_with_integer_labels(
        X, np.array([1, -100, 0]), where=[True, False, True]
    )
    assert got[1] == 0 and np.all(got[jnp.array([0, 2])] > 0)


BY_LABELS = [
    "softmax_cross_entropy_with_integer_labels",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
]


@pytest.mark.parametrize("name", BY_LABELS)
@pytest.mark.parametrize("label", [-1, 4])
def test_labels_out_of_range(name, label):
    labels = LABELS.copy()
    labels[1] = label
    with pytest.raises(ValueError, match=rf"{name}: label {label} is not in \[0, 4\)"):
        getattr(losses, name)(X, labels)
    assert list(np.isnan(compiled(getattr(losses, name))(X, labels))) == [False, True, False]


MISSED = [
    ("sigmoid_binary_cross_entropy", ([INF, -INF], [1, 0]), {}),
    ("sparsemax_loss", ([INF, -INF], [1, 0]), {}),
    ("softmax_cross_entropy", ([1.0, 0.0, -INF], [1.0, 0.0, 0.0]), {}),
    ("softmax_cross_entropy_with_integer_labels", ([1.0, 0.0, 2.0], 2), dict(where=[True, True, False])),
    ("kl_divergence", ([0.0, -INF], [1.0, 0.0]), {}),
    ("log_cosh", ([1e-9],), {}),
    ("cosine_similarity", ([0.0, 0.0], [1.0, 0.0]), {}),
    ("ntxent", ([[1.0, 0.0], [0.0, 1.0]], [0, 1]), {}),
    ("triplet_margin_loss", ([0.0, 0.0], [1.0, 2.0], [0.0, 0.0]), dict(norm_degree=1)),
    ("smooth_labels", ([1.0, 0.0, 0.0], 0.3), dict(where=[True, True, False])),
    ("dice_loss", ([[[9.0, -INF]]], [[[1.0, 0.0]]]), dict(smooth=0.0)),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), MISSED, ids=[name for name, *_ in MISSED])
def test_optax_differs_where_the_docs_say_so(name, args, kwargs):
    kwargs = {k: jnp.asarray(x) for k, x in kwargs.items()}

    def both(library):
        loss = getattr(library, name)
        first, *rest = (jnp.asarray(x) for x in args)
        of = compiled(
            jax.grad(lambda x: (jnp.sum(loss(x, *rest, **kwargs)), loss(x, *rest, **kwargs)), has_aux=True)
        )
        return np.concatenate([np.ravel(x) for x in of(first)])

    ours, theirs = both(losses), both(optax.losses)
    assert np.all(np.isfinite(ours))
    assert not np.allclose(ours, theirs, rtol=1e-3, atol=0)


# --- CTC ----------------------------------------------------------------------------------------------


def test_ctc_forward_probabilities_are_those_of_optax():
    ours, theirs = (compiled(of.ctc_loss_with_forward_probs)(*TIMES, *WORDS) for of in (losses, optax.losses))
    for a, b in zip(ours, theirs, strict=True):
        possible = np.asarray(a) > -1e4
        assert np.all(np.asarray(b)[~possible] < -9e4)
        close(np.asarray(a)[possible], np.asarray(b)[possible], OPTAX)


def test_ctc_of_labels_that_do_not_fit():
    logits, labels = jnp.zeros((1, 2, 3)), jnp.array([[1, 1]])
    loss = lambda x: losses.ctc_loss(x, jnp.zeros((1, 2)), labels, jnp.zeros((1, 2)), log_epsilon=-1e4)[0]  # noqa: E731
    value, slope = compiled(jax.value_and_grad(loss))(logits)
    assert value == 1e4
    np.testing.assert_array_equal(slope, 0)


def test_ctc_with_impossible_classes_and_without_labels():
    logits = jnp.asarray(TIMES[0]).at[:, :, 2].set(-INF)
    labels, paddings = np.array([[1], [1], [0]]), np.array([[0], [0], [1]])
    expected = ctc(np.asarray(logits)[..., :2], TIMES[1], labels, paddings)
    total = compiled(jax.value_and_grad(lambda x: jnp.sum(losses.ctc_loss(x, TIMES[1], labels, paddings))))
    value, slope = total(logits)
    close(value, np.sum(expected), ROUNDING)
    assert np.all(np.isfinite(slope))


# --- Fenchel-Young ------------------------------------------------------------------------------------


def test_fenchel_young_of_logsumexp_is_the_cross_entropy():
    loss = losses.make_fenchel_young_loss(jax.nn.logsumexp)
    found = compiled(loss)(X, Y)
    close(found, cross_entropy(X, Y), ROUNDING)
    close(found, compiled(optax.losses.make_fenchel_young_loss(jax.nn.logsumexp))(X, Y), ROUNDING)
    close(compiled(jax.grad(loss))(jnp.asarray(X[0]), Y[0]), special.softmax(X[0]) - Y[0], ROUNDING)
    np.testing.assert_allclose(loss(np.array([1.0, -INF]), np.array([1.0, 0.0])), 0, atol=1e-15)


def test_fenchel_young_passes_arguments_on():
    loss = losses.make_fenchel_young_loss(lambda s, scale, *, power: scale * jnp.sum(s**power))
    close(loss(X, Y, 3.0, power=2), 3 * np.sum(X**2, -1) - np.sum(X * Y, -1), ROUNDING)


def test_fenchel_young_wants_a_number():
    with pytest.raises(ValueError, match=r"max_fun must return a number, got the shape \(4,\)"):
        losses.make_fenchel_young_loss(jnp.exp)(X, Y)


# --- errors -------------------------------------------------------------------------------------------

INTS = np.arange(12).reshape(3, 4)

ERRORS = [
    (
        "sigmoid_binary_cross_entropy",
        (INTS, BITS),
        {},
        TypeError,
        "predictions must be real floating numbers, got int",
    ),
    (
        "softmax_cross_entropy",
        (INTS, Y),
        {},
        TypeError,
        "softmax_cross_entropy: predictions must be real floating",
    ),
    (
        "softmax_cross_entropy",
        (X, Y[:, :3]),
        {},
        ValueError,
        r"shapes do not fit: logits \(3, 4\), labels \(3, 3\)",
    ),
    ("softmax_cross_entropy", (X, Y), dict(where=np.ones(2)), ValueError, "shapes do not fit"),
    (
        "softmax_cross_entropy_with_integer_labels",
        (X, Y),
        {},
        TypeError,
        "labels must be integers, got float64",
    ),
    (
        "softmax_cross_entropy_with_integer_labels",
        (X, LABELS[:2]),
        {},
        ValueError,
        r"shapes do not fit.*\(2,\)",
    ),
    (
        "softmax_cross_entropy_with_integer_labels",
        (X, LABELS),
        dict(axis=None),
        TypeError,
        "axis must be an integer",
    ),
    ("poly_loss_cross_entropy", (X, INTS), {}, TypeError, "labels must be floating, got int64"),
    ("perceptron_loss", (X, SIGNS[:1]), {}, ValueError, "shapes must be the same"),
    ("hinge_loss", (X, SIGNS[:, :3]), {}, ValueError, r"predictor_outputs \(3, 4\), targets \(3, 3\)"),
    ("multiclass_hinge_loss", (X, LABELS[:2]), {}, ValueError, "shapes do not fit"),
    ("kl_divergence", (np.log(SOFT), INTS), {}, TypeError, "targets must be floating"),
    ("squared_error", (X, Y[:1]), {}, ValueError, r"squared_error: shapes must be the same"),
    (
        "l2_loss",
        (X, Y[:1]),
        {},
        ValueError,
        r"l2_loss: shapes must be the same: predictions \(3, 4\), targets \(1, 4\)",
    ),
    ("huber_loss", (X, Y[:, :3]), {}, ValueError, "huber_loss: shapes do not fit"),
    ("cosine_similarity", (X, INTS), {}, TypeError, "targets must be floating"),
    (
        "ctc_loss",
        (X, MASK, WORDS[0], WORDS[1]),
        {},
        ValueError,
        r"logits must be of shape \(batch, times, classes\)",
    ),
    ("ctc_loss", (*TIMES, WORDS[0][:2], WORDS[1]), {}, ValueError, r"labels must be of shape \(3, labels\)"),
    ("ctc_loss", (TIMES[0], MASK[:2], *WORDS), {}, ValueError, r"logit_paddings \(2, 4\)"),
    ("ctc_loss", (*TIMES, WORDS[0], MASK), {}, ValueError, r"label_paddings \(3, 4\)"),
    ("ctc_loss", (*TIMES, WORDS[0] + 2, WORDS[1]), {}, ValueError, r"label 3 is not in \[0, 3\)"),
    ("ctc_loss", (*TIMES, *WORDS), dict(blank_id=3), ValueError, r"blank_id must lie in \[0, 3\), got 3"),
    ("ntxent", (X, LABELS[:2]), {}, ValueError, r"got \(3, 4\) and \(2,\)"),
    (
        "triplet_margin_loss",
        (X, Y, SOFT, -1, 0),
        {},
        ValueError,
        r"norm_degree must lie in \(0, inf\), got 0",
    ),
    ("dice_loss", (PIXELS, ONE_HOT), dict(reduction="max"), ValueError, "'mean', 'sum' or 'none', got 'max'"),
    ("dice_loss", (PIXELS, ONE_HOT), dict(apply_softmax=False), ValueError, "is no probability"),
    (
        "dice_loss",
        (0 * PIXELS, ONE_HOT),
        dict(apply_softmax=False),
        ValueError,
        "must add up to 1 .* not to 0",
    ),
    (
        "dice_loss",
        (PIXELS, ONE_HOT),
        dict(class_weights=np.ones(1)),
        ValueError,
        r"class_weights must be of shape \(3,\)",
    ),
    ("dice_loss", (PIXELS, ONE_HOT[:1]), {}, ValueError, "shapes must be the same"),
    ("smooth_labels", (INTS, 0.1), {}, TypeError, "smooth_labels: predictions must be real floating"),
    ("ranking_softmax_loss", (X, Y[:, :3]), {}, ValueError, "shapes do not fit"),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "error", "message"), ERRORS)
def test_errors(name, args, kwargs, error, message):
    with pytest.raises(error, match=message):
        getattr(losses, name)(*args, **kwargs)

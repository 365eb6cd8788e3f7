"""Random chains over random trees: Optax's numbers, and one result however an update is run.

A chain consists of rows of `table.py` and of stages with random numbers, some scheduled, in random wrappers.
The examples of `make test` are always the same few; `make test-extra` draws many, others each time where
GRADTX_DRAW_ANEW is set, and prints how to draw again the one that fails.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, Phase, assume, given, reject, settings
from hypothesis import strategies as st

import gradtx
from tests import laws
from tests.closeness import assert_no_further, double_precision, furthest
from tests.given import DRAWS_ANEW, on_even_steps, schedule
from tests.table import ROWS, Row

STEPS = 4
USUAL = settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    phases=(Phase.reuse, Phase.generate),  # to shrink an example is to compile hundreds
)
FEW = settings(USUAL, derandomize=True, database=None)
MANY = settings(USUAL, max_examples=60, derandomize=not DRAWS_ANEW)
quick = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


# --- transformations --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """What can be made of either library, and how it reads."""

    text: str
    make: Callable[[Any], Any]

    def __repr__(self) -> str:
        return self.text

    def __call__(self, library: Any = gradtx) -> Any:
        return self.make(library)


def call(name: str, *inner: Made, **options: Any) -> Made:
    """A call of a factory by its name; what is scheduled, Optax injects."""

    def make(library: Any) -> Any:
        factory: Any = reduce(getattr, name.split("."), library)
        given = {key: x(library) if isinstance(x, Made) else x for key, x in options.items()}
        if library is optax and any(isinstance(x, Made) for x in options.values()):
            factory = optax.inject_hyperparams(factory)
        return factory(*(tx(library) for tx in inner), **given)

    shown = [*map(repr, inner), *(f"{key}={x!r}" for key, x in options.items())]
    return Made(f"{name}({', '.join(shown)})", make)


SCHEDULE = Made("schedule", schedule)
decays = st.sampled_from([0.0, 0.5, 0.9, 0.999]) | st.just(SCHEDULE)
rates = st.sampled_from([1e-3, 0.1, 1.0]) | st.just(SCHEDULE)
stages = st.one_of(
    st.builds(call, st.just("trace"), decay=decays, nesterov=st.booleans()),
    st.builds(call, st.just("ema"), decay=decays, debias=st.booleans()),
    st.builds(call, st.just("scale_by_adam"), b1=decays, b2=decays, eps=st.sampled_from([1e-8, 1e-3])),
    st.builds(call, st.just("scale_by_rms"), decay=decays, eps=st.just(1e-4)),
    st.builds(call, st.just("scale_by_lion"), b1=st.just(0.9), b2=st.just(0.99)),
    st.builds(call, st.just("clip_by_global_norm"), max_norm=rates),
    st.builds(call, st.just("add_decayed_weights"), weight_decay=rates),
    st.builds(call, st.just("sgd"), learning_rate=rates, momentum=decays),
    st.builds(call, st.just("adamw"), learning_rate=rates, b1=decays, weight_decay=rates),
    st.builds(call, st.just("scale_by_learning_rate"), learning_rate=rates),
)


def of_rows(usable: Callable[[Row], bool]) -> st.SearchStrategy[Made]:
    """Of all but those that must be around the whole, and are refused within what the strategies make."""
    within = [row for row in ROWS if row.name != "dynamic_loss_scale" and usable(row)]
    return st.sampled_from([Made(row.name, row.make) for row in within])


def matrices(params: Any) -> Any:
    """A mask: tensors with two axes."""
    return jax.tree.map(lambda x: np.ndim(x) == 2, params)


def by_size(params: Any) -> Any:
    """Labels; a param that is None has none."""
    return jax.tree.map(lambda x: "many" if np.size(x) > 2 else "few", params)


def all_wrappers(inner: st.SearchStrategy[Made]) -> st.SearchStrategy[Made]:
    return st.one_of(
        wrappers(inner),
        st.builds(call, st.just("MultiSteps"), inner, every_k_schedule=st.just(2)),
        st.builds(call, st.just("lookahead"), inner, sync_period=st.just(2), slow_step_size=st.just(0.5)),
        st.builds(call, st.just("skip_spikes"), inner, watch=st.just("norm")),
    )


def chained(inner: list[Made]) -> Made:
    return Made(f"chain({', '.join(map(repr, inner))})", lambda x: x.chain(*(tx(x) for tx in inner)))


def named(first: Made, second: Made) -> Made:
    return Made(
        f"named_chain(a={first}, b={second})",
        lambda x: x.named_chain(("a", first(x)), ("b", second(x))),
    )


def partitioned(few: Made, many: Made) -> Made:
    return Made(
        f"partition(few={few}, many={many})",
        lambda x: x.partition({"few": few(x), "many": many(x)}, by_size),
    )


def wrappers(inner: st.SearchStrategy[Made]) -> st.SearchStrategy[Made]:
    """Those with Optax's numbers; MultiSteps accumulates in float32 there."""
    return st.one_of(
        st.builds(chained, st.lists(inner, min_size=2, max_size=3)),
        st.builds(named, inner, inner),
        st.builds(partitioned, inner, inner),
        st.builds(call, st.just("masked"), inner, mask=st.just(matrices)),
        st.builds(call, st.just("apply_if_finite"), inner, max_consecutive_errors=st.just(3)),
        st.builds(
            call, st.just("conditionally_transform"), inner, should_transform_fn=st.just(on_even_steps)
        ),
        st.builds(call, st.just("flatten"), inner),
    )


def chains(usable: Callable[[Row], bool], around: Any = all_wrappers) -> st.SearchStrategy[Made]:
    either = st.booleans().flatmap(lambda row: of_rows(usable) if row else stages)
    links = st.recursive(either, around, max_leaves=3)
    return st.lists(links, min_size=1, max_size=4).map(chained)


# --- trees ------------------------------------------------------------------------------------------

SHAPES = [(), (1,), (3,), (2, 3), (4, 1), (2, 1, 3), (0,), (3, 0)]
trees = st.recursive(
    st.sampled_from(SHAPES).map(lambda shape: jax.ShapeDtypeStruct(shape, "float32")) | st.none(),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["kernel", "bias", "a/b"]), inner, min_size=1),
    ),
    max_leaves=4,
).filter(jax.tree.leaves)


def normal(like: Any, seed: int, nudge: float = 0.0) -> Any:
    """A tree like another, of standard normal numbers that a float32 holds; as NumPy arrays of float64."""
    rng = np.random.default_rng(seed)
    draw = lambda x: rng.normal(size=x.shape).astype(np.float32) * (1 + nudge)  # noqa: E731
    return jax.tree.map(draw, like)


def drawn(like: Any, seed: int, count: int, nudge: float = 0.0, dtype: Any = None) -> list[Any]:
    """Params and gradients."""
    trees = [normal(like, seed + i, nudge * (-1) ** i) for i in range(count)]
    return jax.tree.map(lambda x: jnp.asarray(x, dtype or jnp.result_type(float)), trees)


# --- beside Optax -----------------------------------------------------------------------------------


def updates_of(tx: Any, step: Any, params: Any, grads: list[Any]) -> Any:
    """All numbers of the updates, step by step."""
    state, seen = tx.init(params), []
    for grad in grads:
        params, state, updates = step(params, state, grad)
        seen.append(np.concatenate([np.zeros(0), *(np.ravel(x) for x in laws.numbers(updates))]))
    return seen


def stepping(library: Any, tx: Any) -> Any:
    @quick
    def step(params: Any, state: Any, grad: Any) -> Any:
        updates, state = tx.update(grad, state, params)
        return library.apply_updates(params, updates), state, updates

    return step


def of_optax(theirs: Any, step: Any, params: Any, grads: list[Any]) -> Any:
    """Its updates; the example is dropped where it has none, as for a part without tensors."""
    try:
        return updates_of(theirs, step, params, grads)
    except (TypeError, ValueError, ZeroDivisionError):
        reject()


def check_beside_optax(made: Made, tree: Any, seed: int) -> None:
    theirs = made(optax)
    with double_precision():
        params, *grads = drawn(tree, seed, STEPS + 1)
        nudged, *nudges = drawn(tree, seed, STEPS + 1, nudge=1e-14)
        step = stepping(optax, theirs)
        exact = of_optax(theirs, step, params, grads)
        moved = of_optax(theirs, step, nudged, nudges)
        scale = max(1.0, furthest(exact, np.zeros(STEPS)))
        # A jump, as of a sign of what cancels, tells nothing.
        assume(np.isfinite(scale) and furthest(exact, moved) < 1e-11 * scale)
        ours = updates_of(made(), stepping(gradtx, made()), params, grads)
        np.testing.assert_allclose(np.stack(ours), np.stack(exact), rtol=0, atol=1e-11 * scale)
    params, *grads = drawn(tree, seed, STEPS + 1)
    ours = updates_of(made(), stepping(gradtx, made()), params, grads)
    peer = updates_of(theirs, stepping(optax, theirs), params, grads)
    assert_no_further(ours, peer, exact, scale=scale, ulps=64, factor=8)


# --- however it is run ------------------------------------------------------------------------------


def check_ways(made: Made, tree: Any, seed: int) -> None:
    """Eagerly, compiled, in a loop of JAX, in a batch, with donated buffers: the same params and state."""
    tx = made()
    step = stepping(gradtx, tx)

    def run(step: Any, numbers: list[Any]) -> Any:
        params, *grads = numbers
        state = tx.init(params)
        for grad in grads:
            params, state = step(params, state, grad)[:2]
        return params, state

    def scanned(numbers: list[Any]) -> Any:
        params, *grads = numbers
        return jax.lax.scan(
            lambda carry, grad: (stepping_eagerly(tx, *carry, grad), None),
            (params, tx.init(params)),
            jax.tree.map(lambda *x: jnp.stack(x), *grads),
        )[0]

    with double_precision():
        numbers, nudged = drawn(tree, seed, 3), drawn(tree, seed, 3, nudge=1e-14)
        plain, moved = run(step, numbers), run(step, nudged)
        assume(furthest(laws.numbers(plain), laws.numbers(moved)) < 1e-11)
        laws.assert_same_layout(plain[1], tx.init(numbers[0]))
        eager = lambda params, state, grad: stepping_eagerly(tx, params, state, grad)  # noqa: E731
        donated = lambda params, state, grad: gradtx.jit_step(tx, grad, state, params)  # noqa: E731
        for way in (
            run(eager, numbers),
            quick(scanned)(numbers),
            run(donated, jax.tree.map(jnp.copy, numbers)),
        ):
            laws.assert_close(way, plain)
        batch = jax.tree.map(lambda *x: jnp.stack(x), numbers, nudged)
        together = quick(jax.vmap(partial(run, eager)))(batch)
        laws.assert_close(jax.tree.map(lambda x: x[0], together), plain)
        laws.assert_close(jax.tree.map(lambda x: x[1], together), moved)


def stepping_eagerly(tx: Any, params: Any, state: Any, grad: Any) -> Any:
    updates, state = tx.update(grad, state, params)
    return gradtx.apply_updates(params, updates), state


def check_half_precision(made: Made, tree: Any, seed: int) -> None:
    """The layout is a fixed point, and what is finite in float32 is finite."""
    tx, finite = made(), []
    for dtype in (jnp.float32, jnp.bfloat16):
        params, *grads = drawn(tree, seed, 3, dtype=dtype)
        state = tx.init(params)
        step = stepping(gradtx, tx)
        after, new = params, state
        for grad in grads:
            after, new, _ = step(after, new, grad)
        laws.assert_same_layout(after, params)
        laws.assert_same_layout(new, state)
        found = [np.asarray(x, np.float32) for x in jax.tree.leaves(after)]
        finite.append(all(np.isfinite(x).all() for x in found))
    assert finite[1] or not finite[0]


def check_gradients(made: Made, tree: Any, seed: int) -> None:
    """Through three steps, against central differences.

    Those with h and with h/2 differ by three times the error of the second that is of order h²; the rest is
    rounding, which is divided by h.
    """
    tx, h = made(), 1e-4

    def total(numbers: Any) -> Any:
        params, *grads = numbers
        state = tx.init(params)
        for grad in grads:
            params, state = stepping_eagerly(tx, params, state, grad)
        return sum(jnp.sum(jnp.cos(x)) for x in jax.tree.leaves(params))

    with double_precision():
        numbers, way = drawn(tree, seed, 4), drawn(tree, seed + 50, 4)
        at = lambda t: jax.tree.map(lambda x, v: x + t * v, numbers, way)  # noqa: E731
        value = quick(total)
        coarse, fine = ((float(value(at(t))) - float(value(at(-t)))) / (2 * t) for t in (h, h / 2))
        assume(np.isfinite(coarse) and abs(coarse - fine) < 1e-3 * (1 + abs(fine)))
        gradient = quick(jax.grad(total))(numbers)
        slope = sum(
            float(jnp.vdot(g, v)) for g, v in zip(*map(jax.tree.leaves, (gradient, way)), strict=True)
        )
        assert abs(slope - fine) <= abs(coarse - fine) + 1e-8 * (1 + abs(fine))


# Projections on singular vectors are constants to `grad`, and numbers that are rounded move in steps.
CONSTANT_TO_GRAD = ("galore", "fira", "bf16", "stored", "round_stochastically", "compensated")
of_optax_too = chains(lambda row: row.in_optax, wrappers)
of_all = chains(lambda row: True)
smooth = chains(lambda row: not any(name in row.name for name in CONSTANT_TO_GRAD))
CHECKS = {
    check_beside_optax: (of_optax_too, 10),
    check_ways: (of_all, 5),
    check_half_precision: (of_all, 5),
    check_gradients: (smooth, 5),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_few_chains(check: Any) -> None:
    made, count = CHECKS[check]
    draw = given(made=made, tree=trees, seed=st.integers(0, 49))
    settings(FEW, max_examples=count)(draw(check))()


@pytest.mark.extra
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_many_chains(check: Any) -> None:
    settings(MANY)(given(made=CHECKS[check][0], tree=trees, seed=st.integers(0, 49))(check))()

"""Schedules: one table of them, and laws that each row obeys.

Oracles: formulas in double precision, written from the definitions with `math` alone; Optax; PyTorch's
StepLR. Errors are measured against the scale of a schedule, the largest value on its row: on the way
from 0 to 1 the difference of the ends rules the rounding, not the value.
"""

import functools
import json
import math
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import gradtx
import gradtx.schedules as ours
from gradtx.values.config import from_config, to_config
from gradtx.values.schedule import Schedule
from gradtx.values.schedule import schedule as recorded

FAR = 2**30
"""Past the end of everything here, and not a float32 once 1 is added."""

FLOAT64 = 1e-12
"""Some hundred roundings of 1e-16, times a factor for powers with exponents of some ten."""

FLOAT32 = 1e-6
"""A few roundings of 6e-8; powers multiply that of their base by the exponent, here up to 8."""


# --- the table --------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A schedule under test.

    name: its factory, in both libraries. arguments: made with the schedules of the library that is
    passed. counts: where it turns, and around. formula: the definition. twin: what Optax calls it, if it
    does at all and by another name. data: whether it has a form as data, which plain functions have not.
    """

    name: str
    arguments: Callable[[Any], dict[str, Any]]
    counts: tuple[int, ...]
    formula: Callable[[int], float] | None = None
    twin: Callable[[], Any] | None = None
    data: bool = True

    def make(self) -> Any:
        return getattr(ours, self.name)(**self.arguments(ours))

    @property
    def in_optax(self) -> bool:
        return self.twin is not None or hasattr(optax.schedules, self.name)

    def make_optax(self) -> Any:
        return self.twin() if self.twin else getattr(optax.schedules, self.name)(**self.arguments(optax))

    def everywhere(self) -> list[int]:
        return sorted({0, *self.counts, FAR})


def row(name: str, counts: Any, formula: Any = None, /, *, twin: Any = None, **arguments: Any) -> Row:
    return Row(name, lambda _: arguments, tuple(counts), formula, twin)


def around(*boundaries: int) -> list[int]:
    return [count for boundary in boundaries for count in (boundary - 1, boundary, boundary + 1)]


def share(count: int, begin: int, steps: int) -> float:
    """How much of the way is done."""
    return min(max((count - begin) / steps, 0.0), 1.0)


def wave(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


def between(start: float, end: float, weight: float) -> float:
    return end + (start - end) * weight


def cycle(count: int, warmup: int, total: int, peak: float, end: float, exponent: float = 1.0) -> float:
    if count < warmup:
        return peak * count / warmup
    return between(peak, end, wave(share(count, warmup, total - warmup)) ** exponent)


def onecycle(points: list[tuple[int, float]], weight: Callable[[float], float]) -> Callable[[int], float]:
    def formula(count: int) -> float:
        for (start, a), (stop, b) in zip(points, points[1:], strict=False):
            if start <= count < stop:
                return between(a, b, weight((count - start) / (stop - start)))
        return points[-1][1]

    return formula


CYCLES = [
    dict(init_value=0.0, peak_value=1.0, warmup_steps=3, decay_steps=10, end_value=0.1),
    dict(init_value=0.0, peak_value=0.5, warmup_steps=0, decay_steps=20),
    dict(init_value=0.0, peak_value=0.2, warmup_steps=5, decay_steps=25, exponent=2.0),
]


def restarts(count: int) -> float:
    if count < 10:
        return cycle(count, 3, 10, 1.0, 0.1)
    if count < 30:
        return cycle(count - 10, 0, 20, 0.5, 0.0)
    return cycle(count - 30, 5, 25, 0.2, 0.0, 2.0)


def quarter(count: Any) -> float:
    return 0.25


def fading(count: Any) -> Any:
    """A schedule that is a plain function, and that a negative count would break."""
    return 1 / jnp.sqrt(1.0 + count)


ROWS = [
    row("constant_schedule", [1, 100], lambda c: 0.3, value=0.3),
    row(
        "linear_schedule", around(10, 25), lambda c: between(0.5, 2.0, 1 - share(c, 0, 25)),
        init_value=0.5, end_value=2.0, transition_steps=25,
    ),
    row(
        "linear_schedule", around(7, 27), lambda c: between(1.0, 0.1, 1 - share(c, 7, 20)),
        init_value=1.0, end_value=0.1, transition_steps=20, transition_begin=7,
    ),
    row("linear_schedule", [1, 5], lambda c: 0.5, init_value=0.5, end_value=2.0, transition_steps=0),
    row("linear_schedule", [1, 5], lambda c: 0.5, init_value=0.5, end_value=2.0, transition_steps=-3),
    row(
        "linear_schedule", around(4), lambda c: between(1.0, 0.0, 1 - share(c, 0, 4)),
        init_value=1.0, end_value=0.0, transition_steps=4, transition_begin=-10,
    ),
    row(
        "polynomial_schedule", around(12, 42), lambda c: between(1.0, 0.2, (1 - share(c, 12, 30)) ** 3),
        init_value=1.0, end_value=0.2, power=3, transition_steps=30, transition_begin=12,
    ),
    row(
        "polynomial_schedule", around(30), lambda c: between(0.0, 2.0, (1 - share(c, 0, 30)) ** 0.5),
        init_value=0.0, end_value=2.0, power=0.5, transition_steps=30,
    ),
    row(
        "exponential_decay", around(5, 15, 25), lambda c: 0.8 * 0.7 ** (max(c - 5, 0) / 10),
        init_value=0.8, transition_steps=10, decay_rate=0.7, transition_begin=5,
    ),
    row(
        "exponential_decay", around(5, 15, 25, 35), lambda c: max(0.8 * 0.5 ** (max(c - 5, 0) // 10), 0.15),
        init_value=0.8, transition_steps=10, decay_rate=0.5, transition_begin=5, staircase=True,
        end_value=0.15,
    ),
    row(
        "exponential_decay", around(40), lambda c: min(0.1 * 1.05 ** min(c, 1000), 0.5),
        init_value=0.1, transition_steps=1, decay_rate=1.05, end_value=0.5,
    ),
    # The bound holds from the start on, also while nothing decays yet.
    row(
        "exponential_decay", around(5), lambda c: max(0.8 * 0.5 ** (max(c - 5, 0) / 9), 0.9),
        init_value=0.8, transition_steps=9, decay_rate=0.5, transition_begin=5, end_value=0.9,
    ),
    row(
        "exponential_decay", [1, 5], lambda c: 0.8,
        init_value=0.8, transition_steps=0, decay_rate=0.5, end_value=0.9,
    ),
    row(
        "exponential_decay", [1, 5], lambda c: 0.8,
        init_value=0.8, transition_steps=4, decay_rate=0.0, end_value=0.9,
    ),
    row(
        "exponential_decay", around(4), lambda c: 0.5 ** (c / 4),
        init_value=1.0, transition_steps=4, decay_rate=0.5, transition_begin=-10,
    ),
    row(
        "ema_warmup", [1, *around(40)], lambda c: min(0.9, 1 - (1 + max(c - 5, 0) / 4) ** -0.8),
        decay=0.9, gamma=4.0, power=0.8, begin=5,
    ),
    row(
        "ema_warmup", [1, 9], lambda c: min(0.95, (1 + c) / (10 + c)),
        decay=0.95, gamma=9.0, power=1.0, begin=-1,
    ),
    row(
        "product_schedule", around(30, 60), lambda c: 0.5 * 0.4 * 0.1 ** (c // 30),
        factors=(0.5, ours.step_lr(0.4, step_size=30)),
    ),
    row(
        "sum_schedule", around(30, 60), lambda c: 0.4 * 0.1 ** (c // 30) + 0.25,
        terms=(ours.step_lr(0.4, step_size=30), 0.25),
    ),
    row(
        "step_lr", around(30, 60, 90), lambda c: 0.4 * 0.1 ** (c // 30),
        twin=lambda: optax.exponential_decay(0.4, 30, 0.1, staircase=True),
        init_value=0.4, step_size=30,
    ),
    row(
        "step_lr", around(7, 14), lambda c: 2.0 * 0.5 ** (c // 7),
        twin=lambda: optax.exponential_decay(2.0, 7, 0.5, staircase=True),
        init_value=2.0, step_size=7, gamma=0.5,
    ),
    row(
        "cosine_decay_schedule", [20, *around(40)], lambda c: 0.6 * wave(share(c, 0, 40)),
        init_value=0.6, decay_steps=40,
    ),
    row(
        "cosine_decay_schedule", [20, *around(41)],
        lambda c: 0.6 * between(1, 0.25, wave(share(c, 0, 41)) ** 1.5),
        init_value=0.6, decay_steps=41, alpha=0.25, exponent=1.5,
    ),
    row(
        "cosine_decay_schedule", around(40), lambda c: 0.6 * wave(share(c, 0, 40)) ** 0.5,
        init_value=0.6, decay_steps=40, exponent=0.5,
    ),
    row(
        "warmup_constant_schedule", around(10), lambda c: between(0.1, 0.7, 1 - share(c, 0, 10)),
        init_value=0.1, peak_value=0.7, warmup_steps=10,
    ),
    row(
        "warmup_constant_schedule", [1, 10], lambda c: 0.1, init_value=0.1, peak_value=0.7, warmup_steps=0
    ),
    row(
        "warmup_cosine_decay_schedule", [5, *around(10, 50)], lambda c: cycle(c, 10, 50, 0.9, 0.0),
        init_value=0.0, peak_value=0.9, warmup_steps=10, decay_steps=50,
    ),
    row(
        "warmup_cosine_decay_schedule", [5, *around(10, 50)], lambda c: cycle(c, 10, 50, 0.9, 0.03, 2.0),
        init_value=0.0, peak_value=0.9, warmup_steps=10, decay_steps=50, end_value=0.03, exponent=2.0,
    ),
    row(
        "warmup_cosine_decay_schedule", [1, *around(50)], lambda c: cycle(c, 0, 50, 0.9, 0.1),
        init_value=0.3, peak_value=0.9, warmup_steps=0, decay_steps=50, end_value=0.1,
    ),
    row(
        "warmup_cosine_decay_schedule", [5, *around(10, 50)], lambda c: 0.3 * (1 - share(c, 0, 10)),
        init_value=0.3, peak_value=0.0, warmup_steps=10, decay_steps=50, end_value=0.1,
    ),
    row(
        "warmup_exponential_decay_schedule", around(8, 10, 14, 18),
        lambda c: 0.1 + 0.4 * c / 8 if c < 8 else max(0.5 * 0.6 ** (max(c - 10, 0) // 4), 0.05),
        init_value=0.1, peak_value=0.5, warmup_steps=8, transition_steps=4, decay_rate=0.6,
        transition_begin=2, staircase=True, end_value=0.05,
    ),
    row(
        "warmup_exponential_decay_schedule", around(8, 18),
        lambda c: 0.5 * c / 8 if c < 8 else 0.5 * 0.9 ** ((c - 8) / 10),
        init_value=0.0, peak_value=0.5, warmup_steps=8, transition_steps=10, decay_rate=0.9,
    ),
    row("piecewise_constant_schedule", [1, 100], lambda c: 0.3, init_value=0.3),
    row(
        "piecewise_constant_schedule", around(10, 20, 30),
        lambda c: 0.4 * (0.5 if c >= 10 else 1) * (3.0 if c >= 20 else 1) * (0.0 if c >= 30 else 1),
        init_value=0.4, boundaries_and_scales={20: 3.0, 10: 0.5, 30: 0.0},
    ),
    row("piecewise_interpolate_schedule", [1, 100], lambda c: 0.3, interpolate_type="linear", init_value=0.3),
    row(
        "piecewise_interpolate_schedule", around(10, 20, 35),
        onecycle([(0, 0.4), (10, 0.2), (20, 0.6), (35, 0.06)], lambda done: 1 - done),
        interpolate_type="linear", init_value=0.4, boundaries_and_scales={20: 3.0, 10: 0.5, 35: 0.1},
    ),
    row(
        "piecewise_interpolate_schedule", around(10, 20),
        onecycle([(0, 0.4), (10, 0.2), (20, 0.0)], wave),
        interpolate_type="cosine", init_value=0.4, boundaries_and_scales={10: 0.5, 20: 0.0},
    ),
    row(
        "piecewise_interpolate_schedule", around(1, 9),
        onecycle([(0, 0.2), (9, 0.6)], wave),
        interpolate_type="cosine", init_value=0.4, boundaries_and_scales={0: 0.5, 9: 3.0},
    ),
    row(
        "linear_onecycle_schedule", around(30, 85, 100),
        onecycle([(0, 0.02), (30, 0.5), (85, 0.02), (100, 2e-6)], lambda done: 1 - done),
        transition_steps=100, peak_value=0.5,
    ),
    row(
        "linear_onecycle_schedule", around(4, 16, 19),
        onecycle([(0, 0.5), (4, 2.0), (16, 0.5), (19, 0.05)], lambda done: 1 - done),
        transition_steps=19, peak_value=2.0, pct_start=0.25, pct_final=0.87, div_factor=4.0,
        final_div_factor=10.0,
    ),
    row(
        "cosine_onecycle_schedule", around(30, 100),
        onecycle([(0, 0.02), (30, 0.5), (100, 2e-6)], wave),
        transition_steps=100, peak_value=0.5,
    ),
    row(
        "cosine_onecycle_schedule", around(1, 3),
        onecycle([(0, 2.0), (3, 0.05)], wave),
        transition_steps=3, peak_value=2.0, div_factor=4.0, final_div_factor=10.0,
    ),
    row("sgdr_schedule", [3, 5, 20, 45, *around(10, 30, 55)], restarts, cosine_kwargs=CYCLES),
    row("sgdr_schedule", around(3, 10), lambda c: cycle(c, 3, 10, 1.0, 0.1), cosine_kwargs=CYCLES[:1]),
    Row(
        "join_schedules",
        lambda library: dict(
            schedules=[
                library.linear_schedule(0.0, 1.0, 10),
                library.constant_schedule(1.0),
                library.cosine_decay_schedule(1.0, 20),
            ],
            boundaries=[10, 15],
        ),
        tuple(around(10, 15, 35)),
        lambda c: share(c, 0, 10) if c < 15 else wave(share(c, 15, 20)),
    ),
    Row(
        "join_schedules",
        lambda library: dict(schedules=(library.constant_schedule(0.7),), boundaries=()),
        (1, 5),
        lambda c: 0.7,
    ),
    Row(
        "join_schedules",
        lambda library: dict(schedules=[quarter, fading], boundaries=[6]),
        tuple(around(6, 9)),
        lambda c: 0.25 if c < 6 else 1 / math.sqrt(1.0 + c - 6),
        data=False,
    ),
]  # fmt: skip

each = pytest.mark.parametrize("row", ROWS, ids=[f"{i}-{row.name}" for i, row in enumerate(ROWS)])


OURS = {"step_lr", "ema_warmup", "product_schedule", "sum_schedule"}
"""Schedules that Optax has not."""


def test_every_schedule_has_a_row():
    factories = {name: x for name, x in vars(ours).items() if hasattr(x, "factory")}
    public = {name for name, x in factories.items() if not isinstance(x, type)}
    assert public == {row.name for row in ROWS}
    assert public == {name for name in vars(optax.schedules) if name in public} | OURS


def values(schedule: Any, counts: Any) -> np.ndarray:
    results = [np.asarray(schedule(count)) for count in counts]
    assert all(result.shape == () for result in results)
    return np.array(results, dtype=np.float64)


def assert_near(found: np.ndarray, expected: Any, bound: float) -> None:
    scale = np.max(np.abs(expected))
    assert scale > 0
    np.testing.assert_allclose(found / scale, np.asarray(expected) / scale, rtol=0, atol=bound)


# --- values -----------------------------------------------------------------------------------------


@each
def test_float64_values_are_those_of_the_formula(row, x64):
    counts = row.everywhere()
    schedule, expected = row.make(), [row.formula(count) for count in counts]
    assert_near(values(schedule, counts), expected, FLOAT64)
    # A state counts in int32 also in double precision.
    assert_near(values(schedule, [jnp.int32(count) for count in counts]), expected, FLOAT64)


@pytest.mark.parametrize("row", [row for row in ROWS if row.in_optax], ids=lambda row: row.name)
def test_float64_values_are_those_of_optax(row, x64):
    counts = row.everywhere()
    assert_near(values(row.make(), counts), values(row.make_optax(), counts), FLOAT64)


@each
def test_float32_values_are_near_the_formula(row):
    counts = row.everywhere()
    found = values(row.make(), [jnp.int32(count) for count in counts])
    assert_near(found, [row.formula(count) for count in counts], FLOAT32)


@each
def test_far_past_the_end_nothing_changes(row):
    schedule = row.make()
    for count in (FAR, 2**31 - 1):
        value = float(schedule(jnp.int32(count)))
        assert math.isfinite(value)
        assert value == pytest.approx(row.formula(count), rel=FLOAT32, abs=1e-30)


@pytest.mark.parametrize("steps", [40, 141, 218, 1000])
def test_linear_schedule_meets_both_ends_exactly(steps):
    # XLA divides by a constant by multiplying with its reciprocal, which may miss 1 by a rounding.
    schedule = jax.jit(ours.linear_schedule(0.0, 1.0, steps))
    assert schedule(0) == 0 and schedule(steps) == 1


@pytest.mark.parametrize("steps", [1, 2, 10, 37, 1000])
@pytest.mark.parametrize("name", ["linear_onecycle_schedule", "cosine_onecycle_schedule"])
def test_onecycle_of_any_length_begins_low_and_ends_lowest(name, steps):
    schedule = getattr(ours, name)(steps, 1.0)
    assert float(schedule(0)) in (pytest.approx(1 / 25), pytest.approx(1.0))
    assert float(schedule(steps)) == pytest.approx(1 / 25e4)


def test_onecycle_may_go_back_to_the_start_at_the_very_end():
    # pct_final=1 puts two boundaries at one count: the way there leads to the first value.
    schedule = ours.linear_onecycle_schedule(100, 1.0, pct_final=1.0)
    assert float(schedule(99)) == pytest.approx(1 / 25 + (1 - 1 / 25) / 70)
    assert float(schedule(100)) == pytest.approx(1 / 25e4)


@pytest.mark.parametrize("gamma", [0.1, 0.9, -0.5, 0.0])
def test_step_lr_is_that_of_torch(gamma, x64):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=gamma)
    theirs = []
    for _ in range(40):
        theirs.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    found = values(ours.step_lr(0.3, 7, gamma), range(40))
    np.testing.assert_allclose(found, theirs, rtol=1e-12)


# --- counts -----------------------------------------------------------------------------------------


@each
def test_any_number_counts(row):
    kinds = (int, np.int64, np.array, jnp.int32, jnp.uint8, jnp.uint32, jnp.float32)
    for count in row.counts[:2]:
        assert len({float(row.make()(kind(count))) for kind in kinds}) == 1


@each
def test_an_array_of_counts_gives_an_array_of_values(row):
    counts = jnp.array(row.everywhere())
    found = jnp.broadcast_to(jax.jit(row.make())(counts), counts.shape)
    assert_near(np.asarray(found), values(row.make(), counts), FLOAT32)


@pytest.mark.parametrize("count", [2**24, 2**24 + 1, 2**24 + 2, 2**24 + 3])
def test_counts_that_float32_cannot_tell_apart(count):
    """Integers are compared, subtracted and divided as integers."""
    begin, now = 2**24 + 1, jnp.int32(count)
    assert ours.linear_schedule(1.0, 0.0, 2, begin)(now) == 1 - share(count, begin, 2)
    assert ours.piecewise_constant_schedule(1.0, {begin: 0.5})(now) == (0.5 if count >= begin else 1)
    assert ours.join_schedules([lambda c: 0, lambda c: c], [begin])(now) == max(count - begin, 0)
    assert ours.step_lr(2.0, begin, 0.5)(now) == (1 if count >= begin else 2)
    assert ours.exponential_decay(2.0, begin, 0.5, staircase=True)(now) == (1 if count >= begin else 2)


@pytest.mark.parametrize("count", [FAR, jnp.int32(FAR), 2**40])
def test_step_counts_beyond_int32_pass(count):
    steps = 5 * 10**15
    assert ours.cosine_decay_schedule(1.0, steps)(count) == pytest.approx(1.0)
    assert ours.linear_schedule(1.0, 0.0, steps)(count) == pytest.approx(1.0, abs=1e-3)
    assert ours.linear_schedule(1.0, 0.0, 10, steps)(count) == 1
    assert ours.exponential_decay(1.0, steps, 0.5)(count) == pytest.approx(1.0, abs=1e-3)
    assert ours.step_lr(1.0, steps)(count) == 1
    assert ours.piecewise_constant_schedule(1.0, {steps: 0.5})(count) == 1


def test_infinitely_many_steps_never_end():
    for schedule in (
        ours.linear_schedule(1.0, 0.0, math.inf),
        ours.cosine_decay_schedule(1.0, math.inf),
        ours.exponential_decay(1.0, math.inf, 0.5),
        ours.step_lr(1.0, math.inf),
    ):
        assert schedule(FAR) == 1
        assert jax.jit(lambda schedule: schedule(FAR))(schedule) == 1


@each
def test_values_are_weakly_typed(row):
    """So an update in bfloat16 stays in it."""
    for value in (row.make()(3), jax.jit(row.make())(jnp.int32(3))):
        assert (jnp.bfloat16(1) * value).dtype == jnp.bfloat16


def test_values_of_integers_are_not_integers():
    for schedule in (
        ours.polynomial_schedule(4, 1, 2, 10),
        ours.exponential_decay(4, 10, 2, staircase=True),
        ours.step_lr(4, 10, 2),
        ours.piecewise_constant_schedule(4, {10: 2}),
        ours.piecewise_interpolate_schedule("linear", 4, {10: 2}),
    ):
        assert jnp.asarray(schedule(jnp.int32(5))).dtype == jnp.float32


# --- tracing ----------------------------------------------------------------------------------------


def call(schedule: Any, count: Any) -> Any:
    return schedule(count)


@each
def test_jit_is_eager(row):
    schedule, counts = row.make(), row.everywhere()
    assert_near(values(jax.jit(schedule), counts), values(schedule, counts), FLOAT32)


@each
def test_traced_numbers_are_static_numbers(row, x64):
    schedule, counts = row.make(), row.everywhere()
    assert_near(
        values(lambda count: jax.jit(call)(schedule, count), counts), values(schedule, counts), FLOAT64
    )


@each
def test_a_schedule_can_be_made_of_traced_numbers(row, x64):
    schedule, counts = row.make(), row.everywhere()
    remade = jax.jit(lambda schedule, count: schedule.replace()(count))
    assert_near(values(lambda count: remade(schedule, count), counts), values(schedule, counts), FLOAT64)


def other_numbers(schedule: Any, by: int = 1) -> Any:
    change = lambda x: x + by if isinstance(x, int) else x * 1.01**by  # noqa: E731
    return jax.tree.map(change, schedule)


@each
def test_another_number_compiles_nothing(row):
    jitted, schedule = jax.jit(lambda schedule, count: schedule(count)), row.make()
    before = [float(jitted(schedule, count)) for count in row.everywhere()]
    after = [float(jitted(other_numbers(schedule), count)) for count in row.everywhere()]
    assert jitted._cache_size() == 1
    assert (before == after) == (not jax.tree.leaves(schedule))


@each
def test_vmap_over_the_numbers_is_a_loop(row):
    variants = [other_numbers(row.make(), by) for by in range(3)]
    if not jax.tree.leaves(variants[0]):
        pytest.skip("no numbers to map over")
    stacked = jax.tree.map(lambda *numbers: jnp.array(numbers), *variants)
    batch = jax.vmap(lambda schedule: schedule.replace())(stacked)
    assert isinstance(batch, Schedule)
    mapped = jax.jit(jax.vmap(call, in_axes=(0, None)))
    found = np.array([mapped(batch, count) for count in row.counts])
    assert_near(found.T, [values(variant, row.counts) for variant in variants], 2 * FLOAT32)


def test_vmap_of_a_factory():
    warmups = jax.vmap(ours.linear_schedule)(jnp.zeros(2), jnp.array([1.0, 2.0]), jnp.array([10, 20]))
    np.testing.assert_array_equal(jax.vmap(call, in_axes=(0, None))(warmups, 10), [1.0, 1.0])


@each
def test_gradients_with_respect_to_the_numbers_are_finite(row):
    schedule = jax.tree.map(float, row.make())
    gradient = jax.jit(jax.grad(lambda schedule, count: 1.0 * schedule(count)))
    for count in (0, *row.counts):
        grads = gradient(schedule, count)
        assert all(math.isfinite(grad) for grad in jax.tree.leaves(grads)), (count, grads)


def test_gradient_of_the_first_value():
    schedule = jax.tree.map(float, ours.linear_schedule(1.0, 0.0, 10))
    gradient = jax.grad(call)(schedule, 4).arguments
    assert gradient["init_value"] == pytest.approx(0.6)
    assert gradient["transition_steps"] == pytest.approx(4 / 10**2)


# --- values of the library --------------------------------------------------------------------------


@each
def test_making_one_touches_no_device(row):
    """A program may make its schedules before it sets up its devices."""
    with jax.transfer_guard("disallow"):
        row.make()


@each
def test_equal_calls_are_equal_values(row):
    schedule = row.make()
    again = schedule.replace()
    assert isinstance(schedule, Schedule)
    assert schedule == again and hash(schedule) == hash(again)
    assert other_numbers(schedule) != schedule or not jax.tree.leaves(schedule)
    assert row.make() == schedule


@each
def test_it_can_be_written_down_and_read_back(row):
    schedule = row.make()
    assert eval(repr(schedule), {**vars(ours), "quarter": quarter, "fading": fading}) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    if row.data:
        assert from_config(json.loads(json.dumps(to_config(schedule)))) == schedule


def test_replace_changes_one_number():
    schedule = ours.step_lr(0.4, step_size=30)
    assert schedule.replace(gamma=0.5) == ours.step_lr(0.4, 30, 0.5)
    assert repr(schedule) == "step_lr(init_value=0.4, step_size=30, gamma=0.1)"


def test_signatures_are_those_of_optax():
    for name in {row.name for row in ROWS} - OURS:
        mine = getattr(ours, name).factory.signature.parameters.values()
        theirs = getattr(optax.schedules, name)
        expected = dict(zip(theirs.__code__.co_varnames, [None] * theirs.__code__.co_argcount, strict=False))
        assert [p.name for p in mine] == list(expected), name
        defaults = tuple(p.default for p in mine if p.default is not p.empty)
        assert defaults == (theirs.__defaults__ or ()), name


# --- mistakes ---------------------------------------------------------------------------------------

MISTAKES = [
    (
        lambda: ours.cosine_decay_schedule(1.0, 0),
        ValueError,
        "cosine_decay_schedule: decay_steps must lie in (0, inf], got 0",
    ),
    (
        lambda: ours.cosine_decay_schedule(1.0, np.int32(-5)),
        ValueError,
        "cosine_decay_schedule: decay_steps must lie in (0, inf], got -5",
    ),
    (
        lambda: ours.cosine_decay_schedule(1.0, 10, exponent=-1.0),
        ValueError,
        "cosine_decay_schedule: exponent must lie in [0, inf], got -1.0",
    ),
    (
        lambda: ours.polynomial_schedule(1.0, 0.0, -2, 10),
        ValueError,
        "polynomial_schedule: power must lie in [0, inf], got -2",
    ),
    (
        lambda: ours.linear_schedule(math.nan, 0.0, 10),
        ValueError,
        "linear_schedule: init_value must lie in [-inf, inf], got nan",
    ),
    (
        lambda: ours.exponential_decay(1.0, 10, -0.5),
        ValueError,
        "exponential_decay: decay_rate must lie in [0, inf], got -0.5",
    ),
    (
        lambda: jax.jit(lambda flag: ours.exponential_decay(1.0, 10, 0.5, staircase=flag)(0))(True),
        TypeError,
        "exponential_decay: staircase chooses structure and cannot be traced; pass a Python value",
    ),
    (
        lambda: ours.step_lr(0.1, step_size=0),
        ValueError,
        "step_lr: step_size must lie in (0, inf], got 0",
    ),
    (
        lambda: ours.warmup_constant_schedule(0.0, 1.0, -1),
        ValueError,
        "warmup_constant_schedule: warmup_steps must lie in [0, inf], got -1",
    ),
    (
        lambda: ours.warmup_cosine_decay_schedule(0.0, 1.0, 10, 10),
        ValueError,
        "warmup_cosine_decay_schedule: decay_steps, which includes the warm-up, must be above warmup_steps, "
        "got decay_steps=10, warmup_steps=10",
    ),
    (
        lambda: ours.warmup_exponential_decay_schedule(0.0, 1.0, 10, 10, -1),
        ValueError,
        "warmup_exponential_decay_schedule: decay_rate must lie in [0, inf], got -1",
    ),
    (
        lambda: ours.piecewise_constant_schedule(1.0, {10: 0.5, 20: -0.5}),
        ValueError,
        "piecewise_constant_schedule: the scale at 20 must lie in [0, inf], got -0.5",
    ),
    (
        lambda: ours.piecewise_interpolate_schedule("cubic", 1.0),
        ValueError,
        "piecewise_interpolate_schedule: interpolate_type must be one of 'linear', 'cosine', got 'cubic'",
    ),
    (
        lambda: ours.piecewise_interpolate_schedule("linear", 1.0, {10: math.nan}),
        ValueError,
        "piecewise_interpolate_schedule: the scale at 10 must lie in [0, inf], got nan",
    ),
    (
        lambda: ours.linear_onecycle_schedule(0, 1.0),
        ValueError,
        "linear_onecycle_schedule: transition_steps must lie in (0, inf], got 0",
    ),
    (
        lambda: ours.linear_onecycle_schedule(10, 1.0, pct_start=0.9),
        ValueError,
        "linear_onecycle_schedule: pct_final must be at least pct_start, got pct_final=0.85, pct_start=0.9",
    ),
    (
        lambda: ours.cosine_onecycle_schedule(-1, 1.0),
        ValueError,
        "cosine_onecycle_schedule: transition_steps must lie in (0, inf], got -1",
    ),
    (
        lambda: ours.cosine_onecycle_schedule(10, 1.0, pct_start=30),
        ValueError,
        "cosine_onecycle_schedule: pct_start must lie in [0, 1], got 30",
    ),
    (
        lambda: ours.sgdr_schedule([{**CYCLES[0], "decay_steps": 3}]),
        ValueError,
        "warmup_cosine_decay_schedule: decay_steps, which includes the warm-up, must be above warmup_steps, "
        "got decay_steps=3, warmup_steps=3",
    ),
    (
        lambda: ours.sgdr_schedule([]),
        TypeError,
        "sgdr_schedule: cosine_kwargs must be a list of dicts, one per cycle, got []",
    ),
    (
        lambda: ours.join_schedules([fading, fading], [1, 2]),
        ValueError,
        "join_schedules: 2 schedules, 2 boundaries; there must be one boundary between each two schedules",
    ),
    (
        lambda: ours.join_schedules([fading, fading, fading], [20, 10]),
        ValueError,
        "join_schedules: boundaries must not decrease, got [20, 10]",
    ),
    (
        lambda: ours.join_schedules([fading, 0.1], [1]),
        TypeError,
        "join_schedules: schedules[1] must be a function of the count, got 0.1",
    ),
    (
        lambda: ours.join_schedules([ours.step_lr], []),
        TypeError,
        "join_schedules: schedules[0] is the function step_lr, not a schedule; call it: step_lr(...)",
    ),
    (
        lambda: ours.join_schedules(ours.step_lr(0.1, 2), []),
        TypeError,
        "join_schedules: schedules must be a list or a tuple, "
        "got step_lr(init_value=0.1, step_size=2, gamma=0.1)",
    ),
    (
        lambda: ours.step_lr(0.1, 2, decay=0.5),
        TypeError,
        "step_lr: got an unexpected keyword argument 'decay'; "
        "its arguments are: init_value, step_size, gamma",
    ),
]


@pytest.mark.parametrize(("make", "kind", "message"), MISTAKES, ids=[message for _, _, message in MISTAKES])
def test_mistakes_are_named(make, kind, message):
    with pytest.raises(kind) as error:
        make()
    assert str(error.value) == message


def test_a_schedule_of_your_own_joins_in():
    @recorded
    def inverse(init_value, speed=1.0):
        return lambda count: init_value / (1 + speed * count)

    schedule = ours.join_schedules([ours.constant_schedule(0.5), inverse(0.5)], [4])
    assert [float(schedule(count)) for count in (3, 4, 5)] == [0.5, 0.5, 0.25]


# --- functions that take a number of Python ---------------------------------------------------------


def by_branches(count):
    return 0.5 if count < 2 else 0.25


def by_numpy(count):
    return np.where(np.asarray(count) < 2, 0.5, 0.25)


def by_position(count):
    return [0.5, 0.5, 0.25, 0.25, 0.25][count]


@recorded
def own_branches(high, low):
    return lambda count: high if count < 2 else low


def halved(count, scheduled=by_branches):
    return 0.5 * scheduled(count)


IN_PYTHON = {
    "branches": by_branches,
    "numpy": by_numpy,
    "position": by_position,
    "partial": functools.partial(halved, scheduled=lambda count: 2 * by_branches(count)),
    "own": own_branches(0.5, 0.25),
    "joined": ours.join_schedules([by_branches, ours.constant_schedule(0.25)], [3]),
    "within": ours.linear_schedule(by_branches, by_branches, 10),
}


@pytest.mark.parametrize("name", IN_PYTHON)
def test_functions_of_a_python_number_work_outside_jit_and_are_named_inside(name: str) -> None:
    schedule, params = IN_PYTHON[name], {"w": jnp.ones(1)}
    makers = {
        "leafwise": gradtx.scale_by_schedule,
        "with slots": gradtx.trace,
        "several": lambda s: gradtx.adam(s, b1=ours.constant_schedule(0.0), eps=0.0, b2=0.0),
        "treewise": gradtx.clip_by_global_norm,
        "injected": lambda s: gradtx.inject_hyperparams(gradtx.scale)(step_size=s),
    }
    few = name in ("position", "partial")  # the same for all makers
    for made, make in list(makers.items())[: 1 if few else None]:
        tx = make(schedule)
        state, last = tx.init(params), 0.0
        for count in range(4):
            updates, state = tx.update(params, state, params)
            rate = 0.5 if count < 2 else 0.25
            last = {"with slots": 1 + rate * last, "several": -rate}.get(made, rate)
            assert float(updates["w"][0]) == pytest.approx(last), (made, count)
        with pytest.raises(
            TypeError, match=r"the schedule .+ needs the count .* write jnp\.where\(count <"
        ) as e:
            jax.jit(tx.update)(params, state, params)
        named = getattr(
            schedule,
            "__name__",
            {"own": "own_branches(high=0.5, low=0.25)", "partial": "halved"}.get(name, "by_branches"),
        )
        assert f"the schedule {named} needs" in str(e.value)


def test_a_number_of_steps_may_be_a_function_of_a_python_number() -> None:
    tx, params = gradtx.MultiSteps(gradtx.sgd(1.0), lambda step: 1 if step < 1 else 2), {"w": jnp.ones(1)}
    state, seen = tx.init(params), []
    for _ in range(5):
        updates, state = tx.update(params, state, params)
        seen.append(float(updates["w"][0]))
    assert seen == [-1, 0, -1, 0, -1]
    with pytest.raises(TypeError, match="the schedule <lambda> needs the count as a number of Python"):
        jax.jit(tx.update)(params, state, params)


def test_schedules_multiply_and_add() -> None:
    """What arithmetic makes of schedules is one too: it prints, reads back and has a config."""
    one, two = gradtx.linear_schedule(1.0, 0.0, 10), gradtx.exponential_decay(1.0, 4, 0.5)
    makes: list[Callable[[Any, Any], Any]] = [
        lambda x, y: 0.5 * x,
        lambda x, y: x * y,
        lambda x, y: x + 0.1 + y,
        lambda x, y: 1 - x - y,
        lambda x, y: jnp.asarray(2.0) * x / 4 + -y,
    ]
    for make in makes:
        value = make(one, two)
        for count in (0, 3, 20):
            np.testing.assert_allclose(value(count), make(one(count), two(count)), rtol=1e-6, atol=1e-7)
        assert eval(repr(value), {**vars(gradtx), "jax": jax}) == value
        assert from_config(to_config(value)) == value
    assert (2 * one * 3).arguments["factors"] == [2, one, 3]
    with pytest.raises(TypeError, match="unsupported operand"):
        _ = one / two  # pyright: ignore[reportOperatorIssue]  # the error is what is tested
    with pytest.raises(TypeError, match=r"product_schedule: factors\[0\] is the function linear_schedule"):
        gradtx.product_schedule([gradtx.linear_schedule, one])

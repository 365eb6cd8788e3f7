"""The schedules of `gradtx.torch.optim.lr_scheduler` beside PyTorch's schedulers, freshly stepped."""

import inspect
import json
import math
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradtx.torch
import gradtx.torch.optim.lr_scheduler as ours
from gradtx.values.config import from_config, to_config
from gradtx.values.schedule import Schedule

FLOAT64 = 1e-12
"""Of the largest value: PyTorch multiplies the present rate a thousand times, and each rounds by 1e-16."""

FLOAT32 = 2e-6
"""Of the largest value: some ten roundings of 6e-8, and those of a logarithm times its exponent."""

STEPS = 1000
FAR = 2**31 - 1


class Row(NamedTuple):
    """A schedule, and the numbers that PyTorch has in force.

    theirs: makes the scheduler. what: which number of the group it is. steps: how many are compared.
    """

    schedule: Any
    theirs: Callable[[Any], Any]
    what: str = "lr"
    steps: int = STEPS

    @property
    def name(self) -> str:
        return self.schedule.factory.body.__name__


def row(name: str, scheduler: str, steps: int = STEPS, **kw: Any) -> Row:
    """A schedule and a scheduler with the same arguments."""
    lr = {} if name in ("cyclic_lr", "one_cycle_lr") else {"lr": 0.1}
    make = getattr({"SWALR": torch.optim.swa_utils}.get(scheduler, torch.optim.lr_scheduler), scheduler)
    return Row(getattr(ours, name)(**lr, **kw), lambda o: make(o, **kw), "lr", steps)


def momentum(name: str, scheduler: str, steps: int = STEPS, **kw: Any) -> Row:
    make = getattr(torch.optim.lr_scheduler, scheduler)
    peaks = {"max_lr": 0.1} if scheduler == "OneCycleLR" else {"base_lr": 0.01, "max_lr": 0.1}
    return Row(getattr(ours, name)(**kw), lambda o: make(o, **peaks, **kw), "momentum", steps)


def falling(count: Any) -> Any:
    return 1 / (1.0 + count)


def sequence(*parts: Any, milestones: list[int]) -> Row:
    T = torch.optim.lr_scheduler
    schedules, names = zip(*parts, strict=True)
    return Row(
        ours.sequential_lr(list(schedules), milestones),
        lambda o: T.SequentialLR(o, [getattr(T, name)(o, **kw) for name, kw in names], milestones),
    )


ROWS = [
    Row(ours.lambda_lr(0.1, falling), lambda o: torch.optim.lr_scheduler.LambdaLR(o, falling)),
    row("step_lr", "StepLR", step_size=7, gamma=0.9),
    row("step_lr", "StepLR", step_size=100),
    row("step_lr", "StepLR", step_size=300, gamma=-0.5),
    row("step_lr", "StepLR", step_size=30, gamma=0.0),
    row("multi_step_lr", "MultiStepLR", milestones=[3, 30, 300], gamma=0.3),
    row("multi_step_lr", "MultiStepLR", milestones=[7, 7, 2, 0]),
    row("multi_step_lr", "MultiStepLR", milestones=[]),
    row("constant_lr", "ConstantLR"),
    row("constant_lr", "ConstantLR", factor=0.7, total_iters=1),
    row("constant_lr", "ConstantLR", factor=0.7, total_iters=0),
    row("linear_lr", "LinearLR"),
    row("linear_lr", "LinearLR", start_factor=0.01, end_factor=0.9, total_iters=700),
    row("linear_lr", "LinearLR", start_factor=1.0, end_factor=0.0, total_iters=9),
    row("linear_lr", "LinearLR", start_factor=0.3, total_iters=0),
    row("exponential_lr", "ExponentialLR", gamma=0.999),
    row("exponential_lr", "ExponentialLR", gamma=0.1, steps=300),
    row("exponential_lr", "ExponentialLR", gamma=1.01),
    row("exponential_lr", "ExponentialLR", gamma=0.0),
    row("polynomial_lr", "PolynomialLR"),
    row("polynomial_lr", "PolynomialLR", total_iters=900, power=2.5),
    row("polynomial_lr", "PolynomialLR", total_iters=30, power=0.5),
    row("polynomial_lr", "PolynomialLR", total_iters=0),
    row("cosine_annealing_lr", "CosineAnnealingLR", T_max=10),
    row("cosine_annealing_lr", "CosineAnnealingLR", T_max=37, eta_min=0.001),
    row("cosine_annealing_lr", "CosineAnnealingLR", T_max=1),
    row("cosine_annealing_lr", "CosineAnnealingLR", T_max=1000),
    row("cosine_annealing_warm_restarts", "CosineAnnealingWarmRestarts", T_0=4),
    row("cosine_annealing_warm_restarts", "CosineAnnealingWarmRestarts", T_0=3, T_mult=2, eta_min=0.001),
    row("cosine_annealing_warm_restarts", "CosineAnnealingWarmRestarts", T_0=1, T_mult=3),
    row("cyclic_lr", "CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=5),
    row("cyclic_lr", "CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=7, step_size_down=3),
    row("cyclic_lr", "CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=4, mode="triangular2"),
    row("cyclic_lr", "CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=4, mode="exp_range", gamma=0.99),
    row("cyclic_lr", "CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=4, scale_fn=falling),
    row(
        "cyclic_lr", "CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=4, scale_fn=falling,
        scale_mode="iterations",
    ),
    momentum("cyclic_momentum", "CyclicLR", step_size_up=7, step_size_down=3, base_momentum=0.6),
    row("one_cycle_lr", "OneCycleLR", steps=11, max_lr=0.1, total_steps=10),
    row("one_cycle_lr", "OneCycleLR", steps=1001, max_lr=0.1, epochs=10, steps_per_epoch=100),
    row("one_cycle_lr", "OneCycleLR", steps=98, max_lr=0.1, total_steps=97, pct_start=0.23, three_phase=True),
    row(
        "one_cycle_lr", "OneCycleLR", steps=51, max_lr=0.1, total_steps=50, anneal_strategy="linear",
        pct_start=0.4, div_factor=10.0, final_div_factor=100.0,
    ),
    row("one_cycle_lr", "OneCycleLR", steps=51, max_lr=0.1, total_steps=50, pct_start=0.0),
    row("one_cycle_lr", "OneCycleLR", steps=50, max_lr=0.1, total_steps=50, pct_start=1.0),
    row("one_cycle_lr", "OneCycleLR", steps=2, max_lr=0.1, total_steps=1),
    momentum("one_cycle_momentum", "OneCycleLR", steps=61, total_steps=60, max_momentum=0.97),
    momentum("one_cycle_momentum", "OneCycleLR", steps=61, total_steps=60, three_phase=True),
    row("swa_lr", "SWALR", swa_lr=0.01),
    row("swa_lr", "SWALR", swa_lr=0.2, anneal_epochs=300),
    row("swa_lr", "SWALR", swa_lr=0.01, anneal_epochs=30, anneal_strategy="linear"),
    row("swa_lr", "SWALR", swa_lr=0.01, anneal_epochs=0),
    sequence(
        (ours.linear_lr(0.1, 0.1, total_iters=30), ("LinearLR", dict(start_factor=0.1, total_iters=30))),
        (ours.cosine_annealing_lr(0.1, 60), ("CosineAnnealingLR", dict(T_max=60))),
        milestones=[30],
    ),
    sequence(
        (ours.constant_lr(0.1, 0.5), ("ConstantLR", dict(factor=0.5))),
        (ours.step_lr(0.1, 3), ("StepLR", dict(step_size=3))),
        (ours.polynomial_lr(0.1, 50), ("PolynomialLR", dict(total_iters=50))),
        (ours.exponential_lr(0.1, 0.99), ("ExponentialLR", dict(gamma=0.99))),
        milestones=[4, 10, 10],
    ),
]  # fmt: skip

each = pytest.mark.parametrize("i", range(len(ROWS)), ids=[f"{i}-{row.name}" for i, row in enumerate(ROWS)])


@cache
def theirs(i: int) -> np.ndarray:
    row, seen = ROWS[i], []
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.5)
    scheduler = row.theirs(optimizer)
    for step in range(row.steps):
        seen.append(optimizer.param_groups[0][row.what])
        optimizer.step()
        if step < row.steps - 1:
            scheduler.step()
    return np.array(seen)


def counts(row: Row) -> Any:
    return jnp.arange(row.steps, dtype=jnp.int32)


def assert_near(found: Any, expected: Any, bound: float, scale: Any = None) -> None:
    scale = np.max(np.abs(expected)) if scale is None else scale
    np.testing.assert_allclose(np.asarray(found, np.float64) / scale, expected / scale, rtol=0, atol=bound)


def test_every_schedule_has_a_row():
    public = {name for name, x in vars(ours).items() if hasattr(x, "factory")}
    assert public == {row.name for row in ROWS}


# --- values -----------------------------------------------------------------------------------------


@each
def test_values_at_python_counts_are_those_of_torch(i):
    """In double precision, whatever JAX is set to."""
    row = ROWS[i]
    found = [row.schedule(count) for count in range(row.steps)]
    if row.name != "lambda_lr":
        assert {type(value) for value in found} <= {float, int}
    np.testing.assert_allclose(found, theirs(i), rtol=FLOAT64, atol=FLOAT64 * np.max(np.abs(theirs(i))))


@each
def test_traced_values_are_those_of_torch_in_float64(i, x64):
    """Of counts in int32, as states have them; of numbers that are constants, and of traced ones."""
    row = ROWS[i]
    both = jax.jit(jax.vmap(lambda traced, count: (row.schedule(count), traced(count)), in_axes=(None, 0)))
    for found in both(row.schedule, counts(row)):
        assert_near(found, theirs(i), FLOAT64)


@each
def test_traced_values_are_those_of_torch_in_float32(i):
    row = ROWS[i]
    found = jax.jit(jax.vmap(row.schedule))(counts(row))
    assert found.dtype == jnp.float32
    assert_near(found, theirs(i), FLOAT32)


@each
def test_a_sweep_over_the_numbers_is_a_loop_with_finite_gradients(i):
    schedule = jax.tree.map(float, ROWS[i].schedule)

    def other(by: int) -> Any:
        return jax.tree.map(lambda x: x + by if x > 1 else x * (1 - 0.01 * by), schedule)

    def value(schedule: Any, count: Any) -> Any:
        return 1.0 * schedule.replace()(count)

    variants = [other(by).replace() for by in range(3)]
    stacked = jax.tree.map(lambda *numbers: jnp.array(numbers), *variants)
    over_counts = jax.vmap(jax.value_and_grad(value), in_axes=(None, 0))
    found, grads = jax.jit(jax.vmap(over_counts, in_axes=(0, None)))(stacked, jnp.arange(12))
    expected = np.array([[float(variant(count)) for count in range(12)] for variant in variants])
    # The first rates may be small beside those of the whole curve, of which they are differences.
    assert_near(found, expected, 2 * FLOAT32, max(np.max(np.abs(x)) for x in (expected, theirs(i))))
    assert all(bool(jnp.all(jnp.isfinite(grad))) for grad in jax.tree.leaves(grads))


@each
def test_far_away_it_is_a_finite_number(i):
    value = float(jax.jit(ROWS[i].schedule)(jnp.int32(FAR)))
    assert math.isfinite(value) or ROWS[i].schedule.arguments.get("gamma", 0) > 1


@each
def test_values_are_weakly_typed(i):
    """So an update in bfloat16 stays in it."""
    schedule = ROWS[i].schedule
    for value in (schedule(3), schedule(jnp.int32(3)), jax.jit(schedule)(jnp.int32(3))):
        assert (jnp.bfloat16(1) * value).dtype == jnp.bfloat16


@pytest.mark.parametrize("count", [2**24, 2**24 + 1, 2**24 + 2, 2**24 + 3])
def test_counts_that_float32_cannot_tell_apart(count):
    turn, now = 2**24 + 1, jnp.int32(count)
    late = count >= turn
    assert ours.step_lr(2.0, turn, 0.5)(now) == (1 if late else 2)
    assert ours.multi_step_lr(2.0, [turn], 0.5)(now) == (1 if late else 2)
    assert ours.constant_lr(2.0, 0.5, turn)(now) == (2 if late else 1)
    assert ours.cosine_annealing_warm_restarts(2.0, turn)(now) == pytest.approx(2.0 if late else 0.0)
    assert ours.cyclic_lr(0.0, 2.0, turn)(now) == pytest.approx(2 * (1 - abs(turn - count) / turn))
    # Two steps per half wave: high, middle, low, middle.
    assert ours.cosine_annealing_lr(2.0, 2)(now) == pytest.approx([2, 1, 0, 1][count % 4], abs=1e-6)


def test_a_small_decay_keeps_its_digits_in_float32():
    found = ours.exponential_lr(1.0, 0.999)(jnp.int32(5000))
    assert float(found) == pytest.approx(0.999**5000, rel=1e-6)


def test_after_the_cycle_it_stays_at_the_lowest_rate():
    """Where PyTorch raises. One step too far it has PyTorch's number, past the end of the curve."""
    schedule = ours.one_cycle_lr(0.1, 10)
    assert schedule(10) == pytest.approx(0.00495, abs=1e-5)
    for count in (11, 12, jnp.int32(10**6)):
        assert float(schedule(count)) == pytest.approx(0.1 / 25e4)


def test_a_phase_of_no_steps_is_passed_over():
    """PyTorch divides by zero."""
    schedule = ours.one_cycle_lr(0.1, 10, pct_start=0.1, anneal_strategy="linear")
    expected = [0.004, *(0.1 - (0.1 - 4e-7) * count / 9 for count in range(1, 10))]
    assert [schedule(count) for count in range(10)] == pytest.approx(expected)
    assert np.asarray(jax.vmap(schedule)(jnp.arange(10))) == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_sequences_nest():
    inner = ours.sequential_lr([ours.linear_lr(0.1, 0.5, total_iters=2), ours.step_lr(0.1, 1, 0.5)], [2])
    nested = ours.sequential_lr([ours.constant_lr(0.1, 0.1, 9), inner], [3])
    expected = [0.01, 0.01, 0.01, 0.05, 0.075, 0.1, 0.05, 0.025]
    assert [nested(count) for count in range(8)] == pytest.approx(expected)
    assert np.asarray(jax.jit(jax.vmap(nested))(jnp.arange(8))) == pytest.approx(expected, rel=1e-6)


def test_the_rate_of_a_function_and_of_an_object_is_the_same(x64):
    """`sgd` of a schedule, and `SGD` with a scheduler."""
    optim = gradtx.torch.optim
    gradients = [np.sin(np.arange(6.0).reshape(2, 3) + i) for i in range(20)]
    tx = optim.sgd(lr=ours.one_cycle_lr(0.1, 20), momentum=ours.one_cycle_momentum(20))
    param = jnp.ones((2, 3))
    state = tx.init(param)
    optimizer = optim.SGD([jnp.ones((2, 3))], lr=0.5, momentum=0.1)
    scheduler = ours.OneCycleLR(optimizer, 0.1, 20)
    reference = torch.nn.Parameter(torch.ones(2, 3, dtype=torch.float64))
    their_optimizer = torch.optim.SGD([reference], lr=0.5, momentum=0.1)
    their_scheduler = torch.optim.lr_scheduler.OneCycleLR(their_optimizer, 0.1, 20)
    for grad in gradients:
        update, state = tx.update(jnp.asarray(grad), state, param)
        param = param + update
        (moved,) = optimizer.step([jnp.asarray(grad)])
        scheduler.step()
        reference.grad = torch.tensor(grad)
        their_optimizer.step()
        their_scheduler.step()
    for found in (param, moved):
        np.testing.assert_allclose(found, reference.detach().numpy(), rtol=FLOAT64)


# --- values of the library --------------------------------------------------------------------------


@each
def test_it_can_be_written_down_and_read_back(i):
    schedule = ROWS[i].schedule
    assert repr(schedule).startswith(f"torch.optim.lr_scheduler.{ROWS[i].name}(")
    assert eval(repr(schedule), {"torch": gradtx.torch, "falling": falling}) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    if "falling" not in repr(schedule):  # a plain function has no form as data
        assert from_config(json.loads(json.dumps(to_config(schedule)))) == schedule


def test_replace_changes_one_number():
    schedule = ours.step_lr(0.4, step_size=30)
    assert isinstance(schedule, Schedule)
    assert repr(schedule.replace(gamma=0.5)) == (
        "torch.optim.lr_scheduler.step_lr(lr=0.4, step_size=30, gamma=0.5)"
    )


OBJECTS = {
    "lambda_lr": "LambdaLR",
    "step_lr": "StepLR",
    "multi_step_lr": "MultiStepLR",
    "constant_lr": "ConstantLR",
    "linear_lr": "LinearLR",
    "exponential_lr": "ExponentialLR",
    "polynomial_lr": "PolynomialLR",
    "cosine_annealing_lr": "CosineAnnealingLR",
    "cosine_annealing_warm_restarts": "CosineAnnealingWarmRestarts",
    "cyclic_lr": "CyclicLR",
    "cyclic_momentum": "CyclicLR",
    "one_cycle_lr": "OneCycleLR",
    "one_cycle_momentum": "OneCycleLR",
    "sequential_lr": "SequentialLR",
}


@pytest.mark.parametrize("name", OBJECTS)
def test_signatures_are_those_of_torch(name):
    mine = dict(getattr(ours, name).factory.signature.parameters)
    theirs = inspect.signature(getattr(torch.optim.lr_scheduler, OBJECTS[name])).parameters
    mine.pop("lr", None)
    assert [p for p in theirs if p in mine] == list(mine)
    assert [theirs[p].default for p in mine] == [p.default for p in mine.values()]


# --- mistakes ---------------------------------------------------------------------------------------

MISTAKES = [
    (lambda: ours.step_lr(0.1, 0), "torch.optim.lr_scheduler.step_lr: step_size must lie in (0, inf], got 0"),
    (lambda: ours.constant_lr(0.1, 1.5), "Constant multiplicative factor expected to be between 0 and 1."),
    (
        lambda: ours.linear_lr(0.1, 0.0),
        "Starting multiplicative factor expected to be greater than 0 and less or equal to 1.",
    ),
    (
        lambda: ours.linear_lr(0.1, end_factor=2),
        "Ending multiplicative factor expected to be between 0 and 1.",
    ),
    (
        lambda: ours.polynomial_lr(0.1, power=-1),
        "torch.optim.lr_scheduler.polynomial_lr: power must lie in [0, inf], got -1",
    ),
    (
        lambda: ours.cosine_annealing_lr(0.1, math.inf),
        "torch.optim.lr_scheduler.cosine_annealing_lr: T_max must lie in (0, inf), got inf",
    ),
    (lambda: ours.cosine_annealing_warm_restarts(0.1, 0), "Expected positive integer T_0, but got 0"),
    (lambda: ours.cosine_annealing_warm_restarts(0.1, 2, 0.5), "Expected integer T_mult >= 1, but got 0.5"),
    (
        lambda: ours.cyclic_lr(0.1, 0.2, mode="square"),
        "mode is invalid and scale_fn is None: "
        "mode must be one of 'triangular', 'triangular2', 'exp_range', got 'square'",
    ),
    (lambda: ours.one_cycle_lr(0.1), "You must define either total_steps OR (epochs AND steps_per_epoch)"),
    (lambda: ours.one_cycle_lr(0.1, 0), "Expected positive integer total_steps, but got 0"),
    (lambda: ours.one_cycle_lr(0.1, 9, pct_start=1), "Expected float between 0 and 1 pct_start, but got 1"),
    (
        lambda: ours.one_cycle_momentum(9, anneal_strategy="exp"),
        "anneal_strategy must be one of 'cos' or 'linear', instead got exp",
    ),
    (
        lambda: ours.swa_lr(0.1, 0.2, anneal_strategy="exp"),
        "anneal_strategy must be one of 'cos' or 'linear', instead got exp",
    ),
    (lambda: ours.swa_lr(0.1, 0.2, -1), "anneal_epochs must be equal or greater than 0, got -1"),
    (
        lambda: ours.sequential_lr([], []),
        "sequential_lr expects at least one scheduler, but got no scheduler.",
    ),
    (
        lambda: ours.sequential_lr([ours.linear_lr(0.1)], [3]),
        "Sequential Schedulers expects number of schedulers provided to be one more than the number of "
        "milestone points, but got number of schedulers 1 and the number of milestones to be equal to 1",
    ),
]


@pytest.mark.parametrize(("make", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


def test_what_is_no_function_is_named():
    with pytest.raises(TypeError, match="^lr_lambda should be a function, but got float$"):
        ours.lambda_lr(0.1, 0.5)
    with pytest.raises(TypeError, match=r"schedules\[1\] must be a function of the count, got 0.1"):
        ours.sequential_lr([ours.linear_lr(0.1), 0.1], [3])

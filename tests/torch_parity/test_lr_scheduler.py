"""Schedulers beside PyTorch's: the same operations on Python floats, so mostly the same bits."""

import inspect
import io
import math
import warnings
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradtx
import gradtx.torch.optim.lr_scheduler as ours
from gradtx.torch.optim._optimizer import Optimizer
from gradtx.torch.optim._swa_lr import SWALR

CLOSE = 1e-12
"""Relative; some thousand roundings. What is equal to the bit is compared by ``==``."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": dict(lr=1e-3, momentum=0.9),
    "adam": dict(lr=1e-3, betas=(0.9, 0.999)),
    "adagrad": dict(lr=1e-3),
}


class Bare(Optimizer):
    """An optimizer of nothing, which has made a step: what schedulers look at, and no more."""

    def __init__(self, groups: list[dict[str, Any]], defaults: dict[str, Any]):
        self.defaults = defaults
        self.param_groups = [{"params": [], **defaults, **group} for group in groups]
        self._step_count = 1

    def step(self, grads: Any = None) -> Any:
        self._step_count += 1


def our_optimizer(kind: str, lrs: Any) -> Any:
    return Bare([{"lr": lr} for lr in lrs], DEFAULTS[kind])


def their_optimizer(kind: str, lrs: Any) -> Any:
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}[kind]
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]
    optimizer = make(groups, **DEFAULTS[kind])
    optimizer._opt_called = True  # it has made a step, as ours has
    return optimizer


OURS = SimpleNamespace(**vars(ours), SWALR=SWALR, optimizer=our_optimizer)
TORCH = SimpleNamespace(
    **vars(torch.optim.lr_scheduler), SWALR=torch.optim.swa_utils.SWALR, optimizer=their_optimizer
)
"""The names of one library, and how to make an optimizer of it."""


def numbers(optimizer: Any) -> list[dict[str, Any]]:
    """What schedulers read and write in the groups."""
    names = ("lr", "initial_lr", "momentum", "betas", "max_momentum", "base_momentum", "max_lr", "min_lr")
    names = (*names, "swa_lr")
    return [{name: group[name] for name in names if name in group} for group in optimizer.param_groups]


class Case(NamedTuple):
    """A scheduler under test: how to make it with one library's names, and for what optimizer."""

    name: str
    make: Callable[..., Any]
    kind: str = "sgd"
    lrs: tuple[float, ...] = (0.1,)
    steps: int = 1000

    def start(self, library: Any, **resumed: Any) -> tuple[Any, Any]:
        optimizer = library.optimizer(self.kind, self.lrs)
        return optimizer, self.make(library, optimizer, **resumed)


def case(name: str, kind: str = "sgd", lrs: tuple[float, ...] = (0.1,), steps: int = 1000, **kw: Any) -> Case:
    return Case(name, lambda L, o, **resumed: getattr(L, name)(o, **kw, **resumed), kind, lrs, steps)


class Fading:
    """A function of the epoch that remembers: its attributes are saved."""

    def __init__(self, rate: float):
        self.rate = rate
        self.calls = 0

    def __call__(self, epoch: float) -> float:
        self.calls += 1
        return 1 / (1 + self.rate * epoch) + 1e-3 * math.sin(self.calls)


class Scaling:
    """A function with a number that may be changed."""

    def __init__(self, rate: float):
        self.rate = rate

    def __call__(self, cycle: float) -> float:
        return self.rate / (1 + cycle)


def inverse(epoch: float) -> float:
    return 1 / (1 + epoch)


TWO = (0.1, 0.03)

LEAVES = [
    case("LambdaLR", lr_lambda=lambda epoch: 0.95**epoch),
    case("LambdaLR", lrs=TWO, lr_lambda=[inverse, lambda epoch: 0.0 if epoch > 3 else 2]),
    Case("LambdaLR", lambda L, o, **k: L.LambdaLR(o, Fading(0.1), **k)),
    case("MultiplicativeLR", lr_lambda=lambda epoch: 0.99),
    case("MultiplicativeLR", lrs=TWO, lr_lambda=[lambda epoch: 1 - (epoch + 1) ** -2, lambda epoch: 1.001]),
    Case("MultiplicativeLR", lambda L, o, **k: L.MultiplicativeLR(o, Fading(1e-3), **k)),
    case("StepLR", step_size=7),
    case("StepLR", lrs=TWO, step_size=1, gamma=0.99),
    case("StepLR", step_size=100, gamma=-0.5),
    case("StepLR", step_size=3, gamma=0.0),
    case("MultiStepLR", milestones=[3, 30, 300], gamma=0.3),
    case("MultiStepLR", lrs=TWO, milestones=[7, 7, 2, 0], gamma=0.5),
    case("MultiStepLR", milestones=[]),
    case("ConstantLR"),
    case("ConstantLR", factor=0.7, total_iters=1),
    case("ConstantLR", factor=0.7, total_iters=0),
    case("ConstantLR", factor=1.0, total_iters=20),
    case("LinearLR"),
    case("LinearLR", lrs=TWO, start_factor=0.01, end_factor=0.9, total_iters=700),
    case("LinearLR", start_factor=1.0, end_factor=0.0, total_iters=9),
    case("LinearLR", start_factor=0.3, total_iters=0),
    case("LinearLR", start_factor=0.3, total_iters=1),
    case("ExponentialLR", gamma=0.99),
    case("ExponentialLR", lrs=TWO, gamma=0.0),
    case("ExponentialLR", gamma=1.01),
    case("PolynomialLR"),
    case("PolynomialLR", lrs=TWO, total_iters=900, power=2.5),
    case("PolynomialLR", total_iters=30, power=0.5),
    case("PolynomialLR", total_iters=30, power=0.0),
    case("PolynomialLR", total_iters=0),
    case("CosineAnnealingLR", T_max=10),
    case("CosineAnnealingLR", lrs=TWO, T_max=37, eta_min=0.001),
    case("CosineAnnealingLR", T_max=1, eta_min=0.01),
    case("CosineAnnealingLR", T_max=2),
    case("CosineAnnealingLR", T_max=1000),
    case("CosineAnnealingWarmRestarts", T_0=4),
    case("CosineAnnealingWarmRestarts", lrs=TWO, T_0=3, T_mult=2, eta_min=0.001),
    case("CosineAnnealingWarmRestarts", T_0=1, T_mult=3),
    case("CosineAnnealingWarmRestarts", T_0=1),
    case("CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=5),
    case("CyclicLR", "adam", base_lr=0.01, max_lr=0.1, step_size_up=7, step_size_down=3),
    case("CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=4, mode="triangular2"),
    case("CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=4, mode="exp_range", gamma=0.99),
    case("CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=1, step_size_down=2, scale_fn=inverse),
    case("CyclicLR", base_lr=0.0, max_lr=1, step_size_up=300, scale_fn=inverse, scale_mode="iterations"),
    Case("CyclicLR", lambda L, o, **k: L.CyclicLR(o, 0.01, 0.1, 4, scale_fn=Scaling(0.5), **k)),
    case(
        "CyclicLR", "adam", TWO, base_lr=[0.01, 0.02], max_lr=[0.1, 0.2], step_size_up=5,
        base_momentum=[0.7, 0.6], max_momentum=[0.9, 0.95],
    ),
    case("CyclicLR", "adagrad", base_lr=0.01, max_lr=0.1, step_size_up=5, cycle_momentum=False),
    case("OneCycleLR", steps=10, max_lr=0.1, total_steps=10),
    case("OneCycleLR", "adam", steps=1000, max_lr=0.1, epochs=10, steps_per_epoch=100),
    case("OneCycleLR", steps=997, max_lr=0.1, total_steps=997, pct_start=0.123, three_phase=True),
    case("OneCycleLR", steps=50, max_lr=0.1, total_steps=50, anneal_strategy="linear", three_phase=True),
    case("OneCycleLR", steps=50, max_lr=0.1, total_steps=50, anneal_strategy="linear", pct_start=0.0),
    case("OneCycleLR", steps=1, max_lr=0.1, total_steps=1),
    case("OneCycleLR", steps=9, max_lr=0.1, total_steps=10, pct_start=1.0),
    case(
        "OneCycleLR", "adam", TWO, 60, max_lr=[0.1, 0.2], total_steps=60, base_momentum=[0.7, 0.6],
        max_momentum=[0.9, 0.95], div_factor=10.0, final_div_factor=1e3,
    ),
    case("OneCycleLR", "adagrad", steps=20, max_lr=0.1, total_steps=20, cycle_momentum=False),
    case("SWALR", swa_lr=0.01),
    case("SWALR", lrs=TWO, swa_lr=[0.01, 0.2], anneal_epochs=300),
    case("SWALR", swa_lr=0.01, anneal_epochs=30, anneal_strategy="linear"),
    case("SWALR", swa_lr=0.01, anneal_epochs=0),
    case("SWALR", swa_lr=0.01, anneal_epochs=1),
]  # fmt: skip


def warmup_then(last: Callable[[Any, Any], Any], milestones: Any = (3,)) -> Callable[..., Any]:
    def make(L: Any, o: Any, **resumed: Any) -> Any:
        return L.SequentialLR(o, [L.LinearLR(o, 0.1, total_iters=3), last(L, o)], list(milestones), **resumed)

    return make


def chained(L: Any, o: Any) -> Any:
    return L.ChainedScheduler([L.ConstantLR(o, 0.1, 2), L.ExponentialLR(o, 0.9), L.StepLR(o, 5, 0.7)])


COMPOSED = [
    Case("linear, cosine", warmup_then(lambda L, o: L.CosineAnnealingLR(o, 6))),
    Case("linear, exponential", warmup_then(lambda L, o: L.ExponentialLR(o, 0.99), [10]), lrs=TWO),
    Case("linear, lambda", warmup_then(lambda L, o: L.LambdaLR(o, inverse))),
    Case("linear, multiplicative", warmup_then(lambda L, o: L.MultiplicativeLR(o, inverse), [2])),
    Case("linear, restarts", warmup_then(lambda L, o: L.CosineAnnealingWarmRestarts(o, 4, 2))),
    Case("linear, polynomial", warmup_then(lambda L, o: L.PolynomialLR(o, 30, 2.0))),
    Case("linear, cyclic", warmup_then(lambda L, o: L.CyclicLR(o, 0.01, 0.1, 5))),
    Case("linear, one cycle", warmup_then(lambda L, o: L.OneCycleLR(o, 0.2, 40)), steps=40),
    Case("linear, swa", warmup_then(lambda L, o: L.SWALR(o, 0.02, 5))),
    Case("immediately the second", warmup_then(lambda L, o: L.StepLR(o, 5), [0])),
    Case(
        "three, one for no steps",
        lambda L, o, **k: L.SequentialLR(
            o, [L.ConstantLR(o, 0.5), L.StepLR(o, 1), L.MultiStepLR(o, [0, 4], 0.5)], [4, 4], **k
        ),
    ),
    Case("only one", lambda L, o, **k: L.SequentialLR(o, [L.LinearLR(o)], [], **k)),
    Case("chained", chained, lrs=TWO),
    Case("chained of sequential", lambda L, o: L.ChainedScheduler(
        [warmup_then(lambda L, o: L.CosineAnnealingLR(o, 50))(L, o), L.StepLR(o, 20, 0.5)]
    )),
    Case("sequential of sequential", lambda L, o, **k: L.SequentialLR(
        o, [warmup_then(lambda L, o: L.ExponentialLR(o, 0.9))(L, o), L.StepLR(o, 20, 0.5)], [10], **k
    )),
    Case("sequential of chained", lambda L, o, **k: L.SequentialLR(
        o, [chained(L, o), L.StepLR(o, 20, 0.5)], [10], **k
    )),
]  # fmt: skip

CASES = LEAVES + COMPOSED


def ids(cases: list[Case]) -> list[str]:
    return [f"{i}-{case.name}" for i, case in enumerate(cases)]


each = pytest.mark.parametrize("case", CASES, ids=ids(CASES))
each_leaf = pytest.mark.parametrize("case", LEAVES, ids=ids(LEAVES))


def assert_same(mine: tuple[Any, Any], theirs: tuple[Any, Any]) -> None:
    assert numbers(mine[0]) == numbers(theirs[0])
    assert mine[1].get_last_lr() == theirs[1].get_last_lr()
    assert getattr(mine[1], "last_epoch", None) == getattr(theirs[1], "last_epoch", None)


def go(case: Case, mine: Any, theirs: Any, steps: int) -> None:
    for _ in range(steps):
        mine[1].step()
        theirs[1].step()
        assert_same(mine, theirs)


# --- the sequence -----------------------------------------------------------------------------------


def test_every_scheduler_has_a_case():
    public = {
        name for name, x in vars(ours).items() if inspect.isclass(x) and issubclass(x, ours.LRScheduler)
    }
    assert public == set(torch.optim.lr_scheduler.__all__)
    tested = {case.name for case in LEAVES}
    assert public - tested == {"LRScheduler", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau"}


@pytest.mark.parametrize("name", [*torch.optim.lr_scheduler.__all__, "SWALR"])
def test_signatures_are_those_of_torch(name):
    mine, theirs = (inspect.signature(getattr(library, name)).parameters for library in (OURS, TORCH))
    assert list(mine) == list(theirs)
    assert [p.default for p in mine.values()] == [p.default for p in theirs.values()]


@each
def test_the_sequence_is_that_of_torch(case):
    """To the bit, over 1000 steps or all that there are: rates, momenta, and all that groups are told."""
    mine, theirs = case.start(OURS), case.start(TORCH)
    assert_same(mine, theirs)
    go(case, mine, theirs, case.steps)
    assert all(type(group["lr"]) in (float, int) for group in mine[0].param_groups)


@each
def test_edits_by_hand_are_kept_as_torch_keeps_them(case):
    mine, theirs = case.start(OURS), case.start(TORCH)
    for step in range(min(case.steps, 60)):
        if step in (2, 13, 40):
            for optimizer in (mine[0], theirs[0]):
                for i, group in enumerate(optimizer.param_groups):
                    group["lr"] = 0.77 * group["lr"] + 0.001 * i
                    group["momentum"] = 0.5
        go(case, mine, theirs, 1)


MEASURED = {
    "linear, cosine": (
        warmup_then(lambda L, o: L.CosineAnnealingLR(o, 6)),
        [0.01, 0.04, 0.07, 0.1, 0.0933, 0.075, 0.05],
    ),
    "linear, exponential": (
        warmup_then(lambda L, o: L.ExponentialLR(o, 0.9)),
        [0.01, 0.04, 0.07, 0.1, 0.09, 0.081],
    ),
    "linear, lambda": (
        warmup_then(lambda L, o: L.LambdaLR(o, inverse)),
        [0.01, 0.04, 0.07, 0.1, 0.05, 0.0333],
    ),
    "linear, restarts": (
        warmup_then(lambda L, o: L.CosineAnnealingWarmRestarts(o, 4)),
        [0.01, 0.04, 0.07, 0.1, 0.0854, 0.05, 0.0146, 0.1],
    ),
    "constant, multiplicative": (
        lambda L, o: L.SequentialLR(
            o, [L.ConstantLR(o, 0.5, 10), L.MultiplicativeLR(o, lambda epoch: 0.5)], [2]
        ),
        [0.05, 0.05, 0.025, 0.0125],
    ),
    "swa": (lambda L, o: L.SWALR(o, 0.01, 4, "linear"), [0.1, 0.0775, 0.055, 0.0325, 0.01]),
    "one cycle": (
        lambda L, o: L.OneCycleLR(o, 0.1, 10),
        [0.004, 0.052, 0.1, 0.09505, 0.08117, 0.06113, 0.03887, 0.01883, 0.00495, 0.0, 0.00495],
    ),
}
"""Rates that PyTorch 2.13 was seen to set, from 0.1, rounded."""


@pytest.mark.parametrize(("make", "expected"), MEASURED.values(), ids=MEASURED)
def test_the_sequence_is_the_one_measured(make, expected):
    optimizer = our_optimizer("sgd", [0.1])
    scheduler = make(OURS, optimizer)
    seen = [optimizer.param_groups[0]["lr"]]
    for _ in expected[1:]:
        scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx(expected, abs=5.1e-5)


@pytest.mark.parametrize("name", ["SequentialLR", "ChainedScheduler"])
def test_a_composition_after_a_milestone_breaks_as_in_torch(name):
    for library in (OURS, TORCH):
        optimizer, _ = CASES[0].start(library)
        parts = [library.StepLR(optimizer, 3)]
        inner = getattr(library, name)(*([optimizer, parts, []] if name == "SequentialLR" else [parts]))
        scheduler = library.SequentialLR(optimizer, [library.ConstantLR(optimizer), inner], [1])
        with pytest.raises(NotImplementedError):
            scheduler.step()


class Counting:
    """A function that remembers at what it was called, and answers by how often."""

    def __init__(self) -> None:
        self.at: list[Any] = []

    def __call__(self, x: Any) -> float:
        self.at.append(x)
        return 1 / len(self.at)


CALLED = {
    "LambdaLR": lambda L, o, f: L.LambdaLR(o, f),
    "LambdaLR, two": lambda L, o, f: L.LambdaLR(o, [f, inverse]),
    "MultiplicativeLR": lambda L, o, f: L.MultiplicativeLR(o, f),
    "CyclicLR": lambda L, o, f: L.CyclicLR(o, 0.01, 0.1, 2, scale_fn=f),
    "CyclicLR, iterations": lambda L, o, f: L.CyclicLR(o, 0.01, 0.1, 2, scale_fn=f, scale_mode="iterations"),
    "CyclicLR, rate alone": lambda L, o, f: L.CyclicLR(o, 0.01, 0.1, 2, scale_fn=f, cycle_momentum=False),
    "SequentialLR": lambda L, o, f: L.SequentialLR(o, [L.LambdaLR(o, f), L.CyclicLR(o, 0.01, 0.1, 2)], [3]),
    "ChainedScheduler": lambda L, o, f: L.ChainedScheduler([L.LambdaLR(o, f), L.MultiplicativeLR(o, f)]),
}


@pytest.mark.parametrize("make", CALLED.values(), ids=CALLED)
def test_functions_are_called_as_often_as_by_torch(make: Any) -> None:
    calls, rates = [], []
    for library in (OURS, TORCH):
        function, optimizer = Counting(), library.optimizer("sgd", TWO)
        scheduler = make(library, optimizer, function)
        for _ in range(6):
            scheduler.step()
            rates.append(numbers(optimizer))
        calls.append(function.at)
    assert calls[0] == calls[1]
    assert rates[:6] == rates[6:]


# --- random compositions ----------------------------------------------------------------------------

small = st.integers(0, 6)
share = st.floats(0.05, 1.0)
leaf = st.one_of(
    st.builds(lambda *a: ("StepLR", a), st.integers(1, 6), share),
    st.builds(lambda *a: ("MultiStepLR", a), st.lists(small, max_size=4), share),
    st.builds(lambda *a: ("ConstantLR", a), share, small),
    st.builds(lambda *a: ("LinearLR", a), share, st.one_of(st.just(0.0), share), small),
    st.builds(lambda *a: ("ExponentialLR", a), share),
    st.builds(lambda *a: ("PolynomialLR", a), small, st.sampled_from([0.5, 1.0, 2.0])),
    st.builds(lambda *a: ("CosineAnnealingLR", a), st.integers(1, 6), st.sampled_from([0.0, 0.01])),
    st.builds(lambda *a: ("CosineAnnealingWarmRestarts", a), st.integers(1, 4), st.integers(1, 3)),
    st.builds(lambda *a: ("CyclicLR", a), share, share, st.integers(1, 4)),
    st.builds(lambda *a: ("SWALR", a), share, small, st.sampled_from(["cos", "linear"])),
    st.just(("LambdaLR", (inverse,))),
    st.just(("MultiplicativeLR", (inverse,))),
)
composition = st.recursive(
    leaf,
    lambda parts: st.one_of(
        st.lists(parts, min_size=1, max_size=3).map(lambda parts: ("ChainedScheduler", parts)),
        st.lists(parts, min_size=1, max_size=3).flatmap(
            lambda parts: st.lists(st.integers(0, 12), min_size=len(parts) - 1, max_size=len(parts) - 1).map(
                lambda milestones: ("SequentialLR", parts, sorted(milestones))
            )
        ),
    ),
    max_leaves=5,
)


def build(library: Any, optimizer: Any, spec: Any) -> Any:
    name, arguments, *milestones = spec
    make = getattr(library, name)
    if name not in ("ChainedScheduler", "SequentialLR"):
        return make(optimizer, *arguments)
    parts = [build(library, optimizer, part) for part in arguments]
    return make(optimizer, parts, *milestones) if milestones else make(parts)


def outcome(library: Any, spec: Any, edits: dict[int, float]) -> tuple[list[float], Any]:
    """The rates until the end or the first error, and its type."""
    optimizer = library.optimizer("sgd", [0.1])
    seen: list[float] = []
    try:
        scheduler = build(library, optimizer, spec)
        for step in range(25):
            optimizer.param_groups[0]["lr"] *= edits.get(step, 1.0)
            seen.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    except (ArithmeticError, ValueError, NotImplementedError) as error:
        return seen, type(error)
    return seen, None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(spec=composition, edits=st.dictionaries(st.integers(0, 24), st.floats(0.5, 2.0), max_size=2))
def test_random_compositions_are_those_of_torch(spec, edits):
    mine, theirs = outcome(OURS, spec, edits), outcome(TORCH, spec, edits)
    assert mine[1] == theirs[1]
    np.testing.assert_allclose(mine[0], theirs[0], rtol=CLOSE, atol=1e-16)


# --- resuming ---------------------------------------------------------------------------------------


def saved(state: Any) -> Any:
    """Through a file, as PyTorch reads it when it trusts nobody."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resume(case: Case, library: Any, groups: list[dict[str, Any]], state: Any) -> tuple[Any, Any]:
    optimizer, scheduler = case.start(library)
    for group, numbers in zip(optimizer.param_groups, groups, strict=True):
        group.update(numbers)
    scheduler.load_state_dict(saved(state))
    return optimizer, scheduler


@each
def test_states_are_those_of_torch_and_go_both_ways(case):
    for stop in (0, 1, 4, 23):
        if stop + 5 > case.steps:
            continue
        mine, theirs = case.start(OURS), case.start(TORCH)
        go(case, mine, theirs, stop)
        state, their_state = mine[1].state_dict(), theirs[1].state_dict()
        assert state == their_state
        assert saved(state) == saved(their_state)
        groups = numbers(theirs[0])
        go(case, resume(case, OURS, groups, their_state), resume(case, TORCH, groups, state), 5)
        again = resume(case, OURS, groups, state)
        go(case, again, theirs, min(12, case.steps - stop))


RESUMABLE = [case for case in CASES if case.name not in ("chained", "chained of sequential")]


@pytest.mark.parametrize("case", RESUMABLE, ids=ids(RESUMABLE))
def test_made_with_last_epoch_it_is_where_torch_is(case):
    for stop in (0, 3, 11):
        if stop + 3 > case.steps:
            continue
        run = case.start(TORCH)
        for _ in range(stop):
            run[1].step()

        def made(library: Any, run: Any = run, stop: int = stop) -> Any:
            optimizer = library.optimizer(case.kind, case.lrs)
            for group, values in zip(optimizer.param_groups, numbers(run[0]), strict=True):
                group.update(values)
            return optimizer, case.make(library, optimizer, last_epoch=stop)

        try:
            theirs = made(TORCH)
        except (AttributeError, ZeroDivisionError, NotImplementedError) as error:
            with pytest.raises(type(error)):
                made(OURS)
            continue
        mine = made(OURS)
        assert_same(mine, theirs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            go(case, mine, theirs, min(20, case.steps - stop - 1))


def test_a_rate_in_a_tensor_is_read_as_a_number():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=torch.tensor(0.5))
    state = torch.optim.lr_scheduler.StepLR(optimizer, 2).state_dict()
    mine = CASES[6].start(OURS)
    mine[1].load_state_dict(saved(state))
    assert mine[1].base_lrs == [0.5] and type(mine[1].base_lrs[0]) is float


@pytest.mark.parametrize("lr", [jnp.float32(0.5), np.float64(0.5), jnp.array([0.5])])
def test_a_rate_in_an_array_is_a_number_in_the_end(lr):
    optimizer = our_optimizer("sgd", [lr])
    scheduler = ours.ExponentialLR(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5 and type(optimizer.param_groups[0]["lr"]) is float
    assert type(scheduler.base_lrs[0]) is float


def test_a_recorded_schedule_can_be_the_function():
    optimizer = our_optimizer("sgd", [0.2])
    scheduler = ours.LambdaLR(optimizer, gradtx.linear_schedule(1.0, 0.0, 4))
    scheduler.step()
    assert scheduler.get_last_lr() == [pytest.approx(0.15)]
    assert type(optimizer.param_groups[0]["lr"]) is float
    assert scheduler.state_dict()["lr_lambdas"] == [None]


# --- epochs given, and the plateau ------------------------------------------------------------------

CLOSED = [case for case in LEAVES if case.name not in ("CosineAnnealingWarmRestarts", "OneCycleLR", "SWALR")]


@pytest.mark.parametrize("case", CLOSED, ids=ids(CLOSED))
def test_a_given_epoch_is_the_closed_form(case):
    mine, theirs = case.start(OURS), case.start(TORCH)
    for epoch in (5, 2, 0, 31, 32):
        errors = []
        for _, scheduler in (mine, theirs):
            with pytest.warns(UserWarning, match="^The epoch parameter in `scheduler.step"):
                try:
                    scheduler.step(epoch)
                except ZeroDivisionError as error:  # a closed form over no steps at all
                    errors.append(error)
        assert len(errors) in (0, 2)
        assert mine[1].last_epoch == theirs[1].last_epoch
        assert mine[1].get_last_lr() == pytest.approx(theirs[1].get_last_lr(), rel=CLOSE, abs=1e-18)


@pytest.mark.parametrize("growth", [1, 2, 3])
def test_restarts_at_fractions_of_epochs(growth):
    pair = [L.CosineAnnealingWarmRestarts(L.optimizer("sgd", TWO), 3, growth) for L in (OURS, TORCH)]
    for epoch in [*np.arange(0, 40, 0.3).tolist(), 2.5, 0, 3, 9, 12, 27, None, None, 1.5, None, None, None]:
        for scheduler in pair:
            scheduler.step(epoch)
        states = [scheduler.state_dict() for scheduler in pair]
        assert states[0] == states[1]


METRICS = [1.0, 0.9, 0.9, 0.95, 0.90001, 0.8, 0.81, 0.82, 0.79999, 0.8, 0.8, 0.8, 0.1, -0.1, -0.1, -0.2, -0.2]
METRICS = [*METRICS, math.nan, math.inf, -math.inf, *[0.0] * 30, *np.sin(np.arange(950.0)).tolist()]

PLATEAUS: list[dict[str, Any]] = [
    {},
    dict(patience=0),
    dict(patience=2, factor=0.5, cooldown=3),
    dict(patience=1, factor=0.9, threshold=0.1, threshold_mode="abs"),
    dict(patience=1, factor=0.9, mode="max"),
    dict(patience=1, factor=0.9, mode="max", threshold=0.05, threshold_mode="abs"),
    dict(patience=0, factor=0.5, min_lr=[0.02, 0.001]),
    dict(patience=0, factor=0.5, min_lr=0.01, eps=0.02),
    dict(patience=0, factor=-0.5, cooldown=1),
]


@pytest.mark.parametrize("options", PLATEAUS, ids=str)
def test_the_plateau_is_that_of_torch(options):
    plateau = Case("plateau", lambda L, o: L.ReduceLROnPlateau(o, **options), lrs=TWO)
    mine, theirs = plateau.start(OURS), plateau.start(TORCH)
    assert_same(mine, theirs)
    for i, metric in enumerate(METRICS):
        mine[1].step(jnp.float32(metric) if i < 3 else metric)
        theirs[1].step(np.float32(metric) if i < 3 else metric)
        assert_same(mine, theirs)
        assert mine[1].state_dict() == theirs[1].state_dict() or math.isnan(metric)
        if i in (4, 8, 30):
            state = mine[1].state_dict()
            mine = resume(plateau, OURS, numbers(theirs[0]), theirs[1].state_dict())
            theirs = resume(plateau, TORCH, numbers(theirs[0]), state)


def test_the_plateau_takes_a_new_group_and_an_epoch():
    optimizer = our_optimizer("sgd", [0.1])
    scheduler = ours.ReduceLROnPlateau(optimizer, patience=0, min_lr=0.06)
    optimizer.param_groups.append({"params": [], "lr": 0.5})
    with pytest.warns(UserWarning, match="The epoch parameter"):
        scheduler.step(1.0, epoch=7)
    scheduler.step(1.0)
    assert (scheduler.last_epoch, scheduler.get_last_lr()) == (8, [0.06, 0.06])
    scheduler = ours.ReduceLROnPlateau(optimizer, patience=0, min_lr=[0.0, 0.0])
    optimizer.param_groups.append({"params": [], "lr": 0.5})
    scheduler.step(1.0)
    with pytest.raises(
        RuntimeError, match=r"^The number of param groups in the `optimizer` \(3\) differs from"
    ):
        scheduler.step(1.0)


# --- warnings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [OURS, TORCH], ids=["ours", "torch"])
def test_the_scheduler_before_the_optimizer_is_warned_of_once(library):
    optimizer = library.optimizer("sgd", [0.1])
    optimizer._step_count, optimizer._opt_called = 0, False
    scheduler = library.StepLR(optimizer, 3)
    text = r"^Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`. "
    with pytest.warns(UserWarning, match=text):
        scheduler.step()
    scheduler.step()


def test_the_right_order_warns_of_nothing():
    optimizer = our_optimizer("sgd", [0.1])
    optimizer._step_count = 0
    scheduler = ours.StepLR(optimizer, 3)
    optimizer._step_count += 1
    scheduler.step()


@pytest.mark.parametrize("case", [case for case in LEAVES if case.name != "SWALR"][::5], ids=lambda c: c.name)
def test_get_lr_by_hand_is_warned_of(case):
    for library in (OURS, TORCH):
        _, scheduler = case.start(library)
        with pytest.warns(
            UserWarning, match=r"^To get the last learning rate .* please use `get_last_lr\(\)`"
        ):
            scheduler.get_lr()


# --- mistakes ---------------------------------------------------------------------------------------


def mistake(name: str, kind: str = "sgd", lrs: Any = TWO, **kw: Any) -> Any:
    return pytest.param(lambda L: getattr(L, name)(L.optimizer(kind, lrs), **kw), id="-".join([name, *kw]))


def given_optimizers(name: str, make: Callable[[Any, Any, Any], Any]) -> Any:
    def run(L: Any) -> Any:
        return make(L, L.optimizer("sgd", [0.1]), L.optimizer("sgd", [0.1]))

    return pytest.param(run, id=name)


def no_optimizer(name: str, **kw: Any) -> Any:
    return pytest.param(lambda L: getattr(L, name)("SGD", **kw), id=f"{name} of a string")


def overrun(L: Any, o: Any, _: Any) -> Any:
    scheduler = L.OneCycleLR(o, 0.1, 10)
    for _ in range(11):
        scheduler.step()


def undo_nothing(L: Any, o: Any, _: Any) -> Any:
    scheduler = L.ConstantLR(o, 0.0, 2)
    for _ in range(2):
        scheduler.step()


MISTAKES = [
    mistake("LambdaLR", lr_lambda=[inverse]),
    mistake("MultiplicativeLR", lr_lambda=[inverse] * 3),
    mistake("MultiplicativeLR", lr_lambda=0.5),
    mistake("StepLR", step_size=3, last_epoch=4),
    mistake("OneCycleLR", max_lr=0.1, total_steps=10, last_epoch=0),
    mistake("ConstantLR", factor=1.1),
    mistake("ConstantLR", factor=-0.1),
    mistake("LinearLR", start_factor=0.0),
    mistake("LinearLR", start_factor=1.5),
    mistake("LinearLR", end_factor=1.5),
    mistake("LinearLR", end_factor=-0.5),
    mistake("ReduceLROnPlateau", factor=1.0),
    mistake("ReduceLROnPlateau", mode="least"),
    mistake("ReduceLROnPlateau", threshold_mode="ratio"),
    mistake("ReduceLROnPlateau", min_lr=[0.1]),
    mistake("CosineAnnealingWarmRestarts", T_0=0),
    mistake("CosineAnnealingWarmRestarts", T_0=2.0),
    mistake("CosineAnnealingWarmRestarts", T_0=2, T_mult=0),
    mistake("CosineAnnealingWarmRestarts", T_0=2, T_mult=1.5),
    mistake("CosineAnnealingWarmRestarts", T_0=2, eta_min="0"),
    given_optimizers("negative epoch", lambda L, o, _: L.CosineAnnealingWarmRestarts(o, 2).step(-1)),
    mistake("OneCycleLR", max_lr=0.1),
    mistake("OneCycleLR", max_lr=0.1, epochs=3),
    mistake("OneCycleLR", max_lr=0.1, total_steps=0),
    mistake("OneCycleLR", max_lr=0.1, total_steps=3.5),
    mistake("OneCycleLR", max_lr=0.1, epochs=-1, steps_per_epoch=5),
    mistake("OneCycleLR", max_lr=0.1, epochs=5, steps_per_epoch=1.5),
    mistake("OneCycleLR", max_lr=0.1, total_steps=10, pct_start=1),
    mistake("OneCycleLR", max_lr=0.1, total_steps=10, pct_start=1.5),
    mistake("OneCycleLR", max_lr=0.1, total_steps=10, anneal_strategy="exp"),
    mistake("OneCycleLR", "adagrad", max_lr=0.1, total_steps=10),
    mistake("OneCycleLR", max_lr=[0.1], total_steps=10),
    mistake("OneCycleLR", max_lr=0.1, total_steps=10, base_momentum=[0.1]),
    given_optimizers("one cycle, a step too far", overrun),
    given_optimizers("constant factor of 0 undone", undo_nothing),
    mistake("CyclicLR", base_lr=0.1, max_lr=0.2, mode="square"),
    mistake("CyclicLR", "adagrad", base_lr=0.1, max_lr=0.2),
    mistake("CyclicLR", base_lr=[0.1], max_lr=0.2),
    mistake("CyclicLR", base_lr=0.1, max_lr=(0.2,)),
    mistake("CyclicLR", base_lr=0.1, max_lr=0.2, max_momentum=[0.2]),
    mistake("SWALR", swa_lr=[0.1]),
    mistake("SWALR", swa_lr=0.1, anneal_strategy="exp"),
    mistake("SWALR", swa_lr=0.1, anneal_epochs=-1),
    mistake("SWALR", swa_lr=0.1, anneal_epochs=1.5),
    no_optimizer("StepLR", step_size=3),
    no_optimizer("OneCycleLR", max_lr=0.1, total_steps=3),
    no_optimizer("CyclicLR", base_lr=0.1, max_lr=0.2),
    no_optimizer("ReduceLROnPlateau"),
    no_optimizer("CosineAnnealingWarmRestarts", T_0=2),
    given_optimizers("sequence of nothing", lambda L, o, _: L.SequentialLR(o, [], [])),
    given_optimizers("chain of nothing", lambda L, o, _: L.ChainedScheduler([])),
    given_optimizers("sequence of a number", lambda L, o, _: L.SequentialLR(o, [0.1], [])),
    given_optimizers("chain of a number", lambda L, o, _: L.ChainedScheduler([L.StepLR(o, 1), 0.1])),
    given_optimizers(
        "sequence of a plateau", lambda L, o, _: L.SequentialLR(o, [L.ReduceLROnPlateau(o)], [])
    ),
    given_optimizers("chain of a plateau", lambda L, o, _: L.ChainedScheduler([L.ReduceLROnPlateau(o)])),
    given_optimizers("sequence of another's", lambda L, o, p: L.SequentialLR(o, [L.StepLR(p, 1)], [])),
    given_optimizers(
        "chain of another's", lambda L, o, p: L.ChainedScheduler([L.StepLR(o, 1), L.StepLR(p, 1)])
    ),
    given_optimizers("no milestone", lambda L, o, _: L.SequentialLR(o, [L.StepLR(o, 1)] * 2, [])),
]


@pytest.mark.parametrize("run", MISTAKES)
def test_mistakes_raise_what_torch_raises(run):
    with pytest.raises(Exception) as theirs:  # noqa: B017, PT011  # whatever torch raises
        run(TORCH)
    with pytest.raises(theirs.type) as mine:
        run(OURS)
    # Of an optimizer in the text, torch prints all that is in it.
    text = str(theirs.value.args[0]).splitlines()[0].split(" has SGD (")[0].rstrip(".")
    assert text in str(mine.value.args[0])


def test_a_mistake_changes_nothing():
    for make in (
        partial(ours.CyclicLR, base_lr=0.5, max_lr=1, mode="square"),
        partial(ours.OneCycleLR, max_lr=0.5, total_steps=10, base_momentum=[0.1]),
        partial(SWALR, swa_lr=0.5, anneal_epochs=-1),
    ):
        optimizer = our_optimizer("sgd", TWO)
        before = numbers(optimizer)
        with pytest.raises(ValueError):
            make(optimizer)
        assert numbers(optimizer) == before


def test_the_state_of_something_else_is_refused():
    _, scheduler = CASES[6].start(OURS)
    before = scheduler.state_dict()
    with pytest.raises(
        ValueError, match="not the state of a scheduler: .* only \\['state', 'param_groups'\\]"
    ):
        scheduler.load_state_dict({"state": {}, "param_groups": []})
    assert scheduler.state_dict() == before


def test_the_state_of_another_composition_is_refused():
    optimizer = our_optimizer("sgd", [0.1])
    two, one = chained(OURS, optimizer), ours.ChainedScheduler([ours.StepLR(optimizer, 2)])
    before = one.state_dict()
    with pytest.raises(ValueError, match="ChainedScheduler of 1 schedulers: this is the state of 3; make it"):
        one.load_state_dict(two.state_dict())
    assert one.state_dict() == before
    state = {**before, "_schedulers": [{"state": {}}]}
    with pytest.raises(ValueError, match="not the state of a scheduler"):
        one.load_state_dict({**state, "_last_lr": [7.0]})
    assert one.state_dict() == before


def test_a_scheduler_of_ones_own_needs_get_lr_alone():
    class Halving(ours.LRScheduler):
        def get_lr(self) -> list[float]:
            return [lr * 0.5**self.last_epoch for lr in self.base_lrs]

    optimizer = our_optimizer("sgd", TWO)
    scheduler = ours.SequentialLR(optimizer, [ours.ConstantLR(optimizer), Halving(optimizer)], [1])
    seen = []
    for _ in range(3):
        scheduler.step()
        seen.append(scheduler.get_last_lr()[0])
    assert seen == [0.1, 0.05, 0.025]

"""Random runs beside PyTorch's: a class, its options and groups, schedulers, edits by hand, resuming.

A run is a value that hypothesis draws and shrinks; it is done here and in PyTorch, and after every step all
that a user can see is compared. Of a failure hypothesis prints the run, and a blob for ``reproduce_failure``.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import gradtx.torch.optim as optim
from tests.given import DRAWS_ANEW
from tests.torch_parity.cases import TORCH_NEWTON_SCHULZ, newton_schulz
from tests.torch_parity.test_lr_scheduler import OURS, TORCH, build, composition

pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected call of"),
    pytest.mark.filterwarnings("ignore:The epoch parameter"),
]

SHAPES = [[(2, 2), (3, 2)], [(2, 3)]]
"""Of the params of each group: matrices, for Muon."""

BOUND = 1e-11
"""Relative to the largest number of a param. A step rounds some ten times, 1e-15; momenta and edits to large
decays carry it on and multiply it, over ten steps by some hundreds."""

LR = [0.1, 0.02, 0.5, 0.0, -0.01]
DECAY = [0.0, 0.1, 0.01, -0.1]
BETAS = [(0.9, 0.99), (0.5, 0.9), (0.0, 0.5), (0.9, 0.3)]
EPS = [1e-8, 1e-2]
FLAG = [True, False]
ADAM = {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY}

OPTIONS: dict[str, dict[str, list[Any]]] = {
    "SGD": {
        "lr": LR,
        "momentum": [0.0, 0.9, 0.5, -0.3, 1.1],
        "dampening": [0.0, 0.3, -0.2],
        "weight_decay": DECAY,
        "nesterov": FLAG,
        "maximize": FLAG,
    },
    "Adam": {**ADAM, "maximize": FLAG, "decoupled_weight_decay": FLAG},
    "AdamW": {**ADAM, "maximize": FLAG},
    "Adamax": {**ADAM, "maximize": FLAG},
    "NAdam": {**ADAM, "momentum_decay": [4e-3, 0.0, 0.5], "decoupled_weight_decay": FLAG, "maximize": FLAG},
    "RAdam": {**ADAM, "decoupled_weight_decay": FLAG, "maximize": FLAG},
    "RMSprop": {
        "lr": [0.05, 0.01, 0.0, -0.01],
        "alpha": [0.99, 0.5, 0.0],
        "eps": EPS,
        "weight_decay": DECAY,
        "momentum": [0.9, 0.5, 0.0, -0.3],
        "maximize": FLAG,
    },
    "Rprop": {
        "lr": LR,
        "etas": [(0.5, 1.2), (0.1, 3.0), (0.7, 0.9)],
        "step_sizes": [(1e-6, 50), (1e-3, 0.05)],
        "maximize": FLAG,
    },
    "Adagrad": {
        "lr": LR,
        "lr_decay": [0.0, 0.5, -0.01],
        "weight_decay": DECAY,
        "eps": EPS,
        "maximize": FLAG,
    },
    "Adadelta": {"lr": [1.0, *LR], "rho": [0.9, 0.5, 1.0], "eps": [1e-6, 1e-2], "weight_decay": DECAY},
    "ASGD": {
        "lr": LR,
        "lambd": [1e-4, 0.1, -0.1],
        "alpha": [0.75, 0.5],
        "t0": [1e6, 2, 0],
        "weight_decay": DECAY,
        "maximize": FLAG,
    },
    "Adafactor": {
        "lr": LR,
        "beta2_decay": [-0.8, -0.5],
        "eps": [(None, 1e-3), (1e-3, 0.1)],
        "d": [1.0, 2.0, 0.5],
        "weight_decay": DECAY,
        "maximize": FLAG,
    },
    "Muon": {
        "lr": LR,
        "weight_decay": DECAY,
        "momentum": [0.95, 0.5, 0.0, 1.1],
        "nesterov": FLAG,
        "adjust_lr_fn": [None, "match_rms_adamw"],
        "ns_steps": [2, 5],
    },
}

MADE_WITH = {
    "Adam": {"amsgrad": FLAG},
    "AdamW": {"amsgrad": FLAG},
    "NAdam": {},
    "RMSprop": {"centered": FLAG},
    "Adadelta": {"maximize": FLAG},
}
"""Options that PyTorch breaks down on if they are switched on later."""

OF_CONSTRUCTOR = {"Adagrad": {"initial_accumulator_value": [0.0, 0.3]}}
"""Options that PyTorch does not look for in groups."""

FLOAT32 = ("eta", "mu", "mu_product")
"""Slots that PyTorch keeps in float32 and, on loading, turns into the dtype of the param."""


class Run(NamedTuple):
    """What is done.

    Attributes:
        name: of the class.
        options: its keyword arguments.
        groups: for each group, its own options.
        scheduler: as `build` takes it; "plateau" for the one that looks at a metric, None for none.
        steps: for each step, what happens.
        seed: of params and gradients.
    """

    name: str
    options: dict[str, Any]
    groups: list[dict[str, Any]]
    scheduler: Any
    steps: list["Step"]
    seed: int


class Step(NamedTuple):
    """What happens in a step.

    Attributes:
        edits: for some of the groups, options to write into them.
        absent: the params without a gradient, over all groups.
        resume: whether everything is saved and made anew: "here" by the optimizer's own state, "there" by way
            of PyTorch and back; None for not.
    """

    edits: dict[int, dict[str, Any]]
    absent: frozenset[int]
    resume: str | None


def some_of(options: dict[str, list[Any]], most: int) -> st.SearchStrategy[dict[str, Any]]:
    """A few options with one of their values each."""
    pairs = [st.tuples(st.just(name), st.sampled_from(values)) for name, values in options.items()]
    return st.lists(st.one_of(pairs), max_size=most).map(dict)


def within_domain(name: str, options: dict[str, Any]) -> bool:
    """Whether PyTorch's constructor takes these."""
    try:
        getattr(torch.optim, name)([torch.nn.Parameter(torch.zeros(2, 2))], **options)
    except ValueError:
        return False
    return True


def steps(name: str) -> st.SearchStrategy[list[Step]]:
    edits = st.dictionaries(st.integers(0, 1), some_of(OPTIONS[name], 2), max_size=2)
    often_none = st.one_of(st.just({}), st.just({}), edits)
    absent = st.one_of(st.just(frozenset()), st.frozensets(st.integers(0, 2), max_size=3))
    resume = st.sampled_from([None, None, None, "here", "there"])
    return st.lists(st.builds(Step, often_none, absent, resume), min_size=4, max_size=12)


@st.composite
def runs(draw: Callable[..., Any]) -> Run:
    name = draw(st.sampled_from(sorted(OPTIONS)))
    every = {**OPTIONS[name], **MADE_WITH.get(name, {})}
    given = {**every, **OF_CONSTRUCTOR.get(name, {})}
    options = draw(some_of(given, 4).filter(lambda options: within_domain(name, options)))
    groups = [draw(some_of(every, 2)) for _ in SHAPES]
    scheduler = draw(st.one_of(st.none(), st.just("plateau"), composition))
    run = Run(name, options, groups, scheduler, draw(steps(name)), draw(st.integers(0, 999)))
    assume(not is_of_roundings(run))
    return run


def is_of_roundings(run: Run) -> bool:
    """Whether a variance of one number, g² − g², is divided by: what is left of it is each library's own."""
    told = [run.options, *run.groups, *(changes for step in run.steps for changes in step.edits.values())]
    return any(x.get("centered") for x in told) and any(x.get("alpha") == 0 for x in told)


# --- a run, in either library -----------------------------------------------------------------------


class Life:
    """An optimizer and its scheduler. Of the two libraries one class each."""

    schedulers: Any

    def __init__(self, run: Run, values: list[list[np.ndarray]]):
        self.run = run
        self.optimizer = self.make(values)
        self.scheduler = self.attach()

    def make(self, values: list[list[np.ndarray]]) -> Any:
        raise NotImplementedError

    def attach(self) -> Any:
        spec = self.run.scheduler
        if spec is None:
            return None
        if spec == "plateau":
            return self.schedulers.ReduceLROnPlateau(self.optimizer, patience=0, factor=0.5)
        return build(self.schedulers, self.optimizer, spec)

    def edit(self, edits: dict[int, dict[str, Any]]) -> None:
        for g, changes in edits.items():
            self.optimizer.param_groups[g].update(changes)

    def schedule(self, step: int) -> None:
        if self.run.scheduler == "plateau":
            self.scheduler.step(float(step % 3))
        elif self.run.scheduler is not None:
            self.scheduler.step()

    def resume(self, values: list[list[np.ndarray]], state: Any) -> None:
        """Make everything anew and load what was saved."""
        saved = None if self.scheduler is None else self.scheduler.state_dict()
        self.optimizer = self.make(values)
        self.scheduler = self.attach()
        self.load(state)
        if self.scheduler is not None:
            self.scheduler.load_state_dict(saved)

    def load(self, state: Any) -> None:
        self.optimizer.load_state_dict(state)

    def options(self) -> list[dict[str, Any]]:
        return [{k: x for k, x in g.items() if k != "params"} for g in self.optimizer.param_groups]


class Theirs(Life):
    schedulers = TORCH

    def make(self, values: list[list[np.ndarray]]) -> Any:
        groups = [
            {"params": [torch.nn.Parameter(torch.tensor(x)) for x in row], **own}
            for row, own in zip(values, self.run.groups, strict=True)
        ]
        return getattr(torch.optim, self.run.name)(groups, **self.run.options)

    def params(self) -> list[list[np.ndarray]]:
        return [[x.detach().numpy().copy() for x in g["params"]] for g in self.optimizer.param_groups]

    def step(self, grads: list[list[np.ndarray | None]]) -> None:
        for group, row in zip(self.optimizer.param_groups, grads, strict=True):
            for param, grad in zip(group["params"], row, strict=True):
                param.grad = None if grad is None else torch.tensor(grad)
        self.optimizer.step()

    def load(self, state: Any) -> None:
        super().load(state)
        for slots in self.optimizer.state.values():
            slots.update({name: slots[name].float() for name in FLOAT32 if name in slots})


class Ours(Life):
    schedulers = OURS

    def make(self, values: list[list[np.ndarray]]) -> Any:
        groups = [
            {"params": list(map(jnp.asarray, row)), **own}
            for row, own in zip(values, self.run.groups, strict=True)
        ]
        extra = {"ns_dtype": "float64"} if self.run.name == "Muon" else {}
        return getattr(optim, self.run.name)(groups, **self.run.options, **extra)

    def params(self) -> list[list[np.ndarray]]:
        return [[np.asarray(x) for x in group["params"]] for group in self.optimizer.param_groups]

    def step(self, grads: list[list[np.ndarray | None]]) -> None:
        self.optimizer.step([[None if x is None else jnp.asarray(x) for x in row] for row in grads])


def assert_same(mine: Ours, theirs: Theirs) -> None:
    for own, reference in zip(mine.options(), theirs.options(), strict=True):
        # Options are equal to the last bit; those that only one of the two has do nothing.
        assert {name: own[name] for name in reference if name in own} == {
            name: x for name, x in reference.items() if name in own
        }
    for own, reference in zip(mine.params(), theirs.params(), strict=True):
        for x, wanted in zip(own, reference, strict=True):
            assert_close(x, wanted)
    states = mine.optimizer.state_dict()["state"], theirs.optimizer.state_dict()["state"]
    rows, wanted_rows = ({i: row for i, row in state.items() if row} for state in states)
    assert rows.keys() == wanted_rows.keys()
    for i, wanted_row in wanted_rows.items():
        there = {name for name, x in wanted_row.items() if x is not None}
        for name in rows[i].keys() - there:  # switched on by an edit, since when PyTorch saw no gradient
            assert name == "momentum_buffer" and not rows[i].pop(name).any()
        assert rows[i].keys() == there
        for name, x in rows[i].items():
            assert_close(x, np.asarray(wanted_row[name]), 1e-6 if name in FLOAT32 else BOUND)


def assert_close(x: Any, wanted: np.ndarray, bound: float = BOUND) -> None:
    largest = np.max(np.abs(wanted), initial=1e-3, where=np.isfinite(wanted))
    np.testing.assert_allclose(x, wanted, rtol=0, atol=bound * largest)


def follow(run: Run) -> None:
    """Do it in both, up to where PyTorch raises."""
    rng = np.random.default_rng(run.seed)
    values = [[rng.normal(size=shape) for shape in row] for row in SHAPES]
    try:
        theirs = Theirs(run, values)
    except (ArithmeticError, ValueError, NotImplementedError) as error:
        with pytest.raises(type(error)):
            Ours(run, values)
        return
    mine = Ours(run, values)
    assert_same(mine, theirs)
    for k, step in enumerate(run.steps):
        numbers = iter(range(3))
        grads = [
            [None if next(numbers) in step.absent else rng.normal(size=shape) for shape in row]
            for row in SHAPES
        ]
        theirs.edit(step.edits)
        mine.edit(step.edits)
        try:
            theirs.step(grads)
        except (ArithmeticError, KeyError, TypeError):  # it made no slots for what was switched on later
            return
        mine.step(grads)
        assert_same(mine, theirs)
        try:
            theirs.schedule(k)
        except (ArithmeticError, ValueError, NotImplementedError) as error:
            with pytest.raises(type(error)):
                mine.schedule(k)
            return
        mine.schedule(k)
        assert mine.options()[0]["lr"] == theirs.options()[0]["lr"]
        if step.resume == "here":
            mine.resume(mine.params(), mine.optimizer.state_dict())
            theirs.resume(theirs.params(), theirs.optimizer.state_dict())
        elif step.resume == "there":
            theirs.resume(theirs.params(), optim.to_torch_state_dict(mine.optimizer))
            mine.resume(mine.params(), theirs.optimizer.state_dict())
        assert_same(mine, theirs)


@pytest.fixture
def muon_in_double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyTorch's polynomial of Muon in the dtype of the gradient, where its own is in bfloat16."""
    monkeypatch.setattr(TORCH_NEWTON_SCHULZ, newton_schulz)
    yield


def examples(number: int, *, derandomize: bool = False) -> Any:
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=derandomize,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


OUTSIDE: dict[str, list[dict[str, Any]]] = {
    "SGD": [{"lr": -0.1, "momentum": -0.3, "dampening": 2.0, "weight_decay": -0.1, "nesterov": True}],
    "Adam": [{"lr": -0.1, "betas": (1.2, -0.3), "eps": -1.0, "weight_decay": -0.1, "maximize": True}],
    "AdamW": [{"lr": -0.1, "betas": (-0.5, 0.9), "eps": -1.0, "weight_decay": -0.1}],
    "Adamax": [{"lr": -0.1, "betas": (-0.5, 1.1), "eps": -1e-3, "weight_decay": -0.1}],
    "NAdam": [{"lr": -0.1, "betas": (1.2, 0.9), "eps": -1.0, "weight_decay": -0.1, "momentum_decay": -0.01}],
    "RAdam": [{"lr": -0.1, "betas": (-0.5, 0.9), "eps": -1.0, "weight_decay": -0.1}],
    "RMSprop": [
        {"lr": -0.1, "alpha": -0.2, "eps": -9.0, "weight_decay": -0.1, "momentum": -0.3},
        {"alpha": 1.3, "momentum": 1.5},
    ],
    "Rprop": [{"lr": -0.1, "etas": (-0.5, 0.9), "step_sizes": (1.0, 0.1)}],
    "Adagrad": [{"lr": -0.1, "lr_decay": -0.05, "eps": -1e-3}],
    "Adadelta": [{"lr": -0.1, "rho": 1.3, "eps": 1e-3, "weight_decay": -0.1}],
    "ASGD": [{"lr": -0.1, "lambd": -0.1, "t0": -3, "weight_decay": -0.1}],
    "Adafactor": [
        {"lr": -0.1, "beta2_decay": 0.3, "eps": (-1e-3, -1.0), "d": -1.0, "weight_decay": -0.1},
        {"lr": math.inf},
    ],
    "Muon": [{"lr": -0.1, "weight_decay": -0.1, "momentum": -0.2, "ns_steps": 0, "eps": -1.0}],
}
"""For each class, options that its constructor refuses in PyTorch and its groups take."""

NO_ONE, ONE = frozenset(), frozenset({1})


@pytest.mark.parametrize("name", OPTIONS)
def test_only_the_constructor_asks_for_domains(name: str, x64, muon_in_double) -> None:
    """Not groups for options of their own, nor `step` for edited ones, nor `load_state_dict`."""
    with jax.disable_jit():
        for options in OUTSIDE[name]:
            calm, loaded = Step({}, NO_ONE, None), Step({}, ONE, "there")
            follow(Run(name, {}, [{}, options], None, [calm, loaded, calm], 0))
            follow(Run(name, {}, [{}, {}], None, [calm, Step({1: options}, ONE, "here"), calm, calm], 0))


ENDS = [(0.9679516143658404, 0.0, total_iters) for total_iters in (13, 19, 50)]


@pytest.mark.parametrize("line", ENDS)
def test_a_rate_that_rounding_makes_negative_ends_no_run(line: tuple[float, float, int], x64) -> None:
    steps = [Step({}, NO_ONE, "here" if k > line[2] - 2 else None) for k in range(line[2] + 3)]
    follow(Run("SGD", {"lr": 0.1}, [{}, {}], ("LinearLR", line), steps, 0))


@pytest.mark.parametrize("resume", [None, "here", "there"])
@pytest.mark.parametrize("option", ["momentum", "centered", "amsgrad"])
def test_slots_of_an_option_wait_while_it_is_off(option: str, resume: str | None, x64) -> None:
    names = {"momentum": ["SGD", "RMSprop"], "centered": ["RMSprop"], "amsgrad": ["Adam", "AdamW"]}[option]
    on, off = (0.9, 0.0) if option == "momentum" else (True, False)
    calm = Step({}, NO_ONE, None)
    late, switched = Step({}, ONE, None), [Step({0: {option: x}}, NO_ONE, resume) for x in (off, on)]
    for name in names:
        steps = [late, calm, switched[0], calm, switched[1], calm]
        follow(Run(name, {option: on}, [{}, {}], None, steps, 0))


def test_what_an_edit_switched_on_is_saved_at_once(x64) -> None:
    for name in ("SGD", "RMSprop", "Adam"):
        option = {"amsgrad": True} if name == "Adam" else {"momentum": 0.9}
        optimizer = getattr(optim, name)({"w": jnp.ones(3)})
        optimizer.step({"w": jnp.ones(3)})
        optimizer.param_groups[0].update(option)
        optimizer.load_state_dict(optimizer.state_dict())
        other = getattr(optim, name)({"w": optimizer.params["w"]})
        other.load_state_dict(optimizer.state_dict())
        for each in (optimizer, other):
            each.step({"w": jnp.ones(3)})
        np.testing.assert_array_equal(optimizer.params["w"], other.params["w"])


def test_the_first_step_of_a_param_has_the_numbers_of_that_step(x64) -> None:
    late, edit = frozenset({0, 2}), {g: {"lr": 0.02} for g in (0, 1)}
    steps = [Step({}, late, None), Step(edit, late, "there"), *[Step({}, NO_ONE, None)] * 3]
    for name in ("Rprop", "ASGD"):
        follow(Run(name, {"lr": 0.1}, [{}, {}], None, steps, 0))


@examples(60, derandomize=True)
@given(runs())
def test_random_runs_are_those_of_torch(x64, muon_in_double, run: Run) -> None:
    """Op by op, for to compile the steps of one run takes as long as ten runs."""
    with jax.disable_jit():
        follow(run)


@pytest.mark.extra
@examples(1000, derandomize=not DRAWS_ANEW)
@given(runs())
def test_many_random_runs_are_those_of_torch(x64, muon_in_double, run: Run) -> None:
    with jax.disable_jit():
        follow(run)


@pytest.mark.extra
@examples(100, derandomize=not DRAWS_ANEW)
@given(runs())
def test_random_runs_that_are_compiled_are_those_of_torch(x64, muon_in_double, run: Run) -> None:
    follow(run)

"""How far `gradtx.torch` is from PyTorch, measured: the page docs/torch_parity.md.

    python benchmarks/torch_parity.py [--out docs/torch_parity.md]

It runs the configurations that the tests run, so it needs what the tests need. With the same versions
on the same machine it writes the same page.
"""

import platform
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from absl import app, flags
from tables import table

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tables of the tests

from gradtx.torch import nn
from tests.torch_parity import test_losses as losses
from tests.torch_parity import test_lr_scheduler as schedulers
from tests.torch_parity import test_lr_schedules as schedules
from tests.torch_parity.cases import (
    CASES,
    CLOSURES,
    SPARSE,
    TORCH_NEWTON_SCHULZ,
    Case,
    distance,
    minimise,
    minimise_in_torch,
    newton_schulz,
    problem,
    run_class,
    run_torch,
)

OUT = flags.DEFINE_string("out", None, "file for the page; without one it is printed")

STEPS = 100
DTYPES = {"float64": (jnp.float64, torch.float64), "float32": (jnp.float32, torch.float32)}

PAGE = """\
# Beside PyTorch, measured

`python benchmarks/torch_parity.py --out docs/torch_parity.md` wrote this page, with {versions}.

## Optimizers

The same params and gradients go to `torch.optim` and to the classes of `gradtx.torch.optim`. A number is the
largest difference of any param after {steps} steps, in units of the longest way that any param went (where
none moves, the difference itself). Each is the worst over the configurations of
`tests/torch_parity/cases.py`: PyTorch's own test database and at least as many of ours, with several groups,
params without a gradient at some steps, betas of 0, large eps, and so on. One rounding is up to 1e-16 in
float64 and 6e-8 in float32.

{optimizers}
LBFGS divides by differences of gradients, which amplifies the last digit; its second row says by how much.

## The same settings in Optax

PyTorch's defaults and some other settings, in what Optax has nearest, and what gradtx differs at that very
setting. In float64, Newton–Schulz of Muon on all sides included.

{settings}
## Schedulers and losses

The worst over the tables of `tests/torch_parity`: rates over up to 1000 steps, relative to the largest;
values and gradients, relative to the largest number of each.

{others}"""

# --- differences ------------------------------------------------------------------------------------


def of_steps(case: Case, dtype: str, **options: Any) -> float:
    """The difference of the class, after steps with given gradients."""
    ours, theirs = DTYPES[dtype]
    wanted, _ = run_torch(case, STEPS, theirs)
    found, _ = run_class(case, STEPS, ours, **options)
    return distance(found[-1], wanted[-1], start_of(case, dtype))


def of_exact_muon(case: Case, dtype: str) -> float:
    """The same of Muon, with Newton–Schulz in this dtype on both sides."""
    with exact_newton_schulz():
        return of_steps(case, dtype, ns_dtype=dtype)


def exact_newton_schulz() -> Any:
    """Where PyTorch's Muon has Newton–Schulz in the dtype of the params."""
    return mock.patch(TORCH_NEWTON_SCHULZ, newton_schulz)


def of_minimum(case: Case, dtype: str) -> float:
    """The difference of LBFGS, whose steps call a closure."""
    ours, theirs = DTYPES[dtype]
    _, wanted, _ = minimise_in_torch(case, STEPS, theirs)
    _, found, _ = minimise(case, STEPS, ours)
    return distance(found, wanted, start_of(case, dtype))


def of_torch_itself(case: Case, dtype: str) -> float:
    """The difference of PyTorch's LBFGS from itself, begun five roundings off."""
    _, theirs = DTYPES[dtype]
    _, wanted, _ = minimise_in_torch(case, STEPS, theirs)
    _, found, _ = minimise_in_torch(case, STEPS, theirs, factor=1 + 5 * np.finfo(dtype).eps)
    return distance(found, wanted, start_of(case, dtype))


def start_of(case: Case, dtype: str) -> list[np.ndarray]:
    """Where the params begin."""
    return [np.asarray(value, dtype) for value in problem(case, 1)[0]]


@dataclass(frozen=True)
class Line:
    """A line of the table: configurations, and how to take the difference of one."""

    cases: list[Case]
    difference: Callable[[Case, str], float] = of_steps

    def worst(self, dtype: str) -> float:
        # A param that stays has no way to go, and in float32 nothing else to be compared with.
        cases = [case for case in self.cases if dtype == "float64" or case.options.get("lr") != 0]
        return float(np.max([self.difference(case, dtype) for case in cases]))


def lines() -> dict[str, Line]:
    """By class, in alphabetical order."""
    cases = [*CASES, *CLOSURES, *SPARSE]
    found = {}
    for name in sorted({case.name for case in cases}, key=str.lower):
        own = [case for case in cases if case.name == name]
        if name == "LBFGS":
            found[f"`{name}`"] = Line(own, of_minimum)
            found["PyTorch's, begun five roundings off"] = Line(own, of_torch_itself)
        elif name == "Muon":
            found[f"`{name}`, Newton–Schulz in bfloat16"] = Line(own)
            found[f"`{name}`, Newton–Schulz in this dtype"] = Line(own, of_exact_muon)
        else:
            found[f"`{name}`"] = Line(own)
    return found


# --- Optax ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A setting in PyTorch's words, and in Optax's: source text, so that the page shows what ran; or a
    remark, where Optax has nothing like it."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    in_optax: str = ""
    remark: str = ""

    @property
    def case(self) -> Case:
        return Case(self.name, self.options)

    @property
    def shown(self) -> str:
        return f"{self.name}({', '.join(f'{name}={x!r}' for name, x in self.options.items())})"

    def difference(self) -> float:
        """Of gradtx."""
        measures = {"LBFGS": of_minimum, "Muon": of_exact_muon}
        return measures.get(self.name, of_steps)(self.case, "float64")

    def optax_difference(self) -> float:
        """Of Optax."""
        with exact_newton_schulz():
            (values, rows), (seen, _) = problem(self.case, STEPS), run_torch(self.case, STEPS)
        tx: Any = eval(self.in_optax, vars(optax))
        params: Any = list(map(jnp.asarray, values))
        state, update = tx.init(params), jax.jit(tx.update)
        for row in rows:
            updates, state = update(list(map(jnp.asarray, row)), state, params)
            params = optax.apply_updates(params, updates)
        return distance([np.asarray(param) for param in params], seen[-1], values)


AS_MUON = "eps=1e-7, muon_weight_dimension_numbers=contrib.MuonDimensionNumbers(1, 0)"

SETTINGS = [
    Setting("Adadelta", in_optax="adadelta(1.0)"),
    Setting("Adafactor", in_optax="adafactor(1e-2, min_dim_size_to_factor=1)"),
    Setting("Adafactor", {"lr": 1.0}, "adafactor(1.0, min_dim_size_to_factor=1)"),
    Setting("Adagrad", in_optax="adagrad(1e-2, initial_accumulator_value=0.0, eps=1e-10)"),
    Setting("Adagrad", {"eps": 1e-2}, "adagrad(1e-2, initial_accumulator_value=0.0, eps=1e-2)"),
    Setting("Adam", in_optax="adam(1e-3)"),
    Setting("Adam", {"weight_decay": 0.1}, "chain(add_decayed_weights(0.1), adam(1e-3))"),
    Setting("Adam", {"amsgrad": True}, "amsgrad(1e-3)"),
    Setting("Adamax", in_optax="adamax(2e-3)"),
    Setting("AdamW", in_optax="adamw(1e-3, weight_decay=1e-2)"),
    Setting("ASGD", remark="nothing like it"),
    Setting("LBFGS", remark="`lbfgs` is another algorithm: another line search, one iteration per update"),
    Setting("Muon", in_optax=f"contrib.muon(1e-3, weight_decay=0.1, {AS_MUON})"),
    Setting("Muon", {"nesterov": False}, f"contrib.muon(1e-3, weight_decay=0.1, nesterov=False, {AS_MUON})"),
    Setting("NAdam", in_optax="nadam(2e-3)"),
    Setting("RAdam", in_optax="radam(1e-3)"),
    Setting("RAdam", {"eps": 1e-2}, "radam(1e-3, eps=1e-2)"),
    Setting("RMSprop", in_optax="rmsprop(1e-2, decay=0.99, eps_in_sqrt=False)"),
    Setting(
        "RMSprop",
        {"momentum": 0.9, "centered": True},
        "rmsprop(1e-2, decay=0.99, eps_in_sqrt=False, momentum=0.9, centered=True)",
    ),
    Setting("Rprop", in_optax="rprop(1e-2)"),
    Setting("SGD", in_optax="sgd(1e-3)"),
    Setting("SGD", {"momentum": 0.9, "nesterov": True}, "sgd(1e-3, momentum=0.9, nesterov=True)"),
    Setting("SGD", {"momentum": 0.9, "dampening": 0.5}, "chain(scale(1 - 0.5), sgd(1e-3, momentum=0.9))"),
    Setting("SparseAdam", remark="nothing like it"),
]


# --- schedulers and losses --------------------------------------------------------------------------


def of_sequences() -> Iterator[float]:
    """The learning rates that schedulers set, relative to the largest."""
    for case in schedulers.CASES:
        rates = []
        for library in (schedulers.OURS, schedulers.TORCH):
            _, scheduler = case.start(library)
            rates.append([scheduler.get_last_lr()])
            for _ in range(case.steps):
                scheduler.step()
                rates[-1].append(scheduler.get_last_lr())
        yield relative(*map(np.array, rates))


def of_schedules() -> Iterator[float]:
    """The compiled schedules, relative to the largest rate."""
    for i, row in enumerate(schedules.ROWS):
        found = jax.jit(jax.vmap(row.schedule))(schedules.counts(row))
        yield relative(np.asarray(found), schedules.theirs(i))


def of_losses() -> Iterator[float]:
    """Values and gradients, relative to the largest of each; infinite and NaN in the same places."""
    for kind, options, inputs in losses.CASES.values():
        reductions = getattr(nn, kind).reductions
        for reduction, mine in zip(reductions, losses.ours(kind, options, inputs, reductions), strict=True):
            for x, wanted in zip(mine, losses.theirs(kind, options, inputs, reduction), strict=True):
                finite = np.isfinite(wanted)
                assert np.array_equal(np.isfinite(x), finite), (kind, options)
                yield relative(np.asarray(x)[finite], wanted[finite])


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest number."""
    scale = np.max(np.abs(wanted), initial=0)
    return float(np.max(np.abs(found - wanted), initial=0) / (scale or 1))


# --- the page ---------------------------------------------------------------------------------------


def show_progress(items: Iterable[Any]) -> Iterator[Any]:
    """These, with a dot printed for each."""
    for item in items:
        print(".", end="", file=sys.stderr, flush=True)
        yield item


def digit(x: float) -> str:
    """One digit: the others change with the machine."""
    return f"{x:.0e}".replace("e-0", "e-").replace("e+0", "e+") if x else "0"


def within(dtype: str, measure: Callable[[], Any]) -> Any:
    """What this returns where JAX has that precision."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    return measure()


def optimizers() -> str:
    """Every class in both precisions."""
    rows = []
    for name, line in show_progress(lines().items()):
        worst = [digit(within(dtype, partial(line.worst, dtype))) for dtype in DTYPES]
        rows.append((name, str(len(line.cases)), *worst))
    return table(("class", "configurations", *DTYPES), *rows) + "\n"


def settings() -> str:
    """The settings beside Optax's."""
    rows = []
    for setting in show_progress(SETTINGS):
        found = digit(within("float64", setting.difference))
        in_optax = digit(within("float64", setting.optax_difference)) if setting.in_optax else "—"
        rows.append((f"`{setting.shown}`", found, in_optax, setting.remark or f"`{setting.in_optax}`"))
    return table(("setting", "gradtx", "Optax", "in Optax"), *rows) + "\n"


def others() -> str:
    """Schedulers and losses."""
    measures = {
        "schedulers: the objects": (of_sequences, ["float64"]),
        "schedulers: the functions, compiled": (of_schedules, DTYPES),
        "losses and their gradients": (of_losses, ["float64"]),
    }
    rows = []
    for name, (measure, dtypes) in show_progress(measures.items()):
        found = {dtype: within(dtype, lambda of=measure: list(of())) for dtype in dtypes}
        worst = [digit(np.max(found[dtype])) if dtype in found else "—" for dtype in DTYPES]
        rows.append((name, str(len(found["float64"])), *worst))
    return table(("", "comparisons", *DTYPES), *rows) + "\n"


def versions() -> str:
    """Of what was compared, and where."""
    names = {"PyTorch": "torch", "Optax": "optax", "JAX": "jax", "NumPy": "numpy"}
    shown = [f"{name} {version(package).partition('+')[0]}" for name, package in names.items()]
    return f"{', '.join(shown)}, on {jax.devices()[0].platform.upper()} ({platform.machine()})"


def main(_: list[str]) -> None:
    warnings.filterwarnings("ignore", "reduction: 'mean'")  # of PyTorch's KLDivLoss
    parts = {"optimizers": optimizers(), "settings": settings(), "others": others()}
    page = PAGE.format(versions=versions(), steps=STEPS, **parts)
    print(file=sys.stderr)
    if OUT.value:
        Path(OUT.value).write_text(page)
    else:
        print(page)


if __name__ == "__main__":
    app.run(main)

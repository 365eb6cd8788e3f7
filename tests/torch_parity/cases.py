"""Configurations of every optimizer, to run here and in PyTorch: its own test database, and ours."""

import sys
import types
import unittest
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.experimental.sparse import BCOO

import gradtx.torch.optim as optim

if "torch.testing._internal.common_optimizers" not in sys.modules:
    # These decorate PyTorch's own tests. Their modules take seconds to import, and one is not installed.
    ignored = lambda *args, **kwargs: None  # noqa: E731
    for name, used in {
        "expecttest": {"TestCase": unittest.TestCase, "ACCEPT": False},
        "torch.testing._internal.common_device_type": {"tol": ignored, "toleranceOverride": ignored},
        "torch.testing._internal.common_methods_invocations": {"DecorateInfo": ignored},
    }.items():
        if name not in sys.modules:
            sys.modules[name] = types.ModuleType(name)
            vars(sys.modules[name]).update(used)
from torch.testing._internal.common_optimizers import OptimizerErrorEnum as OptimizerErrorEnum
from torch.testing._internal.common_optimizers import optim_db as optim_db

SHAPES = [(4, 3), (5,), (2, 3, 4), ()]
MATRICES = [(4, 3), (3, 5), (4, 3)]
TABLES = [(6, 4), (6, 4)]


@dataclass(frozen=True)
class Case:
    """An optimizer with its options.

    Attributes:
        name: of the class in PyTorch.
        options: its keyword arguments.
        absent: ``{step: indices}``, the params without a gradient at that step.
        group: options of a second group, with every other param; None for one group.
        source: "torch" for PyTorch's database, "gradtx" for ours.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    absent: dict[int, tuple[int, ...]] = field(default_factory=dict)
    group: dict[str, Any] | None = None
    source: str = "gradtx"

    @property
    def id(self) -> str:
        shown = [f"{k}={v}" for k, v in self.options.items()]
        shown += ["absent"] * bool(self.absent)
        shown += ["groups"] * (self.group is not None)
        return f"{self.name}({', '.join(shown)})-{self.source}"

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return {"Muon": MATRICES, "SparseAdam": TABLES}.get(self.name, SHAPES)


def number(x: Any) -> Any:
    """A tensor as the Python number that it holds; PyTorch computes with a float32 tensor in float32."""
    return float(f"{x.item():.8g}") if isinstance(x, torch.Tensor) else x


def of_torch() -> list[Case]:
    """PyTorch's own configurations."""
    return [
        Case(info.name, {k: number(v) for k, v in config.kwargs.items()}, source="torch")
        for info in optim_db
        for config in info.optim_inputs_func(device="cpu")
    ]


SOMETIMES = {0: (1,), 3: (0, 2), 4: (0,), 50: (1,)}

OURS = [
    Case("SGD", {"lr": 0.1, "nesterov": True, "momentum": 0.9}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}, absent=SOMETIMES),
    Case("SGD", {"lr": 0.1, "momentum": 0.9}, absent=SOMETIMES),
    Case("SGD", {"lr": 0.0, "momentum": 0.9}),
    Case("SGD", {"lr": 0.1}, group={"momentum": 0.9, "weight_decay": 0.01}),
    Case("SGD", {"lr": 0.1, "momentum": 0.5}, group={"lr": 0.01, "momentum": 0.9}),
    Case("SGD", {"lr": 0.1, "momentum": 1.5}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "maximize": True, "nesterov": True, "weight_decay": 0.1}),
    *(
        Case(name, options, absent, group)
        for name in ("Adam", "AdamW")
        for options, absent, group in (
            ({"betas": (0.0, 0.0)}, {}, None),
            ({"betas": (0.0, 0.99)}, {}, None),
            ({"betas": (0.5, 0.0), "lr": 0.01}, {}, None),
            ({"eps": 1e-2}, {}, None),
            ({"amsgrad": True}, {}, None),
            ({"amsgrad": True, "eps": 1e-2, "maximize": True}, SOMETIMES, None),
            ({"lr": 0.0}, {}, None),
            ({"lr": 0.02}, SOMETIMES, None),
            ({"lr": 0.02}, {}, {"lr": 0.001, "weight_decay": 0.3, "betas": (0.8, 0.9)}),
            ({"lr": 0.02}, SOMETIMES, {"amsgrad": True}),
            ({"weight_decay": 0.0}, {}, None),
        )
    ),
    Case("Adam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    Case("Adam", {"decoupled_weight_decay": True, "weight_decay": 0.1, "amsgrad": True, "maximize": True}),
    Case("Adamax", {"betas": (0.0, 0.0)}),
    Case("Adamax", {"betas": (0.5, 0.9), "eps": 1e-2}),
    Case("Adamax", {"lr": 0.0}),
    Case("Adamax", {}, absent=SOMETIMES),
    Case("Adamax", {"lr": 0.1}, group={"lr": 0.001, "weight_decay": 0.1}),
    Case("NAdam", {"betas": (0.0, 0.9)}),
    Case("NAdam", {"betas": (0.5, 0.0)}),
    Case("NAdam", {"eps": 1e-2}),
    Case("NAdam", {"momentum_decay": 0.0}),
    Case("NAdam", {"momentum_decay": 0.5, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    Case("NAdam", {"lr": 0.0}),
    Case("NAdam", {}, absent=SOMETIMES, group={"lr": 0.1}),
    Case("RAdam", {"betas": (0.0, 0.0)}),
    Case("RAdam", {"betas": (0.9, 0.6)}),
    Case("RAdam", {"betas": (0.9, 0.9)}),
    Case("RAdam", {"betas": (0.9, 0.99)}),
    Case("RAdam", {"eps": 1e-2}),
    Case("RAdam", {"eps": 1e-2, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    Case("RAdam", {"lr": 0.0}),
    Case("RAdam", {}, absent=SOMETIMES, group={"lr": 0.1}),
    Case("RMSprop", {"momentum": 0.9}),
    Case("RMSprop", {"momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    Case("RMSprop", {"alpha": 0.0, "eps": 1e-2}),
    Case("RMSprop", {"alpha": 0.5, "eps": 1e-2}),
    Case("RMSprop", {"lr": 0.0}),
    Case("RMSprop", {"momentum": 0.9}, absent=SOMETIMES),
    Case("RMSprop", {"momentum": 0.9}, group={"momentum": 0.0, "centered": True, "eps": 1e-3}),
    Case("RMSprop", {"maximize": True, "momentum": 0.9}),
    Case("Rprop", {"lr": 0.5}),
    Case("Rprop", {"etas": (0.1, 3.0), "step_sizes": (1e-3, 0.1)}),
    Case("Rprop", {"lr": 100.0}),
    Case("Rprop", {}, absent=SOMETIMES),
    Case("Rprop", {}, group={"lr": 0.1, "etas": (0.3, 1.1)}),
    Case("Adagrad", {"lr_decay": 0.5, "weight_decay": 0.1}, absent=SOMETIMES),
    Case("Adagrad", {"eps": 1e-2}),
    Case("Adagrad", {"initial_accumulator_value": 0.3, "maximize": True}),
    Case("Adagrad", {"lr": 0.0}),
    Case("Adagrad", {"lr": 0.1}, group={"lr_decay": 0.1, "eps": 1e-3}),
    Case("Adadelta", {"rho": 0.0}),
    Case("Adadelta", {"eps": 1e-2}),
    Case("Adadelta", {"lr": 0.0}),
    Case("Adadelta", {}, absent=SOMETIMES),
    Case("Adadelta", {}, group={"lr": 0.1, "weight_decay": 0.1, "rho": 0.5}),
    Case("ASGD", {"t0": 5}),
    Case("ASGD", {"t0": 0, "lr": 0.1, "lambd": 0.1}),
    Case("ASGD", {"t0": 20, "alpha": 0.5, "maximize": True}),
    Case("ASGD", {"lr": 0.0}),
    Case("ASGD", {"t0": 5}, absent=SOMETIMES),
    Case("ASGD", {"t0": 5}, group={"lr": 0.1, "weight_decay": 0.1}),
    Case("Adafactor", {"lr": 1.0}),
    Case("Adafactor", {"eps": (1e-3, 1e-1)}),
    Case("Adafactor", {"eps": (1e-30, 1e-3), "beta2_decay": -0.5, "d": 2.0, "weight_decay": 0.1}),
    Case("Adafactor", {"beta2_decay": 0.0}),
    Case("Adafactor", {"lr": 0.0}),
    Case("Adafactor", {"maximize": True}, absent=SOMETIMES, group={"lr": 0.1}),
    Case("Muon", {"nesterov": False}),
    Case("Muon", {"weight_decay": 0.0}),
    Case("Muon", {"adjust_lr_fn": "match_rms_adamw"}),
    Case("Muon", {"ns_steps": 2, "eps": 1.0}),
    Case("Muon", {"lr": 0.0}),
    Case("Muon", {"momentum": 0.0}),
    Case("Muon", {}, absent={0: (1,), 3: (0, 2)}, group={"lr": 0.1}),
]

OF_TORCH = of_torch()
CLOSURES = [
    *(case for case in OF_TORCH if case.name == "LBFGS"),
    Case("LBFGS", {"lr": 0.1, "history_size": 2}),
    Case("LBFGS", {"lr": 0.5, "max_iter": 3}),
    Case("LBFGS", {"line_search_fn": "strong_wolfe", "max_iter": 2, "history_size": 3}),
    Case("LBFGS", {"line_search_fn": "strong_wolfe", "max_eval": 4}),
    Case("LBFGS", {"tolerance_change": 1e-3}),
]
SPARSE = [
    *(case for case in OF_TORCH if case.name == "SparseAdam"),
    Case("SparseAdam", {"betas": (0.0, 0.5)}),
    Case("SparseAdam", {"eps": 1e-2}),
    Case("SparseAdam", {"betas": (0.5, 0.0), "lr": 0.1, "maximize": True}),
    Case("SparseAdam", {"lr": 1e-6, "eps": 1e-3}),
]
CASES = [*(case for case in OF_TORCH if case.name not in ("LBFGS", "SparseAdam")), *OURS]
"""Those with given, dense gradients."""


class Entries(NamedTuple):
    """A sparse gradient: where it has entries, in some places several, and the entries."""

    indices: np.ndarray
    data: np.ndarray
    shape: tuple[int, ...]


def entries(rng: np.random.Generator, shape: tuple[int, ...], dense_axes: int) -> Entries:
    """Five of them, the first 0; the last axes may be dense."""
    sparse, dense = shape[: len(shape) - dense_axes], shape[len(shape) - dense_axes :]
    indices = rng.integers(0, sparse, size=(5, len(sparse)))
    data = rng.normal(size=(5, *dense))
    data[0] = 0
    return Entries(indices, data, shape)


def problem(case: Case, steps: int, seed: int = 0) -> tuple[list[np.ndarray], list[list[Any]]]:
    """Params, and gradients for each step, None where a param has none.

    Of SparseAdam the gradients are sparse, those of the second param rows of a table.
    """
    rng = np.random.default_rng(seed)
    params = [0.05 * rng.normal(size=shape) for shape in case.shapes]
    grads: list[list[Any]] = []
    for step in range(steps):
        if case.name == "SparseAdam":
            row: list[Any] = [entries(rng, shape, axes) for axes, shape in enumerate(case.shapes)]
        else:
            row = [rng.normal(size=shape) for shape in case.shapes]
        grads.append([None if i in case.absent.get(step, ()) else g for i, g in enumerate(row)])
    return params, grads


def grouped(case: Case, params: list[Any]) -> Any:
    """The params as the constructor takes them."""
    if case.group is None:
        return params
    return [{"params": params[::2]}, {"params": params[1::2], **case.group}]


# --- in PyTorch -------------------------------------------------------------------------------------


def run_torch(case: Case, steps: int, dtype: torch.dtype = torch.float64, given: Any = None) -> Any:
    """Params after each step in PyTorch, and the optimizer; for params and gradients rounded to `given`."""
    values, grads = problem(case, steps)
    given = given or dtype
    params = [torch.nn.Parameter(torch.tensor(p, dtype=given).to(dtype)) for p in values]
    optimizer = getattr(torch.optim, case.name)(grouped(case, params), **case.options)
    seen = []
    for row in grads:
        for param, grad in zip(params, row, strict=True):
            rounded = as_tensor(grad, given)
            param.grad = None if rounded is None else rounded.to(dtype)
        optimizer.step()
        seen.append([param.detach().double().numpy().copy() for param in params])
    return seen, optimizer


def as_tensor(grad: Any, dtype: torch.dtype) -> torch.Tensor | None:
    """A gradient of `problem` in PyTorch."""
    if isinstance(grad, Entries):
        indices, data = torch.tensor(grad.indices.T), torch.tensor(grad.data, dtype=dtype)
        return torch.sparse_coo_tensor(indices, data, grad.shape, check_invariants=True)
    return None if grad is None else torch.tensor(grad, dtype=dtype)


TORCH_NEWTON_SCHULZ = "torch.optim._muon._zeropower_via_newtonschulz"


def newton_schulz(grad: torch.Tensor, coefficients: Any, steps: int, eps: float) -> torch.Tensor:
    """PyTorch's polynomial in the dtype of the gradient, where PyTorch's own is in bfloat16."""
    a, b, c = coefficients
    x = grad.T if grad.shape[0] > grad.shape[1] else grad
    x = x / max(float(x.norm()), eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if grad.shape[0] > grad.shape[1] else x


def minimise_in_torch(
    case: Case, steps: int, dtype: torch.dtype = torch.float64, factor: float = 1.0
) -> tuple[list[float], list[np.ndarray], Any]:
    """For LBFGS: the loss of each step on `convex`, the params in the end, and the optimizer.

    The start is that of `problem` times the factor.
    """
    start, (weights, *_) = problem(case, 1)
    params = [torch.nn.Parameter(torch.tensor(value * factor, dtype=dtype)) for value in start]
    tensors = [torch.tensor(w, dtype=dtype) for w in weights]
    optimizer = torch.optim.LBFGS(params, **case.options)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = convex(torch, tensors, params)
        value.backward()
        return value

    losses = [float(optimizer.step(closure).detach()) for _ in range(steps)]
    return losses, [param.detach().double().numpy() for param in params], optimizer


def convex(library: Any, weights: list[Any], params: list[Any]) -> Any:
    """A smooth loss of tensors of any shapes."""
    terms = [(w**2 + 0.1) * (p - w) ** 2 + 0.1 * p**4 for p, w in zip(params, weights, strict=True)]
    return sum(library.sum(term) for term in terms)


# --- here -------------------------------------------------------------------------------------------


def run_class(case: Case, steps: int, dtype: Any, **options: Any) -> tuple[list[list[np.ndarray]], Any]:
    """Params after each step of the class, and the optimizer."""
    values, grads = problem(case, steps)
    params = [jnp.asarray(value, dtype) for value in values]
    optimizer = getattr(optim, case.name)(grouped(case, params), **case.options, **options)
    seen = []
    # Put on the device all at once, which is quicker than one by one.
    for given in jax.device_put([[as_array(grad, dtype) for grad in row] for row in grads]):
        out = optimizer.step(given if case.group is None else [given[::2], given[1::2]])
        seen.append(in_order(case, [np.asarray(x, np.float64) for x in jax.tree.leaves(out)]))
    return seen, optimizer


def as_array(grad: Any, dtype: Any = None) -> Any:
    """A gradient of `problem` as JAX takes it."""
    if isinstance(grad, Entries):
        return BCOO((jnp.asarray(grad.data, dtype), jnp.asarray(grad.indices)), shape=grad.shape)
    return None if grad is None else np.asarray(grad, dtype)


def in_order(case: Case, arrays: list[Any]) -> list[Any]:
    """The params as `problem` lists them; with two groups every other one is in the second."""
    if case.group is None:
        return arrays
    half = (len(arrays) + 1) // 2
    out = list(arrays)
    out[::2], out[1::2] = arrays[:half], arrays[half:]
    return out


def minimise(case: Case, steps: int, dtype: Any) -> tuple[list[float], list[np.ndarray], Any]:
    """What `minimise_in_torch` does."""
    start, (weights, *_) = problem(case, 1)
    optimizer = optim.LBFGS([jnp.asarray(value, dtype) for value in start], **case.options)
    loss = partial(convex, jnp, [jnp.asarray(w, dtype) for w in weights])
    losses = [float(optimizer.step(loss)) for _ in range(steps)]
    return losses, [np.asarray(param, np.float64) for param in optimizer.params], optimizer


def distance(found: list[np.ndarray], wanted: list[np.ndarray], start: list[np.ndarray]) -> float:
    """The largest difference of two ends of a way, in units of its largest displacement."""
    apart = max(np.max(np.abs(a - b), initial=0) for a, b in zip(found, wanted, strict=True))
    way = max(np.max(np.abs(b - s), initial=0) for b, s in zip(wanted, start, strict=True))
    return float(apart / way) if way else float(apart)

"""Configurations of every optimizer, to run here and in PyTorch: its own test database, and ours."""

import sys
import types
import unittest
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

if "expecttest" not in sys.modules:  # PyTorch's database imports it, and uses two names of it
    stub = types.ModuleType("expecttest")
    stub.TestCase, stub.ACCEPT = unittest.TestCase, False  # type: ignore[attr-defined]  # a module made by hand
    sys.modules["expecttest"] = stub
from torch.testing._internal.common_optimizers import OptimizerErrorEnum as OptimizerErrorEnum
from torch.testing._internal.common_optimizers import optim_db as optim_db

SHAPES = [(4, 3), (5,), (2, 3, 4), ()]
MATRICES = [(4, 3), (3, 5), (4, 3)]


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
        return MATRICES if self.name == "Muon" else SHAPES


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


def problem(case: Case, steps: int, seed: int = 0) -> tuple[list[np.ndarray], list[list[np.ndarray | None]]]:
    """Params, and gradients for each step, None where a param has none."""
    rng = np.random.default_rng(seed)
    params = [0.05 * rng.normal(size=shape) for shape in case.shapes]
    grads: list[list[np.ndarray | None]] = []
    for step in range(steps):
        row = [rng.normal(size=shape) for shape in case.shapes]
        grads.append([None if i in case.absent.get(step, ()) else g for i, g in enumerate(row)])
    return params, grads


def grouped(case: Case, params: list[Any]) -> Any:
    """The params as the constructor takes them."""
    if case.group is None:
        return params
    return [{"params": params[::2]}, {"params": params[1::2], **case.group}]


def run_torch(case: Case, steps: int, dtype: torch.dtype = torch.float64) -> Any:
    """Params after each step in PyTorch, and the optimizer."""
    values, grads = problem(case, steps)
    params = [torch.nn.Parameter(torch.tensor(p, dtype=dtype)) for p in values]
    optimizer = getattr(torch.optim, case.name)(grouped(case, params), **case.options)
    seen = []
    for row in grads:
        for param, grad in zip(params, row, strict=True):
            param.grad = None if grad is None else torch.tensor(grad, dtype=dtype)
        optimizer.step()
        seen.append([param.detach().double().numpy().copy() for param in params])
    return seen, optimizer

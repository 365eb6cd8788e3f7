"""Optimizers of matrices, each beside PyTorch's or another's in it, with what is asked of its step."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradtx
from gradtx import GradientTransformation

EVERY = 10
"""Steps between two refreshes."""


@dataclass(frozen=True)
class Case:
    """A step that is timed beside another's.

    Attributes:
        name: as the page has it.
        make: the optimizer, for params that are all matrices.
        theirs: who it stands beside, and how that is made of a list of `torch.nn.Parameter`.
        limit: the most that its step may take, × theirs; None where nothing is asked.
        period: after how many steps the work repeats.
        even: whether its worst step is to be near the mean.
    """

    name: str
    make: Callable[[], GradientTransformation]
    theirs: tuple[str, Callable[[list[Any]], Any]]
    limit: float | None = None
    period: int = 1
    even: bool = False


def torch_muon(params: list[Any]) -> Any:
    import torch

    return torch.optim.Muon(params, 0.02)


def other(name: str, **options: Any) -> tuple[str, Callable[[list[Any]], Any]]:
    """An optimizer of pytorch_optimizer."""

    def make(params: list[Any]) -> Any:
        return getattr(importlib.import_module("pytorch_optimizer"), name)(params, **options)

    return f"pytorch_optimizer.{name}", make


TORCH_MUON = "torch.optim.Muon", torch_muon

CASES = [
    Case("muon, bfloat16", lambda: gradtx.muon(0.02, ns_dtype="bfloat16"), TORCH_MUON, 0.4),
    Case("muon, float32", lambda: gradtx.muon(0.02), TORCH_MUON, 0.7),
    Case("torch.optim.muon", lambda: gradtx.torch.optim.muon(0.02), TORCH_MUON, 0.4),
    Case(
        "soap",
        lambda: gradtx.soap(3e-3, every=EVERY),
        other("SOAP", lr=3e-3, precondition_frequency=EVERY),
        0.7,
        EVERY,
        even=True,
    ),
    Case(
        "shampoo",
        lambda: gradtx.shampoo(3e-3, every=EVERY),
        other("Shampoo", lr=3e-3, preconditioning_compute_steps=EVERY),
        0.7,
        EVERY,
        even=True,
    ),
    Case(
        "kron",
        lambda: gradtx.kron(3e-4, probability=1.0),
        other("Kron", lr=3e-4, pre_conditioner_update_probability=1.0),
    ),
]
"""The last one with its factors moved at every step, as in the beginning of a training."""

CASES = [case for case in CASES if hasattr(gradtx, case.name.split(",")[0].split(".")[0])]

ALONE: dict[str, Callable[[], GradientTransformation]] = {
    "adamw": lambda: gradtx.adamw(1e-3),
    "muon": lambda: gradtx.muon(0.02),
    "muon, bfloat16": lambda: gradtx.muon(0.02, ns_dtype="bfloat16"),
    "soap": lambda: gradtx.soap(3e-3, every=EVERY),
    "shampoo": lambda: gradtx.shampoo(3e-3, every=EVERY),  # pyright: ignore[reportAttributeAccessIssue]
    "kron, between two moves": lambda: gradtx.kron(3e-4, probability=0.0),
    "kron, when factors move": lambda: gradtx.kron(3e-4, probability=1.0),
}
"""Whose steps are timed over the width of a matrix."""

ALONE = {name: make for name, make in ALONE.items() if hasattr(gradtx, name.split(",")[0])}


def is_there(case: Case) -> bool:
    """Whether the library that it stands beside is installed."""
    return importlib.util.find_spec(case.theirs[0].split(".")[0]) is not None

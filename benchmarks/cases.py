"""The optimizers, each once: how gradtx and Optax make it, mostly by the same line, and how PyTorch does."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import jax

Step = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """An optimizer.

    Attributes:
        make: from a library, gradtx or Optax, to the transformation.
        torch: from the module torch, a list of parameters that have gradients, and flags such as
            ``fused=True``, to a function that takes a step. None where PyTorch has no such optimizer.
        calls: the steps after which it has done all that it does.
        again: the bytes per parameter that any program must read a second time, because a number of the
            whole tree or tensor has to be known in between. None where the work is no pass over memory.
    """

    make: Callable[[Any], Any]
    torch: Callable[..., Step] | None = None
    calls: int = 1
    again: int | None = 0


def in_torch(name: str, **options: Any) -> Callable[..., Step]:
    """A class of `torch.optim`, as it is."""
    return lambda torch, params, **flags: getattr(torch.optim, name)(params, **options, **flags).step


def clipped_in_torch(torch: Any, params: list[Any], **flags: Any) -> Step:
    """Clipping is a function of its own there."""
    optimizer = torch.optim.AdamW(params, 1e-3, **flags)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()

    return step


def scheduled_in_torch(torch: Any, params: list[Any], **flags: Any) -> Step:
    """A scheduler sets the rate after each step."""
    optimizer = torch.optim.AdamW(params, 1e-3, **flags)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10_000)

    def step() -> None:
        optimizer.step()
        scheduler.step()

    return step


def groups_in_torch(torch: Any, params: list[Any], **flags: Any) -> Step:
    """Vectors in a group of their own, without weight decay."""
    matrices = [param for param in params if param.ndim > 1]
    vectors = [param for param in params if param.ndim < 2]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, 1e-3, weight_decay=0.1, **flags).step


def muon_in_torch(torch: Any, params: list[Any], **flags: Any) -> Step:
    """Muon for the matrices, AdamW for the rest, which takes the flags."""
    muon = torch.optim.Muon([param for param in params if param.ndim == 2], 1e-3, weight_decay=0.0)
    rest = [param for param in params if param.ndim != 2]
    adamw = torch.optim.AdamW(rest, 1e-3, weight_decay=0.0, **flags)

    def step() -> None:
        muon.step()
        adamw.step()

    return step


def two_groups(library: Any) -> Any:
    """Vectors without weight decay. Optax has no groups: there it is an optimizer for each."""
    kinds = lambda params: jax.tree.map(lambda x: "matrix" if x.ndim > 1 else "vector", params)  # noqa: E731
    adamw = partial(library.adamw, 1e-3)
    if hasattr(library, "groups"):
        return library.groups(adamw(weight_decay=0.1), {"vector": {"weight_decay": 0.0}}, kinds)
    return library.partition({"matrix": adamw(weight_decay=0.1), "vector": adamw(weight_decay=0.0)}, kinds)


CASES: dict[str, Case] = {
    "sgd": Case(lambda library: library.sgd(0.1), in_torch("SGD", lr=0.1)),
    "sgd(momentum)": Case(
        lambda library: library.sgd(0.1, momentum=0.9), in_torch("SGD", lr=0.1, momentum=0.9)
    ),
    "sgd(nesterov)": Case(
        lambda library: library.sgd(0.1, momentum=0.9, nesterov=True),
        in_torch("SGD", lr=0.1, momentum=0.9, nesterov=True),
    ),
    "adagrad": Case(lambda library: library.adagrad(0.1), in_torch("Adagrad", lr=0.1)),
    "rmsprop": Case(lambda library: library.rmsprop(1e-3), in_torch("RMSprop", lr=1e-3, alpha=0.9)),
    "adam": Case(lambda library: library.adam(1e-3), in_torch("Adam", lr=1e-3)),
    "adamw": Case(lambda library: library.adamw(1e-3), in_torch("AdamW", lr=1e-3, weight_decay=1e-4)),
    "amsgrad": Case(lambda library: library.amsgrad(1e-3), in_torch("Adam", lr=1e-3, amsgrad=True)),
    "lion": Case(lambda library: library.lion(1e-4)),
    # The norms of the params and of Adam's direction: both moments and the params are read twice.
    "lamb": Case(lambda library: library.lamb(1e-3), again=12),
    "chain(clip, adamw)": Case(
        lambda library: library.chain(library.clip_by_global_norm(1.0), library.adamw(1e-3)),
        clipped_in_torch,
        again=4,
    ),
    "adamw(schedule)": Case(
        lambda library: library.adamw(library.cosine_decay_schedule(1e-3, 10_000)), scheduled_in_torch
    ),
    "adamw, two groups": Case(two_groups, groups_in_torch),
    "apply_if_finite(adamw)": Case(lambda library: library.apply_if_finite(library.adamw(1e-3), 5), again=4),
    "MultiSteps(adamw, 4)": Case(
        lambda library: library.MultiSteps(library.adamw(1e-3), 4), calls=4, again=None
    ),
    "muon": Case(lambda library: library.contrib.muon(1e-3), muon_in_torch, again=None),
}

MORE = """
adabelief adadelta adafactor adamax adamaxw adan fromage lars nadam nadamw novograd optimistic_adam_v2
optimistic_gradient_descent radam rprop sign_sgd signum sm3 yogi contrib.acprop contrib.ademamix contrib.adopt
contrib.cocob contrib.dadapt_adamw contrib.dog contrib.dowg contrib.galore contrib.madgrad contrib.prodigy
contrib.schedule_free_adamw contrib.schedule_free_sgd contrib.simplified_ademamix
"""


def named(name: str) -> Case:
    """The recipe of this name, with a learning rate and otherwise as it comes."""
    return Case(lambda library: attrgetter(name)(library)(learning_rate=1e-3), again=None)


RECIPES: dict[str, Case] = {name: named(name) for name in MORE.split()}
"""All others that both libraries have, but those whose update needs more than gradients and params."""

"""Which recipes there are, found in the library, and what each needs beyond a learning rate."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradtx
from gradtx import GradientTransformation, contrib
from gradtx.contrib.privacy import PerExample
from gradtx.values.factory import factory_of

RATES = ("learning_rate", "max_learning_rate")
"""What a factory that trains on its own calls its learning rate."""


@dataclass(frozen=True)
class Recipe:
    """An optimizer under comparison.

    Attributes:
        name: as the library has it, or a wrapper's around another.
        make: how to make it from a learning rate, a number or a schedule.
        swept: whether there is a learning rate to choose; otherwise it is 1.
        unit: what the learning rates of the sweep are multiples of.
        falls: whether the learning rate falls to 0 along a line.
        full_batch: whether each step sees all data.
        timed: whether its step has a time of its own; a line search's is that of the losses it asks for.
        note: what the table says of it.
    """

    name: str
    make: Callable[[Any], GradientTransformation]
    swept: bool = True
    unit: float = 1.0
    falls: bool = True
    full_batch: bool = False
    timed: bool = True
    note: str = ""

    def of(self, rate: Any, steps: int) -> GradientTransformation:
        """The optimizer for a training of so many steps."""
        return self.make(gradtx.linear_schedule(rate, 0.0, steps) if self.falls else rate)


@dataclass(frozen=True)
class Need:
    """What a recipe of the library needs: arguments besides the learning rate, and fields of `Recipe`."""

    arguments: dict[str, Any]
    fields: dict[str, Any]


def need(arguments: dict[str, Any] | None = None, **fields: Any) -> Need:
    """For short."""
    return Need(arguments or {}, fields)


ELSEWHERE = ("kl_shampoo", "kl_soap", "kron", "shampoo", "soap")
"""What decomposes matrices, for which a sweep over both tasks takes ten minutes: see benchmarks/matrix.py."""

NEEDS = {
    "adafactor": need(note="rate relative to each tensor's size; small matrices are not factored"),
    "adahessian": need(
        note="told an estimate of the Hessian's diagonal at every step; its time is without it"
    ),
    "adam_mini": need(note="one block for each tensor here; the blocks of its authors have 4.0"),
    "amos": need(falls=False, note="the rate stays, steps fade by themselves; no scales given"),
    "fromage": need(note="no weight decay needed: norms hardly change"),
    "ftrl": need(falls=False, note="rate stays: it falls as Adagrad's by itself"),
    "lamb": need(note="for batches of thousands"),
    "lars": need(note="for batches of thousands; rate × 0.001 is the step relative to a tensor"),
    "lbfgs": need(
        swept=False,
        falls=False,
        full_batch=True,
        timed=False,
        note="full batch, 30 steps, each with a line search",
    ),
    "noisy_sgd": need(note="noise of variance 0.01 / t^0.55 on each gradient"),
    "optimistic_adam_v2": need(note="for games of two players"),
    "optimistic_gradient_descent": need(note="for games of two players"),
    "polyak_sgd": need(note="told the loss; the rate is an upper bound"),
    "rprop": need(
        unit=1e-2, falls=False, full_batch=True, note="full batch, 30 steps; the rate is the first step"
    ),
    "contrib.acprop": need(
        dict(eps=1e-3), note="`eps=1e-3`; with 1e-16, its default, it diverges where gradients were always 0"
    ),
    "contrib.apollo": need(dict(rank=8), note="rank 8, for large matrices"),
    "contrib.cocob": need(swept=False, falls=False, note="no rate to choose"),
    "contrib.dadapt_adamw": need(swept=False, note="no rate to choose"),
    "contrib.dog": need(
        swept=False, falls=False, note="no rate to choose; its authors average the params, not done here"
    ),
    "contrib.dowg": need(
        swept=False, falls=False, note="no rate to choose; on the digits its steps grow too long"
    ),
    "contrib.dpsgd": need(
        dict(l2_norm_clip=1.0, noise_multiplier=0.5, seed=0),
        note="gradients per example, clipped to norm 1, with noise: privacy has its price",
    ),
    "contrib.fira": need(
        dict(rank=8), note="rank 8, for large matrices; one of the ten steps has the SVD of every 200th"
    ),
    "contrib.galore": need(
        dict(rank=8), note="rank 8, for large matrices; one of the ten steps has the SVD of every 200th"
    ),
    "contrib.momo": need(note="told the loss; the rate is an upper bound"),
    "contrib.momo_adam": need(note="told the loss; the rate is an upper bound"),
    "muon": need(note="AdamW for what is no matrix"),
    "scion": need(note="in balls of radius 1: it wants a norm and a radius for each kind of layer"),
    "contrib.prodigy": need(swept=False, note="no rate to choose"),
    "contrib.schedule_free_adamw": need(falls=False, note="rate stays; evaluated at the average"),
    "contrib.schedule_free_radam": need(falls=False, note="rate stays; evaluated at the average"),
    "contrib.schedule_free_sgd": need(falls=False, note="rate stays; evaluated at the average"),
    "contrib.simplified_ademamix": need(unit=1e-2, note="adds up gradients: rates are a hundredth of Adam's"),
    "contrib.sophia": need(note="estimates the Hessian's diagonal every 10 steps"),
}

WRAPPED = [
    Recipe("sgd(momentum=0.9)", lambda rate: gradtx.sgd(rate, momentum=0.9)),
    Recipe(
        "lookahead(adam)",
        lambda rate: gradtx.lookahead(gradtx.adam(rate), sync_period=5, slow_step_size=0.5),
        note="evaluated at the slow params",
    ),
    Recipe(
        "chain(sgd, backtracking)",
        lambda rate: gradtx.chain(
            gradtx.sgd(rate), gradtx.scale_by_backtracking_linesearch(15, max_learning_rate=10.0)
        ),
        swept=False,
        falls=False,
        timed=False,
        note="no rate to choose: a line search on each batch",
    ),
    Recipe(
        "contrib.mechanize(adam)",
        lambda rate: contrib.mechanize(gradtx.adam(rate)),
        swept=False,
        note="no rate to choose",
    ),
    Recipe(
        "contrib.sam(sgd)",
        lambda rate: contrib.sam(
            gradtx.sgd(rate), gradtx.chain(contrib.normalize(), gradtx.sgd(0.05)), opaque_mode=True
        ),
        note="two gradients per step",
    ),
    Recipe(
        "chain(adam, contrib.reduce_on_plateau)",
        lambda rate: gradtx.chain(
            gradtx.adam(rate), contrib.reduce_on_plateau(0.5, patience=5, accumulation_size=10)
        ),
        falls=False,
        note="told the loss of the batch, means of 10; the rate stays until these no longer fall",
    ),
]
"""Wrappers do not train alone, so each stands around a recipe; and momentum, which SGD lacks by default."""


def found() -> Iterator[tuple[str, Callable[..., GradientTransformation], str]]:
    """The public factories of the library that train on their own, and the argument that is their rate."""
    for prefix, room in (("", gradtx), ("contrib.", contrib)):
        for name in sorted(dir(room)):
            factory = getattr(room, name)
            if name in ELSEWHERE or (room is contrib and getattr(gradtx, name, None) is factory):
                continue
            if (
                hasattr(factory, "factory")
                and inspect.isfunction(factory)
                and not name.startswith(("_", "scale_by_", "add_"))
            ):
                arguments = factory_of(factory).signature.parameters
                rates = [rate for rate in RATES if rate in arguments]
                if rates and not wraps(arguments.values()):
                    yield prefix + name, factory, rates[0]


def wraps(arguments: Any) -> bool:
    """Whether one of these arguments must be a transformation."""
    return any(p.annotation is GradientTransformation and p.default is p.empty for p in arguments)


def recipes() -> list[Recipe]:
    """All of them: those of the library by name, then those that are wrapped."""
    out = []
    for name, factory, rate in found():
        given = NEEDS.get(name, need())
        make = partial(with_rate, factory, rate, given.arguments)
        out.append(Recipe(name, make, **given.fields))
    return out + WRAPPED


def with_rate(
    factory: Callable[..., GradientTransformation], argument: str, others: dict[str, Any], rate: Any
) -> GradientTransformation:
    """What a factory makes of a learning rate."""
    return factory(**{argument: rate}, **others)


def is_told_the_hessian(tx: GradientTransformation) -> bool:
    """Whether it asks for the diagonal of the Hessian."""
    return "hessian" in tx.plan.needs


def is_per_example(tx: GradientTransformation) -> bool:
    """Whether it takes the gradients of each example."""
    return any(isinstance(stage, PerExample) for stage in tx.stages)

"""Timing sides by turns, and counting compilations."""

import gc
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Measured = TypeVar("Measured")

Sample = Callable[[], float]
"""Does the work once and returns the seconds it took, preparation not counted."""


@dataclass(frozen=True)
class Quartiles:
    """The middle of a set of samples and its spread."""

    median: float
    lower: float
    upper: float
    samples: int

    @classmethod
    def of(cls, samples: list[float]) -> "Quartiles":
        lower, median, upper = quantiles(samples, n=4, method="inclusive")
        return cls(median, lower, upper, len(samples))


@dataclass(frozen=True)
class Effort:
    """How long to go on: until there are `least` rounds and `seconds` have passed, or `most` rounds."""

    least: int
    most: int
    seconds: float


@dataclass(frozen=True)
class Times:
    """Seconds of each side, and the ratio of the first side's to those of each other, round by round."""

    seconds: dict[str, Quartiles]
    ratios: dict[str, Quartiles]


def compare(sides: Mapping[str, Sample], effort: Effort) -> Times:
    """Run all in rounds, see `by_turns`, and hold the first against the others."""
    return times(by_turns(sides, effort))


def times(seconds: Mapping[str, list[float]]) -> Times:
    """What the samples of the sides come to."""
    ours, *others = seconds
    return Times(
        {side: Quartiles.of(own) for side, own in seconds.items()},
        {side: ratio(seconds[ours], seconds[side]) for side in others},
    )


def by_turns(sides: Mapping[str, Callable[[], Measured]], effort: Effort) -> dict[str, list[Measured]]:
    """What each side measures, mostly seconds: all run in rounds, each time in random order.

    A disturbance of the machine that outlasts a round falls on all sides and leaves their ratios alone.
    """
    order = random.Random(0)
    measured: dict[str, list[Measured]] = {name: [] for name in sides}
    begin, rounds = time.perf_counter(), 0
    while rounds < effort.least or (rounds < effort.most and time.perf_counter() - begin < effort.seconds):
        for name in order.sample(list(sides), len(sides)):
            measured[name].append(sides[name]())
        rounds += 1
    return measured


def ratio(ours: list[float], theirs: list[float]) -> Quartiles:
    """Of two sides, round by round."""
    return Quartiles.of([a / b for a, b in zip(ours, theirs, strict=True)])


def seconds_of(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    """The time of one call; garbage is collected before, and the result freed after, not during."""
    gc.collect()
    gc.disable()
    try:
        begin = clock()
        result = work()
        seconds = clock() - begin
        del result
        return seconds
    finally:
        gc.enable()


def step_of(library: Any, tx: Any) -> Callable[..., Any]:
    """A training step without the model; a new function object at each call, which `jit` has not seen."""

    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return library.apply_updates(params, updates), state

    return step


def jitted_step(library: Any, make: Callable[[Any], Any], params: Any, grads: Any, calls: int = 1) -> Sample:
    """The compiled step with donated params and state, from the call until all outputs are there.

    With several `calls`, a sample is that many steps in a row.
    """
    tx = make(library)
    step = jax.jit(step_of(library, tx), donate_argnums=(0, 1))
    return from_copies(step, (params, tx.init(params)), grads, calls)


def from_copies(step: Callable[..., Any], begin: Any, grads: Any, calls: int = 1) -> Sample:
    """A compiled ``step(params, state, grads)`` that donates, from fresh copies of where it begins.

    Stepping on in the same buffers, the side whose buffers were made first was up to 9 % slower,
    whichever side that was: some places in memory are better than others.
    """

    def sample() -> float:
        given = jax.block_until_ready(jax.tree.map(jnp.copy, begin))
        start = time.perf_counter()
        for _ in range(calls):
            given = step(*given, grads)
        jax.block_until_ready(given)
        seconds = time.perf_counter() - start
        del given
        return seconds

    for _ in range(3):
        sample()  # compiles, and lets the allocator settle
    return sample


def stepping(library: Any, make: Callable[[Any], Any], params: Any, grads: Any, calls: int = 1) -> Sample:
    """`jitted_step`, going on from where the last sample ended, in its own buffers, as PyTorch does."""
    tx = make(library)
    given = jax.tree.map(jnp.copy, (params, tx.init(params)))
    step = jax.jit(step_of(library, tx), donate_argnums=(0, 1))

    def work() -> Any:
        nonlocal given
        for _ in range(calls):
            given = step(*given, grads)
        return given

    return until_ready(work)


def until_ready(work: Callable[[], Any]) -> Sample:
    """The time of a call, until all that it returns is there, after three for compilation."""

    def sample() -> float:
        begin = time.perf_counter()
        jax.block_until_ready(work())
        return time.perf_counter() - begin

    for _ in range(3):
        sample()
    return sample


REST = 0.03
"""Seconds after which the threads of PyTorch, which spin for a while after their work, leave the cores."""


def rested(sample: Sample) -> Sample:
    """The sample of another library than PyTorch, beside PyTorch."""

    def after_rest() -> float:
        time.sleep(REST)
        return sample()

    return after_rest


class Compilations:
    """Counts what XLA compiles, or another event of jax, anywhere in the process."""

    COMPILED = "/jax/core/compile/backend_compile_duration"
    TRACED = "/jax/core/compile/jaxpr_trace_duration"

    def __init__(self, event: str = COMPILED) -> None:
        self.total, self.event = 0, event
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def _hear(self, event: str, duration_secs: float, **_: Any) -> None:
        self.total += event == self.event

    def during(self, work: Callable[[], Any]) -> int:
        """How many happen during this call."""
        before = self.total
        work()
        return self.total - before

"""Timing sides by turns, and counting compilations."""

import gc
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

import jax
import jax.numpy as jnp

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
class Comparison:
    """Seconds of both sides, and their ratio pair by pair."""

    gradtx: Quartiles
    optax: Quartiles
    ratio: Quartiles


def compare(gradtx: Sample, optax: Sample, effort: Effort) -> Comparison:
    """Run both in pairs; see `by_turns`."""
    ours, theirs = by_turns({"gradtx": gradtx, "optax": optax}, effort).values()
    return Comparison(Quartiles.of(ours), Quartiles.of(theirs), ratio(ours, theirs))


def by_turns(sides: Mapping[str, Sample], effort: Effort) -> dict[str, list[float]]:
    """The seconds of each side: all run in rounds, each time in random order.

    A disturbance of the machine that outlasts a round falls on all sides and leaves their ratios alone.
    """
    order, seconds = random.Random(0), {name: [] for name in sides}
    begin, rounds = time.perf_counter(), 0
    while rounds < effort.least or (rounds < effort.most and time.perf_counter() - begin < effort.seconds):
        for name in order.sample(list(sides), len(sides)):
            seconds[name].append(sides[name]())
        rounds += 1
    return seconds


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


def jitted_step(library: Any, make: Callable[[Any], Any], params: Any, grads: Any) -> Sample:
    """The compiled step with donated params and state, from the call until all outputs are there.

    It gets fresh copies each time. Stepping on in the same buffers, the side whose buffers were made
    first was up to 9 % slower, whichever side that was: some places in memory are better than others.
    """
    tx = make(library)
    state = tx.init(params)
    step = jax.jit(step_of(library, tx), donate_argnums=(0, 1))

    def sample() -> float:
        given = jax.block_until_ready(jax.tree.map(jnp.copy, (params, state)))
        begin = time.perf_counter()
        result = jax.block_until_ready(step(*given, grads))
        seconds = time.perf_counter() - begin
        del result
        return seconds

    for _ in range(3):
        sample()  # compiles, and lets the allocator settle
    return sample


def warm_trace(library: Any, make: Callable[[Any], Any], params: Any, grads: Any) -> Sample:
    """Tracing the step of a newly built optimizer, with what earlier traces left in the caches.

    Tracing is Python in one thread, so its processor time is what it takes on a machine of its own.
    """
    state = make(library).init(params)

    def sample() -> float:
        step = jax.jit(step_of(library, make(library)))
        return seconds_of(lambda: step.trace(params, state, grads), time.thread_time)

    sample()
    return sample


def cold_trace(library: Any, make: Callable[[Any], Any], params: Any, grads: Any) -> Sample:
    """The same, with every cache of jax emptied before: the first trace of a process."""
    warm = warm_trace(library, make, params, grads)

    def sample() -> float:
        jax.clear_caches()
        return warm()

    return sample


def eager_update(library: Any, make: Callable[[Any], Any], params: Any, grads: Any) -> Sample:
    """`update` outside `jit`, after the first call, until all outputs are there."""
    tx = make(library)
    state = tx.init(params)
    work = lambda: jax.block_until_ready(tx.update(grads, state, params))  # noqa: E731
    work()
    return lambda: seconds_of(work, time.perf_counter)


class Compilations:
    """Counts what XLA compiles, anywhere in the process."""

    EVENT = "/jax/core/compile/backend_compile_duration"

    def __init__(self) -> None:
        self.total = 0
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def _hear(self, event: str, _: float, **__: Any) -> None:
        self.total += event == self.EVENT

    def during(self, work: Callable[[], Any]) -> int:
        """How many happen during this call."""
        before = self.total
        work()
        return self.total - before

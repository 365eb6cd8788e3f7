"""What a step costs before it runs for the first time."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import report
import speed
from report import Row
from setting import LIBRARIES, Setting
from speed import Sample

PARTS = ("lower", "compile", "first call")


def trace(setting: Setting) -> Iterator[Row]:
    """Tracing the step of a new optimizer, without and with what earlier traces left in the caches."""
    for name, cold in {"trace, cold": True, "trace, warm": False}.items():
        sides = {side: tracing(library, setting, cold) for side, library in LIBRARIES.items()}
        yield report.timed(name, setting.name, setting.tree, speed.compare(sides, setting.effort))


def tracing(library: Any, setting: Setting, cold: bool) -> Sample:
    """Tracing is Python in one thread, so its processor time is what it takes on a machine of its own."""
    make = setting.case.make
    state = make(library).init(setting.params)

    def sample() -> float:
        if cold:
            jax.clear_caches()
        step = jax.jit(speed.step_of(library, make(library)))
        return speed.seconds_of(lambda: step.trace(setting.params, state, setting.grads), time.thread_time)

    sample()
    return sample


def first_call(setting: Setting) -> Iterator[Row]:
    """The first call after emptied caches: lowering, compiling, and all of it with tracing and one step."""
    sides = {side: beginning(library, setting) for side, library in LIBRARIES.items()}
    measured = speed.by_turns(sides, setting.long_effort)
    for part in PARTS:
        seconds = {side: [sample[part] for sample in own] for side, own in measured.items()}
        yield report.timed(part, setting.name, setting.tree, speed.times(seconds))


def beginning(library: Any, setting: Setting) -> Callable[[], dict[str, float]]:
    """The seconds of each part."""
    make, params, grads = setting.case.make, setting.params, setting.grads
    state = make(library).init(params)

    def sample() -> dict[str, float]:
        jax.clear_caches()
        step = jax.jit(speed.step_of(library, make(library)))
        begin = time.perf_counter()
        traced = step.trace(params, state, grads)
        at_lower = time.perf_counter()
        lowered = traced.lower()
        at_compile = time.perf_counter()
        compiled = lowered.compile()
        compiled_at = time.perf_counter()
        jax.block_until_ready(compiled(params, state, grads))
        end = time.perf_counter()
        return dict(zip(PARTS, (at_compile - at_lower, compiled_at - at_compile, end - begin), strict=True))

    return sample

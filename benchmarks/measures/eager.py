"""Outside `jit`: `init`, and `update` as a notebook calls it."""

import time
from collections.abc import Iterator
from typing import Any

import jax
import report
import speed
from report import Row
from setting import LIBRARIES, Setting
from speed import Compilations, Sample


def eager(setting: Setting) -> Iterator[Row]:
    """After the first call, until all outputs are there; and whether a later `update` traces anything."""
    where = setting.name, setting.tree
    yield report.timed("init", *where, speed.compare(samples(setting, init), setting.effort))
    yield report.timed("eager update", *where, speed.compare(samples(setting, update), setting.effort))
    traced = Compilations(Compilations.TRACED)
    counts = {side: traced.during(sample) for side, sample in samples(setting, update).items()}
    yield report.counted("eager, traced again", *where, counts, counts["gradtx"])


def samples(setting: Setting, sampler: Any) -> dict[str, Sample]:
    """One for each library."""
    return {side: sampler(setting.case.make(library), setting) for side, library in LIBRARIES.items()}


def init(tx: Any, setting: Setting) -> Sample:
    """`init` of params that are there."""
    return warm(lambda: tx.init(setting.params))


def update(tx: Any, setting: Setting) -> Sample:
    """`update` alone, always of the same state."""
    state = tx.init(setting.params)
    return warm(lambda: tx.update(setting.grads, state, setting.params))


def warm(work: Any) -> Sample:
    """The second call and those after it."""
    ready = lambda: jax.block_until_ready(work())  # noqa: E731
    ready()
    return lambda: speed.seconds_of(ready, time.perf_counter)

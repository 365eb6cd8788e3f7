"""Memory: what a step needs besides its inputs and outputs, and the size of the state."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import report
from report import Row
from setting import LIBRARIES, Setting, program

ALIGNMENT = 64
"""The bytes that the smallest buffer takes: one for each tensor, of a number of its own, is no waste."""

IN_ORDER = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
"""XLA's way to compile where memory is short; its own choice on a CPU is to work on many tensors at once."""


def memory(setting: Setting) -> Iterator[Row]:
    """From the compiled program; and once more, tensor after tensor, if it takes more than one tensor."""
    row = extra_memory("extra memory", setting)
    yield row
    if row.judged > 1 and jax.default_backend() == "cpu":
        yield extra_memory("extra memory, in order", setting, **IN_ORDER)
    sizes = {side: 4 * state_bytes(setting, side) / sum(setting.sizes) for side in LIBRARIES}
    cells = {side: f"{own:.2f} B" for side, own in sizes.items()}
    yield report.row("state per parameter", setting.name, setting.tree, cells, sizes["gradtx"], "B", sizes)


def extra_memory(measure: str, setting: Setting, **options: str) -> Row:
    """Temporary buffers, and outputs that do not reuse the memory of an input."""
    extra = {side: extra_bytes(program(setting, side, **options)) for side in LIBRARIES}
    allowed = max(setting.sizes) + ALIGNMENT * len(setting.sizes)
    total = sum(setting.sizes)
    cells = {side: f"{report.amount(own)} ({own / total:.2f} × params)" for side, own in extra.items()}
    raw = {**extra, "largest tensor": max(setting.sizes), "params": total}
    return report.row(
        measure, setting.name, setting.tree, cells, extra["gradtx"] / allowed, "× a tensor", raw
    )


def extra_bytes(compiled: Any) -> int:
    """Of a compiled program, what the inputs do not hold."""
    found = compiled.memory_analysis()
    return found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes


def state_bytes(setting: Setting, side: str) -> int:
    """Of all arrays in the state."""
    state = jax.eval_shape(setting.case.make(LIBRARIES[side]).init, setting.params)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))


def resident(setting: Setting) -> Iterator[Row]:
    """From the system: how far a donated step raises what the process holds in memory at most.

    Linux alone can set that mark back. It moves by pages and allocators, so only large trees show anything.
    """
    if jax.default_backend() != "cpu" or not RESET.exists():
        return
    raised = {side: raised_by(setting, side) for side in LIBRARIES}
    total = sum(setting.sizes)
    cells = {side: f"{report.amount(own)} ({own / total:.2f} × params)" for side, own in raised.items()}
    judged = raised["gradtx"] / total
    yield report.row("resident memory", setting.name, setting.tree, cells, judged, "× params", raised)


RESET = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


def raised_by(setting: Setting, side: str) -> int:
    """The peak during one step, less what the process held before."""
    step = program(setting, side)
    params = jax.tree.map(jnp.copy, setting.params)
    given = params, setting.case.make(LIBRARIES[side]).init(params)
    for _ in range(2):
        given = jax.block_until_ready(step(*given, setting.grads))
    time.sleep(0.2)  # temporary buffers are given back by another thread, after the outputs are ready
    RESET.write_text("5")
    before = resident_bytes("VmRSS")
    jax.block_until_ready(step(*given, setting.grads))
    return max(0, resident_bytes("VmHWM") - before)


def resident_bytes(name: str) -> int:
    """A line of the process's status, which is in kB."""
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    return 1024 * int(found[1]) if found else 0

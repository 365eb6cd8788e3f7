"""The compiled step as XLA describes it: how many kernels, and how many bytes they move."""

import re
from collections.abc import Iterator
from typing import Any

import report
from report import Row
from setting import LIBRARIES, Setting, program

from measures.memory import state_bytes

NO_WORK = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?\S+ = .*? ([\w-]+)\(.*?(?:to_apply=%?([\w.-]+)|$)", re.MULTILINE)
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) [^\n]*\{$(.*?)^\}", re.MULTILINE | re.DOTALL)


def kernels(setting: Setting) -> Iterator[Row]:
    """Instructions of the entry computation that do work, judged beside Optax's; bytes, beside the fewest."""
    programs = {side: program(setting, side) for side in LIBRARIES}
    counts = {side: count(own.as_text()) for side, own in programs.items()}
    ratio = counts["gradtx"] / max(counts["Optax"], 1)
    yield report.counted("kernels", setting.name, setting.tree, counts, ratio, "× Optax")
    fewest = fewest_bytes(setting)
    if fewest is None:
        return
    moved = {**{side: accessed(own) for side, own in programs.items()}, "fewest": fewest}
    params = sum(setting.sizes) / 4
    cells = {side: f"{own / params:.1f} B" for side, own in moved.items()}
    judged = moved["gradtx"] / fewest
    yield report.row("bytes per parameter", setting.name, setting.tree, cells, judged, "× the fewest", moved)


def count(text: str) -> int:
    """The instructions of a program's entry that do work: loops, fusions, copies; within calls, theirs."""
    bodies = {name: INSTRUCTION.findall(body) for _, name, body in COMPUTATION.findall(text)}
    (entry,) = (name for is_entry, name, _ in COMPUTATION.findall(text) if is_entry)

    def within(computation: str) -> int:
        working = [(name, called) for name, called in bodies[computation] if does_work(name)]
        return sum(within(called) if name == "call" else 1 for name, called in working)

    return within(entry)


def does_work(name: str) -> bool:
    """Whether instructions of this name run something, rather than name or await it."""
    return name not in NO_WORK and not name.endswith("-done")


def accessed(compiled: Any) -> float:
    """The bytes that all kernels read and write together."""
    analysis = compiled.cost_analysis()
    return (analysis[0] if isinstance(analysis, list) else analysis)["bytes accessed"]


def fewest_bytes(setting: Setting) -> int | None:
    """Params and state are read and written, gradients are read, and some of it `again`."""
    if setting.case.again is None:
        return None
    params, state = sum(setting.sizes), state_bytes(setting, "gradtx")
    return 3 * params + 2 * state + setting.case.again * params // 4

"""The page docs/performance.md, from the rows of a run."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import report
from report import Row
from summary import SERIES
from trees import GPT2, MANY

PAGE = """\
# Performance

## What makes a training fast

- **Gradient and update in one `jit`.** The first thing to look at: outside `jit` the gradient of a small
  network takes up to a hundred times as long. [The fast loop](install.md#the-fast-loop) shows it.
- **Donate what is replaced**: `donate_argnums` for params and state, so that a step writes where it has read.
  `gradtx.jit_step` does it by itself.
- **Many small steps in one `jax.lax.scan`**: a program for a hundred steps is called once.
- **A number that changes is an argument**: pass `tx` itself to the jitted step, and another learning rate
  compiles nothing. A schedule needs not even that.
- **Several trainings at once by `jax.vmap`**: `jax.vmap(gradtx.adamw)(rates)`, in below a tenth of the time
  that one after another takes.
- **Moments in fewer bytes**: a step waits for memory. [Fewer bytes](fewer_bytes.md) says what it costs.

## Measured

gradtx beside Optax {optax} and PyTorch {torch}, measured by

```
make bench ARGS="{flags}"
```

on {machine}, loaded {load:.1f} before, with JAX {jax} and Python {python}, in {minutes} minutes. A ratio
below 1 has gradtx ahead, one above 1 behind. It is taken pair by pair between runs that alternate in one
process, and shown as the median with its quartiles. `benchmarks/README.md` says how every number is taken.
Another machine has other numbers, which the same command finds.

{short}

{verdict}

{pictures}

## All numbers

{tables}
"""

PICTURES = {
    "step": (
        "The compiled step",
        "`update` and `apply_updates` in one program with donated buffers. Where the formula leaves XLA "
        "nothing to choose, both libraries give it the same loops, and the ratio is 1.",
    ),
    "start": (
        "Before the first step",
        "What a restart waits for. gradtx traces a rule once per shape: the more tensors of a shape, the "
        "smaller the ratio. XLA's own time comes on top, and is most of the first call.",
    ),
    "torch": (
        "Beside PyTorch",
        "`fused` is one pass over memory, written by hand. XLA's CPU backend makes a loop for every output, "
        "which reads again what the one before has read: where memory decides, `fused` is ahead.",
    ),
    "growth": (
        "Growth",
        "Time over the number of leaves at a fixed total, and over the total in 10 leaves. Dashed: linear.",
    ),
}

MEANINGS = {
    "step": "One compiled step, from the call until every output is there.",
    "step, geometric mean": "Over all optimizers and trees of the table `step`, without the growing ones.",
    "step, torch": "All step on in their own buffers. In brackets: gradtx's time over that side's.",
    "time × bandwidth": "The fewest bytes a step can move over its time, and in brackets the share of what "
    "scaling as large an array in place reaches.",
    "trace, cold": "Tracing the step of a new optimizer after all caches were emptied.",
    "trace, warm": "The same with the caches as they are.",
    "lower": "From the traced step to what XLA takes.",
    "compile": "XLA's own time.",
    "first call": "Tracing, lowering, compiling and one step, after all caches were emptied.",
    "init": "`init` outside `jit`.",
    "eager update": "`update` outside `jit`, after the first call.",
    "eager, traced again": "What is traced while an `update` outside `jit` is called once more.",
    "compilations": "Programs compiled while three numbers of `adamw` change one after another.",
    "sweep of 32": "One step at each of 32 learning rates: `vmap`, or one after another.",
    "extra memory": "Buffers that a donated step needs besides its inputs, from the compiled program.",
    "extra memory, in order": "The same of those that need more than a tensor, from a program that takes one "
    "tensor after the other. On a CPU, XLA makes it if it is told to save memory: `jax.jit(step, "
    'compiler_options={"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"})`.',
    "state per parameter": "Bytes of state for each number of the params.",
    "resident memory": "How far a donated step raises the most memory that the process holds.",
    "kernels": "Loops, fusions and calls of the compiled step.",
    "bytes per parameter": "Read and written by the kernels of the compiled step, and by the best of all.",
}


def page(header: dict[str, Any], rows: list[Row]) -> str:
    """The whole page."""
    measures = {row.measure for row in rows}
    return PAGE.format(
        **{"torch": "(not installed)"} | header["versions"] | {"python": header["python"]},
        flags=flags(header),
        minutes=max(1, round(header["seconds"] / 60)),
        machine=machine(header),
        load=header["load"][0],
        short=short(rows),
        verdict=verdict(rows),
        pictures="\n\n".join(pictures(measures)),
        tables="\n\n".join(tables(rows)),
    )


def machine(header: dict[str, Any]) -> str:
    """The processor, and the device if it is another."""
    processor = f"{header['cores']} cores of {header['cpu']}"
    return processor if header["device"] == "cpu" else f"{header['device']} beside {processor}"


def flags(header: dict[str, Any]) -> str:
    """What the run was started with."""
    level = "" if header["level"] == "default" else f"--{header['level']} "
    device = "" if header["device"] == "cpu" else "--device gpu "
    return f"{level}{device}--out numbers.json --page docs/performance.md"


# --- in short ---------------------------------------------------------------------------------------


def short(rows: list[Row]) -> str:
    """One small table: what is asked first."""
    lines = [("", "ratio"), ("--", "--")]
    for name, measure, wanted in SHORT:
        found = [row for row in rows if row.measure == measure and row.tree not in SERIES and wanted(row)]
        lines += [(name, extent(found))] if found else []
    for side in ("torch", "foreach", "fused", "compiled"):
        ratios = [
            row.raw["ratios"][side]["median"]
            for row in rows
            if row.measure == "step, torch"
            if side in row.raw["ratios"]
        ]
        lines += [(f"step, × PyTorch's {NAMES.get(side, side)}", between(ratios))] if ratios else []
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


NAMES = {"torch": "default", "compiled": "`torch.compile`", "foreach": "`foreach`", "fused": "`fused`"}

SHORT: list[tuple[str, str, Callable[[Row], bool]]] = [
    ("compiled step, × Optax, geometric mean", "step, geometric mean", lambda row: True),
    ("compiled step, × Optax, best to worst", "step", lambda row: row.target is None or row.target > 1),
    ("gradient accumulation, × Optax", "step", lambda row: row.case.startswith("MultiSteps")),
    ("`apply_if_finite`, × Optax", "step", lambda row: row.case.startswith("apply_if_finite")),
    ("`contrib.muon`, × Optax", "step", lambda row: row.case == "muon"),
    ("tracing 148 leaves, × Optax", "trace, cold", lambda row: row.tree == GPT2),
    ("tracing 1000 leaves, × Optax", "trace, cold", lambda row: row.tree == MANY),
    ("the first call in all, × Optax", "first call", lambda row: True),
    ("`update` outside `jit`, × Optax", "eager update", lambda row: row.tree == GPT2),
    ("`init` outside `jit`, × Optax", "init", lambda row: row.tree == GPT2),
    ("programs compiled when numbers change", "compilations", lambda row: True),
]


def extent(rows: list[Row]) -> str:
    """From the least to the most of what is judged."""
    return between([row.judged for row in rows])


def between(numbers: Iterable[float]) -> str:
    """The least and the most."""
    least, most = min(numbers := list(numbers)), max(numbers)
    return f"{least:.3g}" if least == most else f"{least:.3g} to {most:.3g}"


def verdict(rows: list[Row]) -> str:
    """How many of the targets that the benchmark sets itself are met, and what shows the others."""
    judged = [row for row in rows if row.target is not None]
    met = sum(row.met for row in judged)
    return (
        f"{met} of the {len(judged)} targets that the benchmark sets itself are met; "
        "`python benchmarks/run.py --read numbers.json` marks the others."
    )


# --- the rest ---------------------------------------------------------------------------------------


def pictures(measures: set[str]) -> Iterable[str]:
    """The pictures that there are rows for, each under its heading."""
    present = {
        "step": "step" in measures,
        "start": bool(measures & {"trace, cold", "first call"}),
        "torch": "step, torch" in measures,
        "growth": any(measure.startswith("growth: ") for measure in measures),
    }
    for name in filter(present.get, PICTURES):
        title, text = PICTURES[name]
        yield f"## {title}\n\n{text}\n\n![{title}](assets/bench_{name}.png)"


def tables(rows: list[Row]) -> Iterable[str]:
    """A table for each measure."""
    for measure, own in report.by_measure(rows):
        meaning = f"{MEANINGS[measure]}\n\n" if measure in MEANINGS else ""
        unjudged = [replace(row, target=None) for row in own]
        yield f"### {measure}\n\n{meaning}{report.markdown(unjudged)}"

"""What is measured of an optimizer on a tree. Each measure is a function from a `Setting` to rows.

They run in this order. PyTorch's threads wait by spinning, so what starts them comes last.
"""

from collections.abc import Callable, Iterator

from report import Row
from setting import Setting

from measures import bandwidth, compilations, eager, errors, kernels, memory, step, sweep, torch_step, tracing

MEASURES: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "step": step.step,
    "bandwidth": bandwidth.bandwidth,
    "trace": tracing.trace,
    "first call": tracing.first_call,
    "eager": eager.eager,
    "compilations": compilations.compilations,
    "sweep": sweep.sweep,
    "memory": memory.memory,
    "resident": memory.resident,
    "kernels": kernels.kernels,
    "torch": torch_step.torch_step,
    "errors": errors.errors,
}

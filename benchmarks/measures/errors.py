"""Distance from the papers' formulas in float64; see `accuracy`."""

from collections.abc import Iterator

import accuracy
import report
from report import Row
from setting import LIBRARIES, Setting


def errors(setting: Setting) -> Iterator[Row]:
    """Of gradtx, Optax and PyTorch, for the optimizers that have an oracle."""
    case = setting.name
    if case not in accuracy.ORACLES:
        return
    for name, quantity in accuracy.QUANTITIES.items():
        found = {
            side: accuracy.error(case, quantity, accuracy.in_jax(library, case))
            for side, library in LIBRARIES.items()
        }
        found["torch"] = accuracy.error(case, quantity, accuracy.in_torch(case))
        beside = None if quantity.steps == 1 else "torch"
        yield report.erring(f"error, {name}", case, found, beside)

"""The compiled step beside Optax's."""

from collections.abc import Iterator

import report
import speed
from report import Row
from setting import LIBRARIES, Setting


def step(setting: Setting) -> Iterator[Row]:
    """`update` and `apply_updates` in one program, with donated params and state."""
    case = setting.case
    sides = {
        side: speed.jitted_step(library, case.make, setting.params, setting.grads, case.calls)
        for side, library in LIBRARIES.items()
    }
    yield report.timed("step", setting.name, setting.tree, speed.compare(sides, setting.step_effort))

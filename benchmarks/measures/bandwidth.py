"""How near the step comes to the bandwidth of memory."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import report
import speed
from report import Row
from setting import LIBRARIES, Setting
from speed import Sample

from measures.kernels import fewest_bytes


def bandwidth(setting: Setting) -> Iterator[Row]:
    """The fewest bytes a step can move over its time, beside the same of scaling an array in place.

    The array is as large as the params.
    """
    fewest = fewest_bytes(setting)
    if fewest is None:
        return
    case, count = setting.case, sum(setting.sizes) // 4
    samples = {
        side: speed.jitted_step(library, case.make, setting.params, setting.grads)
        for side, library in LIBRARIES.items()
    }
    seconds = speed.by_turns({**samples, "copy": scaling(count)}, setting.effort)
    moved = {"gradtx": fewest, "Optax": fewest, "copy": 8 * count}
    per_byte = {side: [x / moved[side] for x in own] for side, own in seconds.items()}
    times = speed.times(per_byte)
    rates = {side: 1e-9 / x.median for side, x in times.seconds.items()}
    shares = {side: speed.ratio(per_byte["copy"], own).median for side, own in per_byte.items()}
    cells = {side: f"{rates[side]:.1f} GB/s ({shares[side]:.0%})" for side in samples}
    cells["copy"] = f"{rates['copy']:.1f} GB/s"
    raw = {"gigabytes_per_second": rates, "share": shares, "fewest_bytes": fewest}
    ratio = times.ratios["copy"]
    where = "time × bandwidth", setting.name, setting.tree
    yield report.row(*where, cells, ratio.median, "× copy", raw, (ratio.lower, ratio.upper))


def scaling(count: int) -> Sample:
    """Each number of a float32 array is read, multiplied and written back."""
    scale = jax.jit(lambda x: x * 0.999, donate_argnums=0)
    x = jnp.ones(count)

    def work() -> Any:
        nonlocal x
        x = scale(x)
        return x

    return speed.until_ready(work)

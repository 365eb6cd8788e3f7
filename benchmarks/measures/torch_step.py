"""The compiled step beside PyTorch's optimizers, on the same device."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import report
import speed
from cases import Case
from report import Row
from setting import Setting
from speed import Sample

import gradtx

FLAGS = {"torch": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def torch_step(setting: Setting) -> Iterator[Row]:
    """All step on in their own buffers.

    PyTorch is imported here: its threads wait by spinning, and nothing else is to be timed beside them.
    """
    if setting.case.torch is None:
        return
    import torch

    torch.set_num_threads(os.cpu_count() or 1)  # as many as XLA takes
    case, on_gpu = setting.case, jax.default_backend() == "gpu"
    ours = speed.stepping(gradtx, case.make, setting.params, setting.grads, case.calls)
    sides = {"gradtx": speed.rested(ours)}
    for side, flags in FLAGS.items():
        sides |= existing(side, lambda flags=flags: sample(torch, case, setting, flags))
    if setting.level == "full":
        sides |= existing("compiled", lambda: sample(torch, case, setting, {}, torch.compile))
    against = [side for side in ("torch", "foreach", *(["fused"] if on_gpu else [])) if side in sides]
    times = speed.compare(sides, setting.step_effort)
    yield report.timed("step, torch", setting.name, setting.tree, times, against)


def existing(side: str, make: Callable[[], Sample]) -> dict[str, Sample]:
    """The side, if PyTorch has it: not every optimizer has every flag, and compiling takes a compiler."""
    try:
        return {side: make()}
    except Exception as error:
        print(f"no side {side}: {type(error).__name__}: {error}".partition("\n")[0], flush=True)
        return {}


def sample(
    torch: Any,
    case: Case,
    setting: Setting,
    flags: dict[str, Any],
    compiled: Callable[..., Any] | None = None,
) -> Sample:
    """A step of PyTorch's, until the device has done it."""
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    params = [torch.nn.Parameter(tensor(torch, param, device)) for param in jax.tree.leaves(setting.params)]
    for param, grad in zip(params, jax.tree.leaves(setting.grads), strict=True):
        param.grad = tensor(torch, grad, device)
    assert case.torch is not None
    step = case.torch(torch, params, **flags)
    step = compiled(step) if compiled else step

    def work() -> None:
        step()
        if device == "cuda":
            torch.cuda.synchronize()

    return speed.until_ready(work)


def tensor(torch: Any, x: jax.Array, device: str) -> Any:
    """The same numbers, in a buffer of their own."""
    return torch.from_numpy(np.array(x)).to(device)

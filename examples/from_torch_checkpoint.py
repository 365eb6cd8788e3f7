"""Train in PyTorch, move to JAX in the middle of the run, and go on as if nothing had happened.

    python examples/from_torch_checkpoint.py --out build/examples

A small network learns the digits in PyTorch with Adam. Half-way its parameters and Adam's state are saved
by `torch.save`, read with `weights_only`, and loaded into `gradtx.torch.optim.Adam`; then both libraries go
on with the same batches. You should see two losses that agree to about six digits, and find
from_torch_checkpoint.png in the folder --out: both continuations, one on top of the other, their difference
below, and beside it what happens when the parameters move without Adam's state.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.style
import numpy as np
import torch
from absl import app, flags
from digits_data import QUICK, Digits, batch_at, load
from matplotlib.figure import Figure

from gradtx.torch import nn, optim

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", 20 if QUICK else 200, "updates before the move, and after", lower_bound=2)
flags.DEFINE_string("out", "build/examples", "folder for the checkpoint and the picture")

# What PyTorch calls each parameter, and where it is here; kernels are stored with their axes exchanged.
ORDER = {
    "fc1.weight": "fc1/kernel",
    "fc1.bias": "fc1/bias",
    "fc2.weight": "fc2/kernel",
    "fc2.bias": "fc2/bias",
}
AXES = {r".*kernel": (1, 0)}


class Network(torch.nn.Module):
    """The network in PyTorch."""

    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(64, 32)
        self.fc2 = torch.nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.fc1(images.flatten(1))))


def apply(params: dict[str, Any], images: jax.Array) -> jax.Array:
    """The network in JAX."""
    x = jnp.reshape(images, (len(images), -1))
    x = jax.nn.relu(x @ params["fc1"]["kernel"] + params["fc1"]["bias"])
    return x @ params["fc2"]["kernel"] + params["fc2"]["bias"]


def train_in_torch(network: Network, optimizer: torch.optim.Optimizer, data: Iterator[Digits]) -> list[float]:
    """The losses of the steps on these batches."""
    criterion, losses = torch.nn.CrossEntropyLoss(), []
    for batch in data:
        optimizer.zero_grad()
        loss = criterion(network(torch.tensor(batch.images)), torch.tensor(batch.labels).long())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@jax.jit
@jax.value_and_grad
def loss_and_grads(params: dict[str, Any], batch: Digits) -> jax.Array:
    return nn.CrossEntropyLoss()(apply(params, batch.images), batch.labels)


def train_in_jax(optimizer: optim.Optimizer, data: Iterator[Digits]) -> list[float]:
    """The losses of the steps on these batches."""
    losses = []
    for batch in data:
        loss, grads = loss_and_grads(optimizer.params, batch)
        optimizer.step(grads)
        losses.append(float(loss))
    return losses


def params_of(saved: dict[str, torch.Tensor]) -> dict[str, dict[str, np.ndarray]]:
    """The parameters of a checkpoint, under the names and with the axes that they have here."""
    params: dict[str, dict[str, np.ndarray]] = {}
    for theirs, ours in ORDER.items():
        layer, name = ours.split("/")
        array = saved[theirs].numpy()
        params.setdefault(layer, {})[name] = array.T if name == "kernel" else array
    return params


def draw(before: list[float], after: dict[str, list[float]], path: Path) -> None:
    """The losses, and below how far the continuations are from PyTorch's."""
    matplotlib.style.use(Path(__file__).with_name("gradtx.mplstyle"))
    figure = Figure(figsize=(8, 7))
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    first, steps = np.arange(len(before)), len(before) + np.arange(len(after["PyTorch"]))
    above.plot(first, before, color="#94a3b8", label="PyTorch, before the move")
    above.plot(steps, after["PyTorch"], color="C2", linewidth=5, alpha=0.5, label="PyTorch goes on")
    above.plot(steps, after["gradtx"], color="C0", linewidth=1.4, label="gradtx goes on")
    above.set(title="Training loss (nats)", yscale="log", xlim=(0, steps[-1]))
    above.legend(loc="upper right")
    truth = np.array(after["PyTorch"])
    kinds = {
        "gradtx without Adam's state": ("without Adam's state", "C3"),
        "gradtx": ("with Adam's state", "C0"),
    }
    for name, (label, colour) in kinds.items():
        off = np.abs(np.array(after[name]) - truth) / truth
        below.semilogy(steps, np.maximum(off, 1e-9), color=colour, linewidth=1.2)  # equal: at the edge
        height = np.exp(np.mean(np.log(np.maximum(off[len(off) // 2 :], 1e-9))))
        below.annotate(
            label,
            (steps[len(steps) * 3 // 4], height),
            (0, 16),
            textcoords="offset points",
            color=colour,
            weight="bold",
            ha="center",
        )
    below.set(title="Relative difference from PyTorch's loss", xlabel="Step (updates)", ylim=(1e-9, 3))
    for axes in (above, below):
        axes.axvline(len(before) - 0.5, color="#0f172a", linewidth=0.8, linestyle=(0, (4, 3)))
    figure.savefig(path)


def main(_: list[str]) -> None:
    out, steps = Path(FLAGS.out), FLAGS.steps
    out.mkdir(parents=True, exist_ok=True)
    train, _test = load()

    def batches(first: int) -> Iterator[Digits]:
        return (batch_at(train, step, size=128) for step in range(first, first + steps))

    torch.manual_seed(0)
    network = Network()
    theirs = torch.optim.Adam(network.named_parameters(), lr=3e-3)
    before = train_in_torch(network, theirs, batches(0))
    checkpoint = out / "from_torch_checkpoint.pt"
    torch.save({"model": network.state_dict(), "optimizer": theirs.state_dict()}, checkpoint)

    saved = torch.load(checkpoint, weights_only=True)  # tensors and numbers alone: no code of the file is run
    ours = optim.Adam(params_of(saved["model"]))
    ours.load_state_dict(saved["optimizer"], order=ORDER, axes=AXES)
    without = optim.Adam(params_of(saved["model"]), lr=3e-3)
    after = {
        "PyTorch": train_in_torch(network, theirs, batches(steps)),
        "gradtx": train_in_jax(ours, batches(steps)),
        "gradtx without Adam's state": train_in_jax(without, batches(steps)),
    }

    print(f"{steps} steps in PyTorch, loss {before[-1]:.4f}; moved, and {steps} steps more:\n")
    for name, losses in after.items():
        off = max(abs(x - y) / y for x, y in zip(losses, after["PyTorch"], strict=True))
        print(f"{name:28} loss {losses[-1]:.8f}, at most {off:.0e} from PyTorch's")
    draw(before, after, out / "from_torch_checkpoint.png")
    print(f"\ncheckpoint: {checkpoint}\npicture: {out / 'from_torch_checkpoint.png'}")


if __name__ == "__main__":
    app.run(main)

"""Write the files that a version leaves behind, for tests/test_old_files.py.

Run it with the old version first on the path, and name the folder beside this file after that version::

    git archive 9b838c2 gradtx | tar -x -C /tmp/old
    PYTHONPATH=/tmp/old python tests/old_files/write.py 9b838c2

It imports gradtx, jax and flax alone, and nothing of the tests, which are of another version.
"""

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from gradtx.torch import optim

CASES: dict[str, Callable[[], Any]] = {
    "adamw": lambda: gradtx.adamw(1e-2, weight_decay=0.1),
    "sgd": lambda: gradtx.sgd(0.1, momentum=0.9, nesterov=True),
    "adafactor": lambda: gradtx.adafactor(0.1, min_dim_size_to_factor=2, momentum=0.9),
    "lion": lambda: gradtx.lion(1e-2),
    "muon": lambda: gradtx.contrib.muon(0.1),
    "clip": lambda: gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.scale_by_adam(), gradtx.scale(-0.1)),
    "scheduled": lambda: gradtx.adam(
        gradtx.warmup_cosine_decay_schedule(0.0, 0.1, 2, 8), b1=gradtx.linear_schedule(0.8, 0.9, 4)
    ),
    "scheduled_sgd": lambda: gradtx.sgd(gradtx.linear_schedule(0.1, 0.0, 8), momentum=0.9),
    "MultiSteps": lambda: gradtx.MultiSteps(gradtx.adam(0.1), 2),
    "apply_if_finite": lambda: gradtx.apply_if_finite(gradtx.adam(0.1), 3),
    "groups": lambda: gradtx.groups(
        gradtx.adamw(0.1, weight_decay=0.1), {".*bias": {"weight_decay": 0.0}, "scale": None}
    ),
    "partition": lambda: gradtx.partition(
        {"a": gradtx.sgd(0.1, momentum=0.9), "b": gradtx.amsgrad(0.1)}, {".*kernel": "a", ".*": "b"}
    ),
    "inject_hyperparams": lambda: gradtx.inject_hyperparams(gradtx.adamw)(
        learning_rate=gradtx.linear_schedule(0.1, 0.0, 8), b2=0.99
    ),
    "lookahead": lambda: gradtx.lookahead(gradtx.sgd(0.1, momentum=0.9), 2, 0.5),
    "masked": lambda: gradtx.chain(
        gradtx.masked(gradtx.trace(0.9), ".*kernel"), gradtx.add_decayed_weights(0.1, mask=".*kernel")
    ),
    "torch_adam": lambda: optim.adam(0.1, betas=(0.8, 0.99), weight_decay=0.1),
    "torch_sgd": lambda: optim.sgd(0.1, momentum=0.9),
}
"""Optimizers whose files are kept."""

EARLY, LATE = 3, 2
"""How many updates made the state, and how many follow."""


def params() -> dict[str, Any]:
    """A matrix, a vector and a scalar."""
    return {"dense": {"kernel": wave(2, 3), "bias": wave(3)}, "scale": wave()}


def grads(step: int) -> dict[str, Any]:
    """The gradients of a step, from 0."""
    return jax.tree.map(lambda x: wave(*x.shape, phase=step + 1), params())


def wave(*shape: int, phase: int = 0) -> jax.Array:
    """Numbers about as large as 1, none of which is 0."""
    size = int(np.prod(shape))
    return jnp.asarray(np.sin(1.0 + 2.7 * np.arange(size) + 1.3 * phase).reshape(shape))


def flat(tree: Any) -> np.ndarray:
    """All numbers of a tree as one vector."""
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def like_params(vector: np.ndarray) -> Any:
    """The tree of which `flat` made a vector."""
    leaves, treedef = jax.tree.flatten(params())
    ends = np.cumsum([x.size for x in leaves])[:-1]
    parts = zip(np.split(vector, ends), leaves, strict=True)
    return treedef.unflatten([jnp.asarray(part.reshape(x.shape)) for part, x in parts])


def torch_optimizer() -> Any:
    """A class of PyTorch's that has made the early steps."""
    optimizer = optim.Adam(params(), lr=0.1, betas=(0.8, 0.99))
    for step in range(EARLY):
        optimizer.step(grads(step))
    return optimizer


def write(folder: Path) -> None:
    """Write a folder of files."""
    for name in ("flax", "pickle"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    configs: dict[str, Any] = {}
    states: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    for name, make in CASES.items():
        tx = make()
        middle, state = params(), tx.init(params())
        for step in range(EARLY):
            updates, state = tx.update(grads(step), state, middle)
            middle = gradtx.apply_updates(middle, updates)
        states |= {f"{name}:{key}": np.asarray(x) for key, x in gradtx.state_dict(tx, state).items()}
        (folder / "flax" / f"{name}.msgpack").write_bytes(flax.serialization.to_bytes(state))
        # NumPy's arrays, for the pickle of an array of jax is jax's affair.
        kept = tx, jax.tree.map(np.asarray, state)
        (folder / "pickle" / f"{name}.pickle").write_bytes(pickle.dumps(kept, protocol=4))
        configs[name] = gradtx.to_config(tx)
        numbers[f"{name}:params"] = flat(middle)
        for step in range(EARLY, EARLY + LATE):
            updates, state = tx.update(grads(step), state, middle)
            numbers[f"{name}:update {step}"] = flat(updates)
    optimizer = torch_optimizer()
    kept = jax.tree.map(lambda x: np.asarray(x) if isinstance(x, jax.Array) else x, optimizer.state_dict())
    (folder / "torch_class.pickle").write_bytes(pickle.dumps(kept, protocol=4))
    numbers["torch_class:params"] = flat(optimizer.params)
    for step in range(EARLY, EARLY + LATE):
        numbers[f"torch_class:params {step}"] = flat(optimizer.step(grads(step)))
    (folder / "configs.json").write_text(json.dumps(configs, indent=1) + "\n")
    np.savez_compressed(folder / "states.npz", **states)
    np.savez_compressed(folder / "numbers.npz", **numbers)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    write(Path(__file__).parent / sys.argv[1])

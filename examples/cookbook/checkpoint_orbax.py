"""Checkpoint and resume with Orbax: to the bit, and after the optimizer was changed.

    python examples/cookbook/checkpoint_orbax.py

You should see that a training that was stopped and resumed has the same params as one that was not, and
what a state keeps when another optimizer takes it over.
"""

import tempfile
import warnings
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from digits_data import batch_at, cross_entropy, load
from flax import nnx

import gradtx

logging.set_verbosity(logging.WARNING)  # Orbax tells of every file
STEPS, STOP = 40, 20
train, _ = load()


def make(tx: gradtx.GradientTransformation) -> tuple[nnx.Module, nnx.Optimizer]:
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Linear(64, 64, rngs=rngs), nnx.relu, nnx.Linear(64, 10, rngs=rngs)
    )
    return model, nnx.Optimizer(model, tx, wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, batch):
    def loss_of(model):
        return cross_entropy(model(batch.images.reshape(-1, 64)), batch.labels)

    loss, grads = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, grads)
    return loss


def run(model, optimizer, first: int, last: int) -> jax.Array:
    """Train from one step to another; returns the last loss."""
    for step in range(first, last):
        loss = train_step(model, optimizer, batch_at(train, step, 128))
    return loss


schedule = gradtx.warmup_cosine_decay_schedule(
    0.0, 3e-3, warmup_steps=5, decay_steps=STEPS
)
tx = gradtx.adamw(schedule, weight_decay=0.1)


# --8<-- [start:save]
def save(folder: Path, step: int, model, optimizer) -> None:
    """Write the model, the optimizer's state by names, and the optimizer itself."""
    items = {
        "model": ocp.args.StandardSave(nnx.as_pure(nnx.state(model))),
        "state": ocp.args.StandardSave(
            gradtx.state_dict(optimizer.tx, optimizer.opt_state)
        ),
        "tx": ocp.args.JsonSave(gradtx.to_config(optimizer.tx)),
    }
    with ocp.CheckpointManager(folder) as manager:
        manager.save(step, args=ocp.args.Composite(**items))


def load_newest(folder: Path, model, optimizer, strict: bool = True) -> int:
    """Load both from the newest checkpoint; returns its step."""
    with ocp.CheckpointManager(folder) as manager:
        step = manager.latest_step()
        items = {
            "model": ocp.args.StandardRestore(nnx.as_pure(nnx.state(model))),
            "state": ocp.args.StandardRestore(),
        }
        saved = manager.restore(step, args=ocp.args.Composite(**items))
    nnx.update(model, saved.model)
    optimizer.step[...] = step  # nnx's own count
    optimizer.opt_state = gradtx.load_state_dict(
        optimizer.tx, optimizer.opt_state, saved.state, strict=strict
    )
    return step


# --8<-- [end:save]

straight = make(tx)
run(*straight, 0, STEPS)

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    model, optimizer = make(tx)
    run(model, optimizer, 0, STOP)
    save(folder, STOP, model, optimizer)

    model, optimizer = make(tx)  # another process, later
    assert load_newest(folder, model, optimizer) == STOP
    run(model, optimizer, STOP, STEPS)
    states = [
        jax.tree.leaves(nnx.as_pure(nnx.state(both)))
        for both in (straight, (model, optimizer))
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))
    print(
        f"stopped at {STOP} and resumed: the same {len(states[0])} arrays, to the bit"
    )

    # --8<-- [start:changed]
    # Clipping was added, and no decay on biases: the moments have the names they had.
    undecayed = gradtx.groups(tx, {r".*bias": {"weight_decay": 0.0}})
    changed = gradtx.chain(gradtx.clip_by_global_norm(1.0), undecayed)
    model, optimizer = make(changed)
    load_newest(folder, model, optimizer)
    # --8<-- [end:changed]
    rate = gradtx.hyperparams(changed, optimizer.opt_state).next["learning_rate"]
    assert abs(rate - schedule(STOP)) < 1e-8
    loss = run(model, optimizer, STOP, STEPS)
    print(f"clipped from step {STOP} on: loss {loss:.4f}")

    # --8<-- [start:another]
    # With strict=False what fits is loaded, and a warning says what did not.
    model, optimizer = make(gradtx.lion(3e-4))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_newest(folder, model, optimizer, strict=False)
    print(caught[0].message)
    # --8<-- [end:another]
    assert len(caught) == 1 and "scale_by_adam/mu" in str(caught[0].message)

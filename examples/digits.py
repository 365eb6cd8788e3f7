"""Train a small convolutional network on images of handwritten digits, with any gradtx optimizer.

    python examples/digits.py
    python examples/digits.py --optimizer lion --learning_rate 3e-4
    python examples/digits.py --save_config build/mine.json     # write the optimizer down; edit it, and
    python examples/digits.py --optimizer build/mine.json       # train with what the file says
    python examples/digits.py --checkpoint build/checkpoints    # go on where the last run stopped

It prints the optimizer, shows loss, accuracy and learning rate as it goes, and writes digits.png and
digits.json to the folder --out. Ctrl-C ends it early, with the picture so far. A training that was
stopped and resumed has the same numbers, to the bit, as one that never stopped.
"""

import json
import signal
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.style
import numpy as np
import orbax.checkpoint as ocp
from absl import app, flags, logging
from digits_data import QUICK, Digits, accuracy, batch_at, cross_entropy, load
from digits_network import Network
from flax import nnx
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from tqdm import tqdm

import gradtx

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "optimizer", None, "a registered name, such as sgd, or a JSON file; default: clipped AdamW"
)
flags.DEFINE_float("learning_rate", 3e-3, "the peak of its schedule; a JSON file has its own")
flags.DEFINE_integer("steps", 30 if QUICK else 800, "updates in all", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "images per update", lower_bound=1, upper_bound=1437)
flags.DEFINE_integer("seed", 0, "of the initial parameters and the batches", lower_bound=0)
flags.DEFINE_string("out", "build/digits", "folder for the picture and the result")
flags.DEFINE_string("checkpoint", None, "folder to save the training in, and to resume it from")
flags.DEFINE_string("save_config", None, "file to write the optimizer to, as JSON")

EVALUATE_EVERY = 10
SAVE_EVERY = 100


def make_optimizer() -> gradtx.GradientTransformation:
    """The optimizer that the flags ask for."""
    wanted = FLAGS.optimizer
    if wanted and wanted.endswith(".json"):
        return gradtx.from_config(json.loads(Path(wanted).read_text()))
    warmup, peak = FLAGS.steps // 10, FLAGS.learning_rate
    schedule = gradtx.warmup_cosine_decay_schedule(0.0, peak, warmup, decay_steps=FLAGS.steps)
    if wanted:
        return gradtx.from_config({"call": wanted, "learning_rate": gradtx.to_config(schedule)})
    adamw = gradtx.adamw(schedule, weight_decay=0.1)
    undecayed = {r".*(bias|scale)": {"weight_decay": 0.0}}
    return gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.groups(adamw, undecayed))


@nnx.jit
def train_step(model: Network, optimizer: nnx.Optimizer, batch: Digits) -> dict[str, jax.Array]:
    """Update both in place; returns the loss before the update and the learning rate in it."""

    def loss_of(model: Network) -> jax.Array:
        return cross_entropy(model(batch.images, training=True), batch.labels)

    loss, grads = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, grads, value=loss)
    numbers = gradtx.hyperparams(optimizer.tx, optimizer.opt_state)
    return {"loss": loss, "learning_rate": numbers.last.get("learning_rate", jnp.nan)}


@nnx.jit
def evaluate(model: Network, data: Digits) -> jax.Array:
    """The share of right answers."""
    return accuracy(model(data.images), data.labels)


class Training:
    """A network, its optimizer, and a row of measurements for each step so far."""

    def __init__(self, tx: gradtx.GradientTransformation):
        self.model = Network(nnx.Rngs(FLAGS.seed))
        self.optimizer = nnx.Optimizer(self.model, tx, wrt=nnx.Param)
        self.history: list[dict[str, float]] = []

    def step(self, train: Digits, test: Digits) -> dict[str, float]:
        """Train for one step; returns its row."""
        done = len(self.history)
        batch = batch_at(train, done, FLAGS.batch_size, FLAGS.seed, shift=1)
        row = {name: float(x) for name, x in train_step(self.model, self.optimizer, batch).items()}
        if done % EVALUATE_EVERY == 0:
            row["test_accuracy"] = float(evaluate(self.model, test))
        self.history.append({"step": done + 1, **row})
        return row

    @property
    def record(self) -> dict[str, Any]:
        """What determines the training, and a copy of what was measured in it, as plain data."""
        given = {"seed": FLAGS.seed, "batch_size": FLAGS.batch_size}
        return {**given, "optimizer": gradtx.to_config(self.optimizer.tx), "history": list(self.history)}

    @property
    def state(self) -> nnx.State:
        """All arrays that the rest of the training depends on, not the variables that go on changing."""
        return nnx.as_pure(nnx.state((self.model, self.optimizer)))

    def save(self, manager: ocp.CheckpointManager) -> None:
        """Start to write a checkpoint; the training goes on meanwhile, so all that is given is a snapshot."""
        state, record = ocp.args.StandardSave(self.state), ocp.args.JsonSave(self.record)
        manager.save(len(self.history), args=ocp.args.Composite(state=state, record=record))

    def resume(self, manager: ocp.CheckpointManager) -> None:
        """Go on from the newest checkpoint, if there is one."""
        step = manager.latest_step()
        if step is None:
            return
        record = manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore())).record
        for name in ("seed", "batch_size", "optimizer"):
            if record[name] != self.record[name]:
                sys.exit(f"--checkpoint: {manager.directory} has another {name}; choose another folder")
        state = ocp.args.StandardRestore(self.state)
        saved = manager.restore(step, args=ocp.args.Composite(state=state))
        nnx.update((self.model, self.optimizer), saved.state)
        self.history = record["history"]


def stop_on_interrupt() -> threading.Event:
    """An event that Ctrl-C sets, to be looked at between steps; a second Ctrl-C ends the program at once."""
    stop = threading.Event()

    def handle(*_: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, handle)
    return stop


def run(training: Training, train: Digits, test: Digits, manager: ocp.CheckpointManager | None) -> None:
    """Train under a progress bar, to the end or to Ctrl-C."""
    stop, history = stop_on_interrupt(), training.history
    shown = {name: number for row in history for name, number in row.items()}
    with tqdm(total=FLAGS.steps, initial=len(history), dynamic_ncols=True) as bar:
        for _ in range(len(history), FLAGS.steps):
            shown |= training.step(train, test)
            text = "loss {loss:.3f}, accuracy {test_accuracy:.1%}, learning rate {learning_rate:.1e}"
            bar.set_postfix_str(text.format(**shown), refresh=False)
            bar.update()
            if manager and len(history) % SAVE_EVERY == 0:
                training.save(manager)
            if stop.is_set():
                break
    if manager and manager.latest_step() != len(history):
        training.save(manager)


def describe(training: Training) -> None:
    """Print the optimizer, and the memory that its state takes."""
    tx = training.optimizer.tx
    taken = gradtx.bytes_of(tx, nnx.state(training.model, nnx.Param))
    print(tx)
    print(f"{taken.count:,} parameters; the optimizer's state takes {taken.per_parameter:.2f} bytes for each")


def draw(result: dict[str, Any], path: Path) -> None:
    """Loss, test accuracy and learning rate over steps, one above the other."""
    history = result["history"]
    steps, losses, rates = ([row[name] for row in history] for name in ("step", "loss", "learning_rate"))
    tested = [(row["step"], 100 * row["test_accuracy"]) for row in history if "test_accuracy" in row]
    last = (steps[-1], 100 * result["test_accuracy"])
    window = max(1, len(steps) // 40)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")

    matplotlib.style.use(Path(__file__).with_name("gradtx.mplstyle"))
    figure = Figure(figsize=(8, 7.5))
    above, middle, below = figure.subplots(3, sharex=True)
    above.semilogy(steps, losses, color="C0", alpha=0.3, linewidth=1)
    above.semilogy(steps[window - 1 :], smooth, color="C0")
    above.set(title="Training loss (nats), single steps and moving mean", xlim=(0, steps[-1]))
    above.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))  # 2, where 10⁰ is all there is
    middle.plot(*zip(*tested, last, strict=True), color="C1")
    place = {"xytext": (-4, -18), "textcoords": "offset points", "ha": "right", "weight": "bold"}
    middle.annotate(f"{last[1]:.1f} %", last, **place)
    middle.set(title="Test accuracy (%)", ylim=(min(80, last[1] - 20), 101))
    below.plot(steps, rates, color="C2")
    below.set(title="Learning rate in force", xlabel="Step (updates)")
    below.ticklabel_format(axis="y", scilimits=(0, 0), useMathText=True)
    figure.savefig(path)


def report(training: Training, test: Digits, out: Path) -> None:
    """Write the picture and the result, and say where."""
    last = training.history[-1]
    final = {
        "test_accuracy": float(evaluate(training.model, test)),
        "loss": last["loss"],
        "steps": last["step"],
    }
    result = {**final, **training.record}
    out.mkdir(parents=True, exist_ok=True)
    picture, numbers = out / "digits.png", out / "digits.json"
    draw(result, picture)
    numbers.write_text(json.dumps(result, indent=1))
    print(f"test accuracy {result['test_accuracy']:.2%} after {result['steps']} of {FLAGS.steps} steps")
    print(f"picture: {picture}\nnumbers: {numbers}")


def main(argv: list[str]) -> None:
    if argv[1:]:
        raise app.UsageError(f"every argument is a flag, these are none: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.WARNING)  # Orbax tells of every file
    try:
        training = Training(make_optimizer())
    except (OSError, TypeError, ValueError) as error:
        sys.exit(f"--optimizer: {error}")
    describe(training)
    if FLAGS.save_config:
        Path(FLAGS.save_config).parent.mkdir(parents=True, exist_ok=True)
        Path(FLAGS.save_config).write_text(json.dumps(gradtx.to_config(training.optimizer.tx), indent=2))
    train, test = load()
    # Orbax writes a checkpoint under another name and renames it when complete: the one before stays good.
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    folder = FLAGS.checkpoint and Path(FLAGS.checkpoint).absolute()
    with ocp.CheckpointManager(folder, options=options) if folder else nullcontext() as manager:
        if manager:
            training.resume(manager)
        run(training, train, test, manager)
    report(training, test, Path(FLAGS.out))


if __name__ == "__main__":
    app.run(main)

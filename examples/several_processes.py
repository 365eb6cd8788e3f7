"""Train the network of digits.py in several processes, kill one, and go on from the last checkpoint.

    python examples/several_processes.py                      # 4 processes on this machine
    python examples/several_processes.py --processes 2 --out build/two

It starts the processes, shows what the first of them prints, and kills the last one with SIGKILL half way.
The others cannot go on without its shards: each ends with a message. Started again, all resume from the last
checkpoint, on as many processes as there are then: try --processes 2 with the same --out before a training
has ended.

Where a launcher starts the processes, one on each machine, the same file is what it starts:

    python examples/several_processes.py --worker --out /shared/folder

On TPU pods, and on GPUs under SLURM, Open MPI or Kubernetes, `jax.distributed.initialize()` finds out by
itself who the others are. Elsewhere say it: --coordinator HOST:PORT --processes N --process I. All must see
the folder.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from absl import app, flags, logging
from digits_data import QUICK, batch_at, load
from sharded import FLAGS, Training, make_mesh, make_optimizer

flags.DEFINE_integer("processes", 2 if QUICK else 4, "how many", lower_bound=2)
flags.DEFINE_integer("save_every", 5 if QUICK else 50, "steps between checkpoints", lower_bound=1)
flags.DEFINE_string("out", "build/several_processes", "folder of the checkpoints, seen by all processes")
flags.DEFINE_bool("worker", False, "be one of the processes; default: start them here")
flags.DEFINE_string("coordinator", None, "HOST:PORT of the first process; default: what the launcher says")
flags.DEFINE_integer("process", None, "which of the processes this is")

SILENCE = 10
"""Seconds after which a process that is not heard of counts as dead."""


# --- one of the processes ---------------------------------------------------------------------------


def work() -> None:
    """Train with the others; the first process tells of it. If one of them dies, end with a message."""
    jax.distributed.initialize(
        FLAGS.coordinator,
        FLAGS.processes if FLAGS.coordinator else None,
        FLAGS.process,
        heartbeat_timeout_seconds=SILENCE,
    )
    is_first = jax.process_index() == 0

    def tell(text: str) -> None:
        if is_first:
            print(text, flush=True)

    options = ocp.CheckpointManagerOptions(save_interval_steps=FLAGS.save_every, max_to_keep=2)
    manager = ocp.CheckpointManager(Path(FLAGS.out).absolute(), options=options)
    try:
        train(Training(make_optimizer(FLAGS.steps), make_mesh()), manager, tell)
    except (ValueError, RuntimeError) as error:  # what JAX raises of a collective that cannot end
        # End now: to say goodbye to a process that is dead would take until it counts as such.
        reason = str(error).splitlines()[0][:200]
        print(f"process {jax.process_index()} ends, another is gone: {reason}", file=sys.stderr, flush=True)
        os._exit(1)
    manager.close()


def train(training: Training, manager: ocp.CheckpointManager, tell: Callable[[str], None]) -> None:
    """To the end, from the last checkpoint if there is one."""
    images, test = load()
    share = training.report.per_device / training.report.total
    tell(f"{jax.process_count()} processes, {jax.device_count()} devices, each with {share:.0%} of the state")
    done = manager.latest_step() or 0
    if done:
        training.state = manager.restore(done, args=ocp.args.StandardRestore(training.state))
        tell(f"resumed after step {done}")
    for i in range(done, FLAGS.steps):
        loss = training.step(batch_at(images, i, FLAGS.batch_size, shift=1))
        manager.save(i + 1, args=ocp.args.StandardSave(training.state))
        if i % (FLAGS.steps // 10 or 1) == 0:
            tell(f"step {i + 1:4}  loss {loss:.4f}")
    manager.wait_until_finished()
    tell(f"test accuracy {training.accuracy(test):.2%}")


# --- the launcher on one machine --------------------------------------------------------------------


def start(coordinator: str, process: int) -> subprocess.Popen[str]:
    """One of the processes, with a device of its own; what the first prints can be read."""
    own = ["--worker", f"--coordinator={coordinator}", f"--process={process}"]
    on_cpus = {"PLATFORMS": "cpu", "NUM_CPU_DEVICES": "1", "CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    return subprocess.Popen(
        [sys.executable, __file__, *sys.argv[1:], *own],
        env={**os.environ, **{f"JAX_{name}": value for name, value in on_cpus.items()}},
        stdout=subprocess.PIPE if process == 0 else subprocess.DEVNULL,
        text=True,
    )


def run(kill_after: int | None) -> list[int]:
    """Start all, show the progress, and kill the last after that many steps; returns how each ended."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    processes = [start(coordinator, i) for i in range(FLAGS.processes)]
    try:
        assert processes[0].stdout is not None
        for line in processes[0].stdout:
            if not line.startswith("[Gloo]"):
                print(f"  {line}", end="", flush=True)
            if kill_after is not None and line.startswith("step") and int(line.split()[1]) > kill_after:
                processes[-1].send_signal(signal.SIGKILL)
                print(f"killed process {FLAGS.processes - 1}", flush=True)
                kill_after = None
        return ends(processes)
    finally:
        for process in processes:
            process.kill()


def ends(processes: Sequence[subprocess.Popen[str]]) -> list[int]:
    """How each process ended; none is waited for longer than the others take to notice a death."""
    for process in processes:
        try:
            process.wait(timeout=3 * SILENCE)
        except subprocess.TimeoutExpired:
            print(f"process {processes.index(process)} hangs, and is ended", file=sys.stderr)
            process.kill()
    return [process.wait() for process in processes]


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    if FLAGS.worker:
        return work()
    print(f"starting {FLAGS.processes} processes", flush=True)
    if any(run(kill_after=FLAGS.steps // 2)):
        print("starting them again", flush=True)
        if any(codes := run(kill_after=None)):
            sys.exit(f"the processes ended with {codes}")


if __name__ == "__main__":
    app.run(main)

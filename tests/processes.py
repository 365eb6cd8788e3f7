"""Functions of tests in several processes, which talk to each other by gloo; each has one device."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax

ROOT = Path(__file__).parent.parent
LIMIT = 240
"""Seconds after which processes are given up."""


def run(count: int, module: str, *arguments: str) -> None:
    """Run a module in so many processes that know of each other, and raise what one of them says."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_NUM_CPU_DEVICES": "1", "JAX_ENABLE_X64": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", module, coordinator, str(count), str(i), *arguments],
            cwd=ROOT,
            env={**environment, "JAX_PLATFORMS": "cpu", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    try:
        for process in started:
            _, err = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, err
    finally:
        for process in started:
            process.kill()


def join(coordinator: str, count: str, i: str) -> None:
    """Be one of the processes."""
    jax.distributed.initialize(coordinator, int(count), int(i), heartbeat_timeout_seconds=20)

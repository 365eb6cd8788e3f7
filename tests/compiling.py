"""How the tests compile: with little effort, and no program twice. To be imported before jax.

Most of the tests' time is XLA's. Functions of a few small tensors gain nothing from its newer code generator
for CPUs, which takes three times as long, nor from being compiled in 32 parts, nor from LLVM's optimizations,
which take half of the rest. `USUAL` turns all of it on again, for laws that compile a step as users have it.
Of a program that is found in the cache, half of the time is that of a new context of MLIR: all share one.
Where jaxlib is another version than those in `QUICK_IN`, as in `make test-oldest` and `make test-newest`, or
the variable GRADTX_USUAL_XLA is set, all is compiled as users have it.
"""

import functools
import hashlib
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

QUICK = [
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_backend_optimization_level=0",
]
QUICK_IN = ("0.10.",)
"""Versions of jaxlib that know these flags; one that does not know a flag ends the process."""

is_quick = version("jaxlib").startswith(QUICK_IN) and "GRADTX_USUAL_XLA" not in os.environ

USUAL = (
    {
        "xla_cpu_use_fusion_emitters": True,
        "xla_cpu_parallel_codegen_split_count": 32,
        "xla_backend_optimization_level": 3,
    }
    if is_quick
    else {}
)
"""Options of `jax.jit` for what users have without any flag."""

DAYS = 30


def set_flags() -> None:
    """Eight host devices, so that sharding is real, and little effort; none twice where inherited."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    wanted = ["--xla_force_host_platform_device_count=8", *(QUICK if is_quick else [])]
    os.environ["XLA_FLAGS"] = " ".join(flags + [flag for flag in wanted if flag not in flags])
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # Two processes share the cores, and PyTorch's threads wait for each other by spinning.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def share_context() -> None:
    """Lower every program in one context of MLIR, where JAX makes a new one for each. Imports jax."""
    if is_quick:
        from jax._src.interpreters import mlir  # no public name; the versions of `QUICK_IN` have this one

        mlir.make_ir_context = functools.cache(mlir.make_ir_context)


def instruction_set() -> str:
    """What the processor can do, as Linux says it; elsewhere its name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    known = [line for line in lines if line.startswith(("flags", "Features"))]
    return known[0] if known else platform.processor()


def cache_folder() -> Path:
    """Where compiled programs are kept: outside the clone, apart by versions, flags and processor."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    key = hashlib.sha256(f"{os.environ['XLA_FLAGS']} {platform.machine()} {instruction_set()}".encode())
    return Path(base, "gradtx-tests", f"jax-{version('jax')}-{version('jaxlib')}-{key.hexdigest()[:12]}")


def set_cache() -> None:
    """Keep every program, unless JAX's own variables say otherwise."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def prune(base: Path, days: float = DAYS) -> None:
    """Remove programs that were made so long ago: most are of code or versions that are no more."""
    for file in base.glob("*/*-cache"):
        if file.stat().st_mtime < time.time() - days * 24 * 3600:
            file.unlink(missing_ok=True)

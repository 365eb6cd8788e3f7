"""How the tests compile: what is kept between runs, and that the laws on compilations see through it."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from tests import compiling
from tests.laws import Compilations


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A new cache in which every program is kept."""
    names = (
        "jax_compilation_cache_dir",
        "jax_enable_compilation_cache",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = [getattr(jax.config, name) for name in names]
    for name, value in zip(names, (str(tmp_path), True, 0.0, -1), strict=True):
        jax.config.update(name, value)
    reset_cache()
    yield tmp_path
    for name, value in zip(names, before, strict=True):
        jax.config.update(name, value)
    reset_cache()


def triple() -> Callable[[jax.Array], jax.Array]:
    """A new function at each call, to which JAX knows no compiled program of this process."""
    return jax.jit(lambda x: 3 * x)


def test_a_program_from_the_cache_counts_as_compiled(folder):
    """Otherwise `nothing_is_compiled_twice` would say nothing in any run but the first."""
    x, events = np.arange(3), []
    with Compilations() as first:
        triple()(x)
    assert first.count == 1 and len(list(folder.glob("*-cache"))) == 1
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
    with Compilations() as second:
        triple()(x)
    assert second.count == 1 and events.count("/jax/compilation_cache/cache_hits") == 1


def test_a_broken_file_of_the_cache_does_no_harm(folder):
    """Such as one that another process has only begun to write; also without the warning that JAX gives."""
    x = np.arange(4)
    triple()(x)
    (file,) = folder.glob("*-cache")
    for content in (b"", file.read_bytes()[:-9]):
        file.write_bytes(content)
        assert triple()(x).tolist() == [0, 3, 6, 9]


def test_flags_and_versions_have_folders_of_their_own(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    here = compiling.cache_folder()
    assert here.parent == Path("/somewhere/gradtx-tests") and jax.__version__ in here.name
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    there = compiling.cache_folder()
    monkeypatch.setattr(compiling, "instruction_set", lambda: "flags : sse avx")
    assert len({here, there, compiling.cache_folder()}) == 3


def test_what_is_old_is_removed(tmp_path):
    (folder := tmp_path / "jax-0").mkdir()
    for name, days in {"old": 40, "new": 20}.items():
        file = folder / f"jit_{name}-cache"
        file.touch()
        then = time.time() - days * 24 * 3600
        os.utime(file, (then, then))
    compiling.prune(tmp_path)
    assert [file.name for file in folder.iterdir()] == ["jit_new-cache"]

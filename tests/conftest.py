"""Eight host devices, so that sharding is real; float64 where a test asks for it."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

import gradtx


@pytest.fixture
def x64():
    """Run a test in double precision."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def stacking():
    """Stacks as on an accelerator."""
    with gradtx.batching(gradtx.Stack()):
        yield

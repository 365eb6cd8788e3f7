"""How the tests compile; the options of pytest; float64 where a test asks for it."""

import difflib
import gc
from collections.abc import Iterator
from typing import Any

from tests import compiling

compiling.set_flags()
compiling.set_cache()
compiling.share_context()

import jax  # noqa: E402  (the flags come first)
import numpy as np  # noqa: E402
import pytest  # noqa: E402

pytest.register_assert_rewrite("tests.beside_optax", "tests.laws")

import gradtx  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--row", help="of the tests of all rows of tests/table.py, those of this one alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (name := config.getoption("--row")) is None:
        return
    rows = {item: row_of(item) for item in items}
    names = {row for row in rows.values() if row is not None}
    if name not in names:
        near = difflib.get_close_matches(name, names, 5)
        raise pytest.UsageError(
            f"tests/table.py has no row {name!r}" + f"; near it: {', '.join(near)}" * bool(near)
        )
    items[:] = [item for item in items if rows[item] == name]


def row_of(item: Any) -> str | None:
    """The name of the row that an item is about."""
    return getattr(item.callspec.params.get("row"), "name", None) if hasattr(item, "callspec") else None


def pytest_collection_finish() -> None:
    # What compiled programs hold is millions of objects, through which each full collection would go.
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # once, and not in every process of xdist
        compiling.prune(compiling.cache_folder().parent)


@pytest.fixture(autouse=True)
def same_numbers(request: pytest.FixtureRequest) -> None:
    """What a module draws from its RNG is the same whichever tests ran before."""
    if (rng := getattr(request.module, "RNG", None)) is not None:
        rng.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture
def x64() -> Iterator[None]:
    """Run a test in double precision."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def stacking():
    """Stacks as on an accelerator."""
    with gradtx.batching(gradtx.Stack()):
        yield

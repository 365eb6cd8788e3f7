"""The plugin of pytest that runs Optax's own tests, and its examples, with gradtx in Optax's place.

What differs on purpose stands in `differences`: such a test must fail, and all others pass. With ``--plain``
nothing is replaced, and what is listed there as failing in Optax itself must fail.
"""

import inspect
from collections.abc import Callable, Generator
from fnmatch import fnmatchcase
from importlib.metadata import version
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests import compiling

compiling.set_flags()
compiling.set_cache()
compiling.share_context()

from tests.optax_suite import swap  # noqa: E402  (the flags come first)
from tests.optax_suite.differences import DIFFERENCES, OPTAX, OPTAX_FAILS, undocumented  # noqa: E402

ORIGINALS: dict[int, Any] = {}
"""By the id of each object of gradtx, what it stands for."""

REASON = pytest.StashKey[str]()
MUST_FAIL = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plain", action="store_true", help="run them with Optax itself")


def pytest_configure(config: pytest.Config) -> None:
    if version("optax") != OPTAX:
        raise pytest.UsageError(
            f"the differences are those from Optax {OPTAX}, and {version('optax')} is here"
        )
    if lines := undocumented():
        raise pytest.UsageError(f"differences that the documentation does not tell of: {lines}")
    swap.EXAMPLES.extend(swap.examples())  # by their modules, where they stand before the swap alone
    if not config.getoption("--plain"):
        ORIGINALS.update(swap.swap())


@pytest.hookimpl(tryfirst=True)  # before those that were not asked for are left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    plain = config.getoption("--plain")
    names = [name_of(item) for item in items]
    files = {name.partition("::")[0] for name in names}
    for pattern, reason in (OPTAX_FAILS if plain else {**OPTAX_FAILS, **DIFFERENCES}).items():
        found = [item for item, name in zip(items, names, strict=True) if fnmatchcase(name, pattern)]
        if not found and pattern.partition("::")[0] in files:
            raise pytest.UsageError(f"no test is called {pattern}")
        for item in found:
            item.stash[REASON] = reason
            # What fails without gradtx too may fail or not with it.
            item.stash[MUST_FAIL] = plain or pattern in DIFFERENCES
    if not plain:
        for module in {item.getparent(pytest.Module).obj for item in items}:
            relax(module)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What `xfail` does, which does not know that a test may fail by its subtests alone."""
    report = yield
    if REASON not in item.stash:
        return report
    if report.failed:
        item.stash[MUST_FAIL] = False
        report.outcome, report.wasxfail = "skipped", item.stash[REASON]
    elif report.when == "teardown" and item.stash[MUST_FAIL]:
        report.outcome = "failed"
        report.longrepr = f"passes, but differences.py says that it does not: {item.stash[REASON]}"
    return report


def relax(module: ModuleType) -> None:
    """Let tests run that would stop at once, at what has nothing to do with what they test."""
    if hasattr(module, "inspect"):
        module.inspect = SimpleNamespace(**{**vars(inspect), "signature": signature})
    if hasattr(module, "_get_opt"):  # it demands a warning for `optimistic_adam`
        module._get_opt = lambda test, name: getattr(module.alias, name)


def name_of(item: pytest.Item) -> str:
    """The name of a test, from its module on: ``_src.alias_test::AliasTest::test_optimization1``."""
    nodes = [node.name for node in item.listchain() if isinstance(node, pytest.Class | pytest.Item)]
    module = item.getparent(pytest.Module).obj.__name__
    return "::".join([module.removeprefix("optax.").removeprefix("tests.optax_suite."), *nodes])


def signature(f: Callable[..., Any]) -> inspect.Signature:
    """That of Optax: some tests leave themselves out where an annotation is not Optax's."""
    return inspect.signature(ORIGINALS.get(id(f), f))

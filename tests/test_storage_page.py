"""The page of fewer bytes shows what was measured last, of every way to train that the benchmark has."""

import json
from pathlib import Path

import storage_page
from storage_cases import OTHERS, VARIANTS
from storage_costs import TREES
from storage_tasks import TASKS

ROOT = Path(__file__).parents[1]
NUMBERS = json.loads((ROOT / "benchmarks" / "results" / "storage.json").read_text())
NAMES = {variant.name for variant in VARIANTS}


def test_every_way_is_measured() -> None:
    assert set(NUMBERS["losses"]) == {f"{task}: {name}" for task in TASKS for name in NAMES}
    assert set(NUMBERS["memory"]) == {f"{tree}: {name}" for tree in TREES for name in NAMES}
    assert set(NUMBERS["bytes"]) == NAMES | set(OTHERS)
    assert set(NUMBERS["times"]) == NAMES


def test_the_page_says_what_was_measured(tmp_path: Path) -> None:
    page = tmp_path / "fewer_bytes.md"
    page.write_text((ROOT / "docs" / "fewer_bytes.md").read_text())
    storage_page.write(page, NUMBERS)
    assert page.read_text() == (ROOT / "docs" / "fewer_bytes.md").read_text()

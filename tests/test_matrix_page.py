"""The page of matrix optimizers shows what was measured last."""

from pathlib import Path

import matrix_page
import parts
from matrix_cases import CASES

PAGE = Path(__file__).parents[1] / "docs" / "matrix_optimizers.md"
NUMBERS = parts.read(matrix_page.RESULTS, matrix_page.PARTS)


def test_the_page_says_what_was_measured(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "matrix_optimizers.md"
    page.parent.mkdir()
    page.write_text(PAGE.read_text())
    matrix_page.write(page, NUMBERS)
    assert page.read_text() == PAGE.read_text()
    pictures = {picture.name for picture in (page.parent / "assets").iterdir()}
    assert all(f"assets/{name}" in page.read_text() for name in pictures)


def test_what_is_asked_is_judged() -> None:
    """Of a step that takes exactly as long as theirs, and of one that takes nothing."""
    for time, verdict in ((1.0, "MISS"), (0.0, "HIT")):
        case = dict(ratio=[time] * 3, worst=2 * time)
        numbers = {
            "steps": {f"128: {one.name}": case for one in CASES},
            "compiling": {"": {"ratio": 4 * time}},
        }
        found = matrix_page.demands(numbers)
        assert len(found) > len(CASES) - 1 and {own.verdict for own in found} == {verdict}

"""Every row of the table obeys every law.

The laws of a row are one test, which goes on after a law that fails; those that take long are apart. In
`make test-extra` are the rows that vary another one, those whose slots are in bytes, for recipes the laws
that follow from their stages, and for all rows but the first of each kind the laws that vary another one.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from gradtx.core.leafwise import Leafwise
from tests import laws
from tests.table import ROWS, Row, recipes_of, stored_rows, variations

STORED = stored_rows(ROWS)
EXTRA, RECIPES = variations(ROWS) | {row.name for row in STORED}, recipes_of(ROWS)


def kind(row: Row) -> tuple[Any, ...]:
    """What decides how the engine runs it."""
    tx = row()
    if not isinstance(tx, Leafwise):
        return (type(tx),)
    return Leafwise, tx.elementwise, tx.batch, tx.form.seeded, bool(tx.form.slots)


FIRST = {kind(row): row.name for row in reversed(ROWS) if row.name not in EXTRA | RECIPES}.values()

TOGETHER = [law for law in laws.LAWS if law not in laws.APART]
GROUPS = {
    "laws": [law for law in TOGETHER if law not in laws.OF_STAGES],
    "laws_of_stages": [law for law in TOGETHER if law in laws.OF_STAGES],
    **{law.__name__: [law] for law in laws.APART},
}


def items() -> Iterator[Any]:
    """Row by row, for then a process finds its own programs again."""
    for row in [*ROWS, *STORED]:
        for name, group in GROUPS.items():
            extra = (
                row.name in EXTRA
                or (group[0] in laws.OF_STAGES and row.name in RECIPES)
                or (group[0] in laws.VARIED and row.name not in FIRST)
            )
            yield pytest.param(row, group, id=f"{row.name}-{name}", marks=[pytest.mark.extra] * extra)


@pytest.mark.parametrize(("row", "group"), list(items()))
def test_laws(row: Row, group: Sequence[laws.Law], subtests: pytest.Subtests) -> None:
    if len(group) == 1:
        return group[0](row)
    for law in group:
        with subtests.test(law.__name__):
            law(row)

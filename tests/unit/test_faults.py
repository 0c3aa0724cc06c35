"""Every fault has a test that exists, or a reason why it needs none, or stands on the short list of open ones."""

from __future__ import annotations

import pytest

from tests.faults import missing, rows

FAMILIES = {"A": 14, "B": 7, "C": 15, "D": 12, "E": 15, "F": 9, "G": 6, "H": 7, "K": 5, "S": 30}
OPEN: set[str] = set()
"""This list may only become shorter."""


def test_every_fault_is_listed_once() -> None:
    assert list(rows()) == [f"{family}{number + 1}" for family, count in FAMILIES.items() for number in range(count)]


@pytest.mark.parametrize("id_", rows())
def test_a_fault_has_tests_or_a_reason(id_: str) -> None:
    row = rows()[id_]
    said = [key for key in ("tests", "does_not_apply", "open") if row.get(key)]
    assert len(said) == 1, f"{id_} says {said}"
    assert row.keys() <= {"fault", "note", *said}
    assert missing(row) == [], f"{id_} names tests that do not exist"
    assert ("open" in row) == (id_ in OPEN)

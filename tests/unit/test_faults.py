"""Every fault has a test that exists, or a reason why it needs none, or stands on the short list of open ones."""

from __future__ import annotations

import pytest

from tests import faults
from tests.faults import claimed, missing, rows

FAMILIES = {"A": 14, "B": 7, "C": 15, "D": 12, "E": 15, "F": 9, "G": 6, "H": 7, "K": 5, "S": 30}
OPEN: set[str] = set()
"""This list may only become shorter."""


def test_every_fault_is_listed_once() -> None:
    assert list(rows()) == [f"{family}{number + 1}" for family, count in FAMILIES.items() for number in range(count)]


def test_who_calls_itself_after_a_fault_is_listed_with_it() -> None:
    named = {(id_, name) for id_, names in claimed().items() for name in names}
    listed = {(id_, name) for id_, row in rows().items() for name in faults.tests_of(row)}
    of_no_use = {id_ for id_, row in rows().items() if "does_not_apply" in row}
    assert {(id_, name) for id_, name in named - listed if id_ not in of_no_use} == set()


@pytest.mark.parametrize("id_", rows())
def test_a_fault_has_tests_or_a_reason(id_: str) -> None:
    row = rows()[id_]
    said = [key for key in ("tests", "does_not_apply", "open") if row.get(key)]
    assert len(said) == 1, f"{id_} says {said}"
    assert row.keys() <= {"fault", "note", *said}
    assert missing(row) == [], f"{id_} names tests that do not exist"
    assert ("open" in row) == (id_ in OPEN)

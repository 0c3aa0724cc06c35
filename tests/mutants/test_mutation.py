"""What is broken, and that nothing else is."""

from __future__ import annotations

import pytest

from tests.mutants.__main__ import BROKEN, ROOT
from tests.mutants.mutation import changes_of


@pytest.mark.parametrize(
    ("source", "broken"),
    [
        ("a = b < c", {"a = (b <= c)"}),
        ("if not a:\n    é = b == c", {"if (a):\n    é = b == c", "if not a:\n    é = (b != c)"}),
        ("a = b and c or d", {"a = ((b and c) and (d))", "a = ((b) or (c)) or d"}),
        ("a = b + 1", {"a = (b)"}),
        ("a = max(b, c)", {"a = min(b, c)"}),
        ("log.info(a)\nb.c(d)", {"log.info(a)\npass"}),
        ("a.b = c\nd = e", {"pass\nd = e"}),
        ("async def a():\n    await b()", {"async def a():\n    pass"}),
    ],
)
def test_each_mutant_differs_in_one_place(source: str, broken: set[str]) -> None:
    assert {change.applied(source) for change in changes_of(source)} == broken


def test_there_is_enough_to_break() -> None:
    for path in BROKEN:
        assert changes_of((ROOT / path).read_text()), path

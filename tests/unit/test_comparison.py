"""Two generations beside each other: what has moved is looked at again, what has settled is judged."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.domain.generations import BUILDING, LIVE, Generation
from pipeline.replay import comparison
from pipeline.replay.beside import Key, Pair, Side

KEY = Key(True, "n", "c", 0, (), 0)
BEFORE, AFTER = (Generation(number, state, 1, 1, "rules", 0) for number, state in ((1, LIVE), (2, BUILDING)))


class Tables:
    """One tally, as it is found look by look."""

    def __init__(self, looks: list[list[Pair]]) -> None:
        self._looks = iter(looks)

    def rows(self) -> tuple[int, int]:
        return 1, 1

    def pairs(self, slices: int, meanwhile: Callable[[], None]) -> Iterator[Pair]:
        yield from next(self._looks)

    def dispositions(self, cut: Any) -> list[tuple[str, str, int]]:
        return []


class Covered:
    """A generation whose tables say everything below ``cursor``."""

    def __init__(self, cursor: int) -> None:
        self._cursor = cursor

    def await_tables(self, meanwhile: Callable[[], None]) -> dict[int, int]:
        return {0: self._cursor}


def compared(cursor: int, looks: list[list[Pair]], monkeypatch: pytest.MonkeyPatch) -> comparison.Comparison:
    monkeypatch.setattr(comparison, "LOOK_EVERY_S", 0)
    sides: Any = [Covered(cursor), Covered(cursor)]
    tables = contextlib.nullcontext(Tables(looks))
    return comparison.compare(tables, BEFORE, AFTER, sides, lambda: None, lambda left: None)


def test_a_first_record_that_one_side_has_not_copied_yet_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Pair(KEY, (-1, 0), Side(0, 0), Side(1, 5), True)
    assert compared(0, [[missing], []], monkeypatch).equal


def test_a_tally_that_is_missing_below_the_cut_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Pair(KEY, (-1, 0), Side(0, 0), Side(1, 5), True)
    assert compared(1, [[missing]], monkeypatch).differing == 1


def test_a_row_of_no_partition_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the former tables alone: a rebuild is what makes it go away."""
    stranger = Pair(KEY._replace(shard=9), (5, -1), Side(1, 5), Side(0, 0), True)
    assert compared(1, [[stranger]], monkeypatch).differing == 1

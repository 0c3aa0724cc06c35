"""Billing cycles: month ends, anchors, and the part of a cycle that a range cuts off."""

from __future__ import annotations

import pytest

from pipeline.domain.cycles import CYCLES_MAX, cycles
from pipeline.domain.times import timestamp_ms_of, timestamp_text


def at(day: str) -> int:
    return timestamp_ms_of(day if "T" in day else f"{day}T00:00:00Z")


def days(found) -> list[str]:
    return [timestamp_text(cycle.start_ms)[:10] for cycle in found]


def test_a_month_without_the_anchors_day_begins_on_its_last() -> None:
    start = at("2026-01-31")
    found = cycles("month", 1, start, start, at("2026-06-30"))
    assert days(found) == ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]
    assert all(cycle.whole for cycle in found)


def test_leap_years() -> None:
    assert days(cycles("year", 1, at("2024-02-29"), at("2024-02-29"), at("2029-01-01"))) == [
        "2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"
    ]  # fmt: skip
    assert days(cycles("month", 3, at("2023-11-30"), at("2023-11-30"), at("2024-09-01"))) == [
        "2023-11-30", "2024-02-29", "2024-05-30", "2024-08-30"
    ]  # fmt: skip


@pytest.mark.parametrize("anchor", ["2026-01-15T12:00:00Z", "2031-07-15T12:00:00Z", "2019-11-15T12:00:00Z"])
def test_an_anchor_may_lie_anywhere(anchor: str) -> None:
    found = cycles("month", 1, at(anchor), at("2026-03-01"), at("2026-04-15T12:00:00Z"))
    assert [(timestamp_text(c.from_ms), timestamp_text(c.until_ms), c.whole) for c in found] == [
        ("2026-03-01T00:00:00Z", "2026-03-15T12:00:00Z", False),
        ("2026-03-15T12:00:00Z", "2026-04-15T12:00:00Z", True),
    ]
    assert timestamp_text(found[0].start_ms) == "2026-02-15T12:00:00Z"


def test_the_end_of_the_range_cuts_the_last_cycle() -> None:
    found = cycles("week", 2, at("2026-01-01"), at("2026-01-01"), at("2026-01-20"))
    assert [(timestamp_text(c.until_ms)[:10], timestamp_text(c.end_ms)[:10], c.whole) for c in found] == [
        ("2026-01-15", "2026-01-15", True),
        ("2026-01-20", "2026-01-29", False),
    ]


def test_no_more_than_can_be_shown() -> None:
    start = at("2026-01-01")
    assert len(cycles("day", 1, start, start, start + CYCLES_MAX * 86_400_000)) == CYCLES_MAX
    with pytest.raises(ValueError, match="more than 1000 billing cycles"):
        cycles("day", 1, start, start, start + CYCLES_MAX * 86_400_000 + 1)

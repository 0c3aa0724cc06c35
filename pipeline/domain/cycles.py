"""Billing cycles: the stretches of time that a plan charges for, counted from an anchor, in UTC.

A cycle begins at the anchor's time of day. Months and years keep the anchor's day of the month; where a month has no
such day, its last one: from 31 January on, cycles begin on 28 February, 31 March, 30 April.
"""

from __future__ import annotations

import calendar
import datetime
from typing import Literal, NamedTuple

from pipeline.domain.limits import DAY_MS

Interval = Literal["day", "week", "month", "year"]

CYCLES_MAX = 1_000
"""How many cycles one question may span."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "year": 12}


class Cycle(NamedTuple):
    """[start_ms, end_ms), and the part of it that lies in the range that was asked for."""

    start_ms: int
    end_ms: int
    from_ms: int
    until_ms: int

    @property
    def whole(self) -> bool:
        """Whether all of it lies in the range."""
        return (self.from_ms, self.until_ms) == (self.start_ms, self.end_ms)


def cycles(interval: Interval, interval_count: int, anchor_ms: int, start_ms: int, end_ms: int) -> tuple[Cycle, ...]:
    """The cycles that overlap [start_ms, end_ms), in order. Raises ValueError for more than CYCLES_MAX.

    All times lie in the years 1 to 9999, with room for one cycle at either end.
    """
    number = _first(interval, interval_count, anchor_ms, start_ms)
    begins = _boundary(interval, interval_count * number, anchor_ms)
    found = []
    while begins < end_ms:
        number += 1
        ends = _boundary(interval, interval_count * number, anchor_ms)
        found.append(Cycle(begins, ends, max(begins, start_ms), min(ends, end_ms)))
        begins = ends
        if len(found) > CYCLES_MAX:
            raise ValueError(f"the range spans more than {CYCLES_MAX} billing cycles")
    return tuple(found)


def _first(interval: Interval, interval_count: int, anchor_ms: int, moment_ms: int) -> int:
    """The number of the cycle that the moment lies in; 0 begins at the anchor."""
    if interval in _DAYS:
        return (moment_ms - anchor_ms) // (_DAYS[interval] * interval_count * DAY_MS)
    months = _months(moment_ms) - _months(anchor_ms)
    number = months // (_MONTHS[interval] * interval_count)
    # The day of the month decides whether that cycle has begun yet.
    return number if _boundary(interval, interval_count * number, anchor_ms) <= moment_ms else number - 1


def _boundary(interval: Interval, intervals: int, anchor_ms: int) -> int:
    if interval in _DAYS:
        return anchor_ms + intervals * _DAYS[interval] * DAY_MS
    anchor = _moment(anchor_ms)
    year, month = divmod(_months(anchor_ms) + intervals * _MONTHS[interval], 12)
    day = min(anchor.day, calendar.monthrange(year, month + 1)[1])
    midnight = datetime.datetime(year, month + 1, day, tzinfo=datetime.UTC)
    return (midnight - _EPOCH).days * DAY_MS + anchor_ms % DAY_MS


def _months(moment_ms: int) -> int:
    moment = _moment(moment_ms)
    return moment.year * 12 + moment.month - 1


def _moment(moment_ms: int) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(milliseconds=moment_ms)

"""Windows as zoneinfo shows them, found by looking at one minute after the other: slow, and plain to see."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from zoneinfo import ZoneInfo

from pipeline.clickhouse.windows import Unit
from pipeline.domain.limits import MINUTE_MS

ZONES = (
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Asia/Kolkata",  # :30
    "Asia/Kathmandu",  # :45
    "Australia/Lord_Howe",  # changes by half an hour
    "America/Havana",  # changes at midnight, forward and back
    "America/Sao_Paulo",  # days that began at 01:00
    "Pacific/Apia",  # a day that never was
    "America/Goose_Bay",  # changes one minute past midnight
    "Africa/Casablanca",  # rules written out to 2087
)


def clock(ms: int, zone: str) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms // 1000, ZoneInfo(zone))


def first_minute(start_ms: int, holds: Callable[[int], bool]) -> int:
    return next(ms for ms in itertools.count(start_ms, MINUTE_MS) if holds(ms))


def oracle_window(unit: Unit, ms: int, zone: str) -> tuple[int, int]:
    """Start and end of the window of a minute, found by looking at the zone's clock minute by minute."""
    here = clock(ms, zone)
    if unit is Unit.MINUTE:
        return ms, ms + MINUTE_MS
    if unit is Unit.HOUR:
        same = (here.date(), here.hour, here.utcoffset())
        end = first_minute(
            ms, lambda m: (clock(m, zone).date(), clock(m, zone).hour, clock(m, zone).utcoffset()) != same
        )
        start = end
        while True:
            before = clock(start - MINUTE_MS, zone)
            if (before.date(), before.hour, before.utcoffset()) != same:
                return start, end
            start -= MINUTE_MS
    first = here.date() if unit is Unit.DAY else here.date().replace(day=1)
    last = first + dt.timedelta(days=1) if unit is Unit.DAY else (first + dt.timedelta(days=31)).replace(day=1)
    return date_begins(first, zone), date_begins(last, zone)


def date_begins(date: dt.date, zone: str) -> int:
    """The first minute at which the clock shows this date or a later one."""
    rough = int(dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC).timestamp()) * 1000
    return first_minute(rough - 26 * 3_600_000, lambda ms: clock(ms, zone).date() >= date)

"""Windows of time: which one a moment lies in, by the clocks of a zone.

Windows are half-open and tile the time line. A minute and an hour are cut by the clocks too, but an hour that the
clocks show twice is two windows, and one that a change of the clocks cuts is shorter. A day and a month are calendar
days and months: 23 or 25 hours long when the clocks change, and one window however often its midnight comes.
"""

from __future__ import annotations

import datetime
import enum
import re
import zoneinfo
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.clickhouse.zones import BEGINNING_MS, END_MS, Piece, pieces_of
from pipeline.domain.limits import DAY_MS, HOUR_MS, MINUTE_MS
from pipeline.domain.times import TIME_GRAMMAR, timestamp_ms_of, timestamp_text

_EPOCH = datetime.date(1970, 1, 1)


class Unit(enum.StrEnum):
    """How long a window is."""

    NONE = "none"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class Window(NamedTuple):
    """[start_ms, end_ms), UTC."""

    start_ms: int
    end_ms: int


class Bucket(NamedTuple):
    """A window as a query groups by it: what the clocks show at its start, and (hours only) the piece it lies in."""

    local_ms: int
    piece_ms: int


def bucket_of(unit: Unit, moment_ms: int, pieces: Sequence[Piece]) -> Bucket:
    """The bucket of a moment, as the SQL of queries.py computes it."""
    if unit is Unit.NONE:
        return Bucket(0, 0)
    if unit is Unit.MINUTE:
        return Bucket(moment_ms - moment_ms % MINUTE_MS, 0)
    piece = _piece_at(moment_ms, pieces)
    shown_ms = moment_ms + piece.offset_ms
    if unit is Unit.HOUR:
        return Bucket(shown_ms - shown_ms % HOUR_MS, piece.starts_ms)
    if unit is Unit.DAY:
        return Bucket(shown_ms - shown_ms % DAY_MS, 0)
    return Bucket(_local_ms(_date(shown_ms).replace(day=1)), 0)


def window_of(unit: Unit, bucket: Bucket, pieces: Sequence[Piece]) -> Window:
    """The window of a bucket. ``pieces`` reach at least a month beyond it."""
    local_ms = bucket.local_ms
    if unit is Unit.NONE:
        return Window(BEGINNING_MS, END_MS)
    if unit is Unit.MINUTE:
        return Window(local_ms, local_ms + MINUTE_MS)
    if unit is Unit.HOUR:
        piece = _piece_at(bucket.piece_ms, pieces)
        start_ms = local_ms - piece.offset_ms
        return Window(max(start_ms, piece.starts_ms), min(start_ms + HOUR_MS, piece.ends_ms))
    if unit is Unit.DAY:
        return Window(_instant(local_ms, pieces), _instant(local_ms + DAY_MS, pieces))
    first = _date(local_ms)
    next_first = (first + datetime.timedelta(days=31)).replace(day=1)
    return Window(_instant(local_ms, pieces), _instant(_local_ms(next_first), pieces))


def _piece_at(moment_ms: int, pieces: Sequence[Piece]) -> Piece:
    return next((piece for piece in pieces if moment_ms < piece.ends_ms), pieces[-1])


def _instant(local_ms: int, pieces: Sequence[Piece]) -> int:
    """The first moment at which the clocks show ``local_ms`` or later."""
    piece = next((piece for piece in reversed(pieces) if piece.local_starts_ms <= local_ms), pieces[0])
    return max(piece.starts_ms, local_ms - piece.offset_ms)


def _date(local_ms: int) -> datetime.date:
    return _EPOCH + datetime.timedelta(days=local_ms // DAY_MS)


def _local_ms(date: datetime.date) -> int:
    return (date - _EPOCH).days * DAY_MS


_LOCAL_TIME = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:[Tt ](\d{2}):(\d{2})(?::(\d{2}))?)?)?)?", re.ASCII)

MOMENT_GRAMMAR = f"2026, 2026-01, 2026-01-31 or 2026-01-31T17:05 by the clocks of the zone; {TIME_GRAMMAR}"


def moment_of(text: str, zone: str) -> int:
    """Milliseconds of a time that may leave out its offset and its smaller parts: the zone's clocks complete it.

    A time that the clocks show twice is the first of the two, one that they skip is when they skip it. Raises
    ValueError.
    """
    match = _LOCAL_TIME.fullmatch(text)
    if match is None:
        return timestamp_ms_of(text)
    parts = [int(part) if part else least for part, least in zip(match.groups(), (1, 1, 1, 0, 0, 0), strict=True)]
    local = datetime.datetime(*parts, tzinfo=datetime.UTC)  # type: ignore[arg-type, misc]  # six numbers
    return _instant(int(local.timestamp()) * 1000, pieces_of(zone))


def moment_text(moment_ms: int, zone: str) -> str:
    """RFC 3339 by the clocks of a zone."""
    try:
        moment = datetime.datetime.fromtimestamp(moment_ms / 1000, zoneinfo.ZoneInfo(zone))
    except (OverflowError, ValueError):
        return timestamp_text(moment_ms)
    return moment.isoformat(timespec="milliseconds" if moment_ms % 1000 else "seconds").replace("+00:00", "Z")

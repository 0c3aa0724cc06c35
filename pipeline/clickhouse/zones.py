"""Time zones as data: the stretches of one offset that a zone's time line is made of.

One time zone database decides what a day is: the one that Python's zoneinfo reads. ClickHouse carries another, of
another age, and some of its functions round a zone's history; a bill must not depend on which of the two was asked.
So windows are computed by plain arithmetic over these pieces: given as parameters by `meterline query`, read from the
table ``zones`` by the view ``meter_event_summaries``.
"""

from __future__ import annotations

import datetime
import functools
import importlib.resources
import struct
import zoneinfo
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UsageError

BEGINNING_MS = -(2**60)
END_MS = 2**60
"""Before and after every time that a record can have."""

_LAST_YEAR = 2070
"""Rules that go on for ever are written out until here; then the last offset stays."""
_STEP_S = 30 * 86_400
"""Shorter than any stretch that a yearly rule makes; older and irregular changes stand in the file itself."""


class Piece(NamedTuple):
    """[starts_ms, ends_ms) of one zone's time line, UTC; the clocks there show UTC + offset_ms."""

    starts_ms: int
    ends_ms: int
    offset_ms: int
    local_starts_ms: int
    """What the clocks showed the moment before they were set, as if it were UTC."""


def known_zones() -> list[str]:
    """Every zone name of the database. ``localtime`` is left out: it is another zone on another machine."""
    return sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})


@functools.lru_cache(maxsize=1024)
def pieces_of(zone: str) -> tuple[Piece, ...]:
    """The whole time line of a zone in order. Raises UsageError for a name that the database does not have."""
    try:
        info = zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"there is no time zone {zone!r}; examples: UTC, Europe/Berlin, America/New_York") from error
    pieces: list[Piece] = []
    offset_ms = _offset_ms(info, 0)
    starts_ms, local_starts_ms = BEGINNING_MS, BEGINNING_MS
    for change_s in _changes(info, zone):
        after_ms = _offset_ms(info, change_s)
        if after_ms != offset_ms:
            pieces.append(Piece(starts_ms, change_s * 1000, offset_ms, local_starts_ms))
            starts_ms, local_starts_ms = change_s * 1000, change_s * 1000 + offset_ms
            offset_ms = after_ms
    pieces.append(Piece(starts_ms, END_MS, offset_ms, local_starts_ms))
    return tuple(pieces)


def pieces_between(zone: str, start_ms: int, end_ms: int) -> tuple[Piece, ...]:
    """The pieces that overlap [start_ms, end_ms), at least one."""
    return tuple(piece for piece in pieces_of(zone) if piece.ends_ms > start_ms and piece.starts_ms < end_ms)


def _offset_ms(info: zoneinfo.ZoneInfo, moment_s: int) -> int:
    offset = datetime.datetime.fromtimestamp(moment_s, info).utcoffset()
    assert offset is not None
    return offset // datetime.timedelta(milliseconds=1)


def _changes(info: zoneinfo.ZoneInfo, zone: str) -> list[int]:
    """Every moment since 1970 at which the offset may change, ascending, in seconds."""
    listed, rule = _listed_changes(zone)
    changes = [moment for moment in listed if moment > 0]
    if "," not in rule:
        return changes
    moment = changes[-1] if changes else 0
    end = int(datetime.datetime(_LAST_YEAR, 1, 1, tzinfo=datetime.UTC).timestamp())
    while moment < end:
        later = min(moment + _STEP_S, end)
        if _offset_ms(info, later) != _offset_ms(info, moment):
            changes.append(_first_with_offset_of(info, moment, later))
        moment = later
    return changes


def _first_with_offset_of(info: zoneinfo.ZoneInfo, before: int, after: int) -> int:
    """The second in (before, after] at which the offset of ``after`` begins; there is one change between them."""
    wanted = _offset_ms(info, after)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (before, middle) if _offset_ms(info, middle) == wanted else (middle, after)
    return after


_HEADER = struct.Struct(">4sc15x6l")


def _listed_changes(zone: str) -> tuple[list[int], str]:
    """The transition times in a zone's TZif file (RFC 9636), in seconds, and its rule for all times after them."""
    tzif = _tzif(zone)
    magic, _, *counts = _HEADER.unpack_from(tzif)
    assert magic == b"TZif", f"{zone} is no TZif file"
    # A first block for readers of 32 bits stands before the one that counts.
    start = _HEADER.size + _block_bytes(counts, 4)
    _, _, *counts = _HEADER.unpack_from(tzif, start)
    start += _HEADER.size
    times = struct.unpack_from(f">{counts[3]}q", tzif, start)
    return list(times), tzif[start + _block_bytes(counts, 8) :].decode("ascii").strip("\n")


def _block_bytes(counts: list[int], time_bytes: int) -> int:
    utc_flags, standard_flags, leaps, times, types, name_chars = counts
    return times * (time_bytes + 1) + types * 6 + name_chars + leaps * (time_bytes + 4) + standard_flags + utc_flags


def _tzif(zone: str) -> bytes:
    """The file that zoneinfo reads for this zone: the system's, else the tzdata package's."""
    for directory in zoneinfo.TZPATH:
        path = Path(directory, zone)
        if path.is_file():
            return path.read_bytes()
    return importlib.resources.files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes()

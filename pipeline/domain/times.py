"""Times as text and as int milliseconds since the epoch, UTC. Text says its zone: a guess would be hours off."""

from __future__ import annotations

import datetime
import re

_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_WHOLE_MS = re.compile(r"-?\d{1,15}", re.ASCII)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MS = datetime.timedelta(milliseconds=1)

TIME_GRAMMAR = "2013-01-31T17:05:00Z, the same with an offset such as -05:00, or whole milliseconds since 1970"


def timestamp_ms_of(text: str) -> int:
    """Milliseconds of an RFC 3339 time or of a whole number of milliseconds; digits below them are cut off.

    Raises ValueError for anything else: times without a zone, leap seconds, days that do not exist.
    """
    if _WHOLE_MS.fullmatch(text):
        return int(text)
    if not _RFC3339.fullmatch(text):
        raise ValueError(f"a time is written {TIME_GRAMMAR}")
    try:
        moment = datetime.datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise ValueError(f"no such time ({error}); a time is written {TIME_GRAMMAR}") from error
    return (moment - _EPOCH) // _MS


def timestamp_text(timestamp_ms: int) -> str:
    """RFC 3339 in UTC, with milliseconds only where there are any; the plain number where no calendar reaches."""
    try:
        moment = _EPOCH + timestamp_ms * _MS
    except OverflowError:
        return str(timestamp_ms)
    return moment.isoformat(timespec="milliseconds" if timestamp_ms % 1000 else "seconds").replace("+00:00", "Z")

"""Points in time as text: RFC 3339 in and out, for the v2 face. Inside, times are int milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

MOMENT_S_MAX = 253_402_300_799
"""The last second of the year 9999."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII)


def moment_ms(text: str) -> int | None:
    """Milliseconds since the epoch, finer digits dropped; None for what is no RFC 3339 time from 1970 to 9999."""
    match = _RFC_3339.fullmatch(text)
    if not match:
        return None
    day, time, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time}+00:00")
    except ValueError:
        return None
    if sign and (int(hours) > 23 or int(minutes) > 59):
        return None
    ahead_s = (int(hours) * 3_600 + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    seconds = (moment - _EPOCH) // timedelta(seconds=1) - ahead_s
    if not 0 <= seconds <= MOMENT_S_MAX:
        return None
    return seconds * 1_000 + int((fraction or "0").ljust(3, "0")[:3])


def rfc_3339(ms: int) -> str:
    """As v2 shows it: UTC, three decimals, Z."""
    seconds, rest = divmod(ms, 1_000)
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:03d}Z"

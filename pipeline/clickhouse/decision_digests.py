"""The hash of a disposition (codec/decision_digests.py) as SQL over a row of ``dispositions``.

Both are held together by a test: a difference of a digest is then a difference of a row, never one of arithmetic.
"""

from __future__ import annotations

_MOMENTS = frozenset({"timestamp", "appended_at"})
_FIELDS = (
    "partition",
    "offset",
    "decided_offset",
    "record",
    "disposition",
    "reason",
    "livemode",
    "event_name",
    "identifier",
    "customer",
    "value",
    "timestamp",
    "appended_at",
    "adjustment_id",
    "first_offset",
    "events_cancelled",
)


def _text(name: str) -> str:
    known = f"assumeNotNull({name})"
    if name in _MOMENTS:
        return f"toString(toUnixTimestamp64Milli({known}))"
    if name == "value":
        return f"toString(reinterpret({known}, 'Int128'))"
    return f"toString(toUInt8({known}))" if name == "livemode" else f"toString({known})"


def _sized(name: str) -> str:
    text = _text(name)
    return f"if(isNull({name}), '-', concat(toString(length({text})), ':', {text}))"


DECISION_HASH = f"""SHA256(concat(
        {", ".join(map(_sized, _FIELDS))})) AS seal,
    reinterpretAsUInt64(substring(seal, 1, 8)) AS lane_0,
    reinterpretAsUInt64(substring(seal, 9, 8)) AS lane_1"""
"""For a WITH clause: ``lane_0`` and ``lane_1`` of the row's hash."""

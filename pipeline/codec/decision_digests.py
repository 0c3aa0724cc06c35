"""The hash of a disposition: two lanes of 64 bits of a SHA-256 over its fields, as SQL can compute it too.

Each field is its text with the number of its bytes in front, or a dash where there is none.
"""

from __future__ import annotations

import hashlib

from pipeline.codec.columns import MOMENT_PLAIN_MAX_MS, MOMENT_PLAIN_MIN_MS
from pipeline.domain.events import Disposition
from pipeline.domain.limits import VALUE_BOUND

BUCKET_OFFSETS = 2**16
"""Dispositions of so many journal offsets have one digest."""


def decision_lanes(one: Disposition) -> tuple[int, int]:
    seal = hashlib.sha256(decision_text(one)).digest()
    return int.from_bytes(seal[:8], "little"), int.from_bytes(seal[8:16], "little")


def decision_text(one: Disposition) -> bytes:
    """What is hashed (clickhouse/decision_digests.py writes the same)."""
    fields = (
        one.partition,
        one.offset,
        one.decided_offset,
        one.record,
        one.disposition,
        one.reason,
        None if one.livemode is None else int(one.livemode),
        one.event_name,
        one.identifier,
        one.customer,
        shown_value(one.value),
        shown_moment(one.timestamp_ms),
        shown_moment(one.appended_at_ms),
        one.adjustment_id,
        one.first_offset,
        one.events_cancelled,
    )
    return b"".join([b"-" if field is None else _sized(str(field).encode()) for field in fields])


def _sized(text: bytes) -> bytes:
    return b"%d:%b" % (len(text), text)


def shown_value(value: int | None) -> int | None:
    """A value as tables hold it: one of more digits than any may have, which some rejected event has, is none there."""
    return None if value is None or not -VALUE_BOUND < value < VALUE_BOUND else value


def shown_moment(ms: int | None) -> int | None:
    """A time as tables hold it."""
    return None if ms is None else min(max(ms, MOMENT_PLAIN_MIN_MS), MOMENT_PLAIN_MAX_MS)

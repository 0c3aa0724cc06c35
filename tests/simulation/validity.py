"""What a record must be to count at all, and which partition is its home: the oracle's own reading of the design."""

from __future__ import annotations

import unicodedata

from pipeline.domain.events import Cancellation, MeterEvent


def _visible(text: str) -> bool:
    return all(unicodedata.category(char) not in {"Cc", "Cf", "Zl", "Zp", "Cs"} for char in text)


def _text(text: str) -> bool:
    return 1 <= len(text) <= 100 and _visible(text)


def content_fault(event: MeterEvent) -> str | None:
    """Why this usage can count nowhere, by the code that its decision names."""
    if not _text(event.identifier):
        return "invalid_identifier"
    if not _text(event.event_name):
        return "invalid_event_name"
    if event.customer == "":
        return "meter_event_no_customer_defined"
    if not _text(event.customer):
        return "invalid_customer"
    if len(event.dimensions) > 16:
        return "meter_event_dimension_count_too_high"
    if not all(_text(key) and (value == "" or _text(value)) for key, value in event.dimensions):
        return "invalid_dimension"
    if len(str(abs(event.value))) > 38:
        return "meter_event_value_too_many_digits"
    return None


def request_fault(request: Cancellation) -> str | None:
    """Why this cancellation can take nothing back."""
    if not _text(request.adjustment_id) or (request.identifier is None) == (request.range is None):
        return "invalid_adjustment"
    if not _text(request.event_name):
        return "invalid_event_name"
    if request.identifier is not None:
        return None if _text(request.identifier) else "invalid_identifier"
    if request.range.start_ms >= request.range.end_ms:
        return "invalid_adjustment"
    return None if request.range.customer is None or _text(request.range.customer) else "invalid_customer"


_homes: dict[tuple[str, int], int] = {}


def home(identifier: str, partitions: int) -> int:
    """Kafka's murmur2 over the identifier's bytes, as org.apache.kafka.common.utils.Utils defines it."""
    found = _homes.get((identifier, partitions))
    if found is None:
        found = _homes[identifier, partitions] = (_murmur2(identifier.encode()) & 0x7FFFFFFF) % partitions
    return found


def _murmur2(text: bytes) -> int:
    mask, multiplier = 0xFFFFFFFF, 0x5BD1E995
    found = 0x9747B28C ^ len(text)
    while len(text) >= 4:
        word = int.from_bytes(text[:4], "little") * multiplier & mask
        word = (word ^ word >> 24) * multiplier & mask
        found, text = found * multiplier & mask ^ word, text[4:]
    if text:
        found = (found ^ int.from_bytes(text, "little")) * multiplier & mask
    found = (found ^ found >> 13) * multiplier & mask
    return found ^ found >> 15

"""The words for what became of a record. The lists are complete: a record ends in exactly one of them."""

from __future__ import annotations

from typing import Final

COUNTED: Final = "counted"
DUPLICATE: Final = "duplicate"
DUPLICATE_DIFFERS: Final = "duplicate_differs"
CANCELLED: Final = "cancelled"
REJECTED: Final = "rejected"
REROUTED: Final = "rerouted"
UNDECODABLE: Final = "undecodable"
PENDING: Final = "pending"
ALREADY_CANCELLED: Final = "already_cancelled"
TOO_LATE: Final = "too_late"
NOT_FOUND: Final = "not_found"

EVENT_DISPOSITIONS: Final = (COUNTED, DUPLICATE, DUPLICATE_DIFFERS, CANCELLED, REJECTED, REROUTED)
CANCELLATION_DISPOSITIONS: Final = (
    PENDING,
    CANCELLED,
    ALREADY_CANCELLED,
    TOO_LATE,
    NOT_FOUND,
    DUPLICATE,
    REJECTED,
    REROUTED,
)
DISPOSITIONS: Final = tuple(dict.fromkeys((*EVENT_DISPOSITIONS, *CANCELLATION_DISPOSITIONS, UNDECODABLE)))

EVENT: Final = "event"
CANCELLATION: Final = "cancellation"
RANGE_CANCELLATION: Final = "range_cancellation"
UNKNOWN: Final = "unknown"
RECORD_KINDS: Final = (EVENT, CANCELLATION, RANGE_CANCELLATION, UNKNOWN)

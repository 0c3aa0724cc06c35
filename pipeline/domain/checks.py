"""What makes an event acceptable, as data: checks in a documented order, each with the reason it gives.

The first check that fails names the reason, so the same bad event always gets the same answer. The characters are
spelled out as code points rather than asked of a Unicode table, because two Unicode versions would be two folds.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from pipeline.domain.events import Adjustment, Cancellation, MeterEvent
from pipeline.domain.limits import (
    CUSTOMER_CHARS_MAX,
    DIMENSION_KEY_CHARS_MAX,
    DIMENSION_VALUE_CHARS_MAX,
    DIMENSIONS_MAX,
    EVENT_NAME_CHARS_MAX,
    IDENTIFIER_CHARS_MAX,
    VALUE_BOUND,
    FoldRules,
)

INVALID_IDENTIFIER = "invalid_identifier"
INVALID_EVENT_NAME = "invalid_event_name"
NO_CUSTOMER = "meter_event_no_customer_defined"
INVALID_CUSTOMER = "invalid_customer"
TOO_MANY_DIMENSIONS = "meter_event_dimension_count_too_high"
INVALID_DIMENSION = "invalid_dimension"
TOO_MANY_DIGITS = "meter_event_value_too_many_digits"
TIMESTAMP_TOO_OLD = "timestamp_too_far_in_past"
TIMESTAMP_IN_FUTURE = "timestamp_in_future"
INVALID_ADJUSTMENT = "invalid_adjustment"

FORBIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
"""Control and format characters, line and paragraph separators, surrogates: what cannot be seen cannot be billed."""

_FORBIDDEN = re.compile(f"[{FORBIDDEN}]")


def is_text(text: str, chars_max: int) -> bool:
    """1 to ``chars_max`` code points, none of them forbidden. Nothing is normalised: bytes decide equality."""
    return 0 < len(text) <= chars_max and not _FORBIDDEN.search(text)


_known_text = functools.lru_cache(20_000)(is_text)


def _is_name(text: str, chars_max: int) -> bool:
    """The same for texts that many events share. What is too long is not remembered: it may be a megabyte."""
    return len(text) <= chars_max and _known_text(text, chars_max)


def _dimension_is_bad(event: MeterEvent) -> bool:
    for key, value in event.dimensions:
        if not _is_name(key, DIMENSION_KEY_CHARS_MAX) or (value and not _is_name(value, DIMENSION_VALUE_CHARS_MAX)):
            return True
    return False


CONTENT_CHECKS: tuple[tuple[str, Callable[[MeterEvent], bool]], ...] = (
    (INVALID_IDENTIFIER, lambda event: not is_text(event.identifier, IDENTIFIER_CHARS_MAX)),
    (INVALID_EVENT_NAME, lambda event: not _is_name(event.event_name, EVENT_NAME_CHARS_MAX)),
    (NO_CUSTOMER, lambda event: event.customer == ""),
    (INVALID_CUSTOMER, lambda event: not _is_name(event.customer, CUSTOMER_CHARS_MAX)),
    (TOO_MANY_DIMENSIONS, lambda event: len(event.dimensions) > DIMENSIONS_MAX),
    (INVALID_DIMENSION, _dimension_is_bad),
    (TOO_MANY_DIGITS, lambda event: not -VALUE_BOUND < event.value < VALUE_BOUND),
)
"""(reason, does it fail): what can be said of an event without a clock, in order."""

TIME_CHECKS: tuple[tuple[str, Callable[[int, int, FoldRules], bool]], ...] = (
    (TIMESTAMP_TOO_OLD, lambda timestamp_ms, clock_ms, rules: timestamp_ms < clock_ms - rules.max_past_ms),
    (TIMESTAMP_IN_FUTURE, lambda timestamp_ms, clock_ms, rules: timestamp_ms > clock_ms + rules.max_ahead_ms),
)
"""(reason, does it fail), after the content checks. Both borders are accepted."""

REASONS = (*(reason for reason, _ in (*CONTENT_CHECKS, *TIME_CHECKS)), INVALID_ADJUSTMENT)


def check_content(event: MeterEvent) -> str | None:
    """The reason to refuse this event whenever it comes, or None."""
    for reason, fails in CONTENT_CHECKS:
        if fails(event):
            return reason
    return None


def check_times(timestamp_ms: int, clock_ms: int, rules: FoldRules) -> str | None:
    """The reason to reject an event with this timestamp at ``clock_ms``, or None."""
    for reason, fails in TIME_CHECKS:
        if fails(timestamp_ms, clock_ms, rules):
            return reason
    return None


def check_event(event: MeterEvent, clock_ms: int, rules: FoldRules) -> str | None:
    """The reason to reject this event at ``clock_ms``, or None."""
    return check_content(event) or check_times(event.timestamp_ms, clock_ms, rules)


def check_cancellation(request: Cancellation | Adjustment, request_id: str) -> str | None:
    """The reason to reject a request to take usage back, or None."""
    if not is_text(request_id, IDENTIFIER_CHARS_MAX) or (request.identifier is None) == (request.range is None):
        return INVALID_ADJUSTMENT
    if not is_text(request.event_name, EVENT_NAME_CHARS_MAX):
        return INVALID_EVENT_NAME
    if request.identifier is not None and not is_text(request.identifier, IDENTIFIER_CHARS_MAX):
        return INVALID_IDENTIFIER
    if request.range is not None:
        if request.range.start_ms >= request.range.end_ms:
            return INVALID_ADJUSTMENT
        if request.range.customer is not None and not is_text(request.range.customer, CUSTOMER_CHARS_MAX):
            return INVALID_CUSTOMER
    return None

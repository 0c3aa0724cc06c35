"""Every number the fold depends on, and the relations between them.

Two workers that hold different numbers would give different answers for the same prefix, so the rules are part of the
fold's version: a store written under one version is never continued under another.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Self

from pipeline.errors import Refusal

FOLD_VERSION = 1
"""Raised whenever the meaning of the fold changes; part of every store, snapshot and generation."""

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

VALUE_SCALE = 12
"""Digits after the point. A value is an int in units of 10^-12."""
VALUE_PRECISION = 38
"""Digits in all, so 26 before the point."""
VALUE_UNIT = 10**VALUE_SCALE
VALUE_BOUND = 10**VALUE_PRECISION
"""Every value v satisfies -VALUE_BOUND < v < VALUE_BOUND."""

IDENTIFIER_CHARS_MAX = 100
EVENT_NAME_CHARS_MAX = 100
CUSTOMER_CHARS_MAX = 100
DIMENSIONS_MAX = 16
DIMENSION_KEY_CHARS_MAX = 100
DIMENSION_VALUE_CHARS_MAX = 100

TEXT_SHOWN_CHARS_MAX = 200
"""How much of an overlong text a disposition repeats; what is accepted is never longer."""
assert max(IDENTIFIER_CHARS_MAX, EVENT_NAME_CHARS_MAX, CUSTOMER_CHARS_MAX) <= TEXT_SHOWN_CHARS_MAX

MAX_PAST_MS_DEFAULT = 35 * DAY_MS
MAX_AHEAD_MS_DEFAULT = 5 * MINUTE_MS


@dataclasses.dataclass(frozen=True, slots=True)
class FoldRules:
    """The settings of one deployment's fold, all in milliseconds.

    ``max_past_ms``: how much older than its append an event's timestamp may be.
    ``max_ahead_ms``: how far ahead of its append it may be.
    ``cancel_window_ms``: how long after its append an event can be taken back, and how long a cancellation waits for
    its event. None means the dedup window.
    """

    max_past_ms: int = MAX_PAST_MS_DEFAULT
    max_ahead_ms: int = MAX_AHEAD_MS_DEFAULT
    cancel_window_ms: int | None = None

    def __post_init__(self) -> None:
        if self.max_past_ms <= 0 or self.max_ahead_ms < 0:
            raise ValueError("max_past_ms must be positive and max_ahead_ms must not be negative")
        if not 0 < self.cancellation_window_ms <= self.dedup_window_ms:
            raise ValueError("the cancellation window must be positive and no longer than the dedup window")

    @property
    def dedup_window_ms(self) -> int:
        """How long an identity is remembered: as long as the span of timestamps that is accepted (invariant 3)."""
        return self.max_past_ms + self.max_ahead_ms

    @property
    def cancellation_window_ms(self) -> int:
        return self.dedup_window_ms if self.cancel_window_ms is None else self.cancel_window_ms

    @property
    def version(self) -> str:
        """The fold's version: code and rules, as it stands in stores and snapshots."""
        return (
            f"fold-{FOLD_VERSION};past={self.max_past_ms};ahead={self.max_ahead_ms};"
            f"cancel={self.cancellation_window_ms}"
        )

    @classmethod
    def of_version(cls, version: str) -> Self:
        """The rules that a version was made of. Raises Refusal for one of another code than this."""
        match = re.fullmatch(rf"fold-{FOLD_VERSION};past=(\d+);ahead=(\d+);cancel=(\d+)", version)
        if match is None:
            raise Refusal(
                f"the live generation was folded by {version}, and this program is fold-{FOLD_VERSION}: going on would"
                " mix two meanings. Run the release that wrote it; `meterline rebuild` of this one builds a generation"
                " of its own beside it and switches over"
            )
        past_ms, ahead_ms, cancel_ms = (int(number) for number in match.groups())
        return cls(past_ms, ahead_ms, cancel_ms)

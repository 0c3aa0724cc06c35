"""Records near a moment of their own, folded under rules with short windows, and what was decided in words.

Times are milliseconds after T0, where every clock starts. An event may be 20 minutes old and one minute ahead, so
identities are remembered for 21 minutes; events can be taken back for 5.
"""

from __future__ import annotations

from typing import Any

from pipeline.domain.events import Cancellation, CancellationRange, MeterEvent
from pipeline.domain.fold import Journal, Record, Undecodable, step
from pipeline.domain.limits import MINUTE_MS, FoldRules
from pipeline.domain.state import PlainState

T0 = 1_700_000_040_000
PAST, AHEAD, CANCEL = 20 * MINUTE_MS, MINUTE_MS, 5 * MINUTE_MS
DEDUP = PAST + AHEAD
RULES = FoldRules(PAST, AHEAD, CANCEL)
ALONE = Journal(0, 1, RULES)

Content = MeterEvent | Cancellation | Undecodable


def event(identifier: str = "a", value: int = 1, at: int = 0, **change: Any) -> MeterEvent:
    usual = MeterEvent(identifier, "calls", "c", value, T0 + at, (), True)
    return usual._replace(**change)


def cancel(identifier: str = "a", by: str = "x", event_name: str = "calls", livemode: bool = True) -> Cancellation:
    return Cancellation(by, event_name, livemode, identifier, None, T0)


def cancel_range(
    start: int, end: int, by: str = "x", requested: int = MINUTE_MS, customer: str | None = None, **change: Any
) -> Cancellation:
    wanted = CancellationRange(customer, T0 + start, T0 + end)
    return Cancellation(by, "calls", True, None, wanted, T0 + requested)._replace(**change)


def said(state: PlainState, journal: Journal, offset: int, appended_at_ms: int, content: Content) -> tuple[str, ...]:
    decided = step(state, journal, Record(offset, appended_at_ms, content))
    assert all(one.decided_offset == offset and one.partition == journal.partition for one in decided)
    return tuple(f"{one.offset} {one.disposition}" + (f" {one.reason}" if one.reason else "") for one in decided)

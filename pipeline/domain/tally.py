"""Tallies: what a minute of one customer's usage comes to.

Adding is a merge that does not care about order (invariant 7). Taking back is subtraction for count and sum; min, max,
last and latest cannot be subtracted, so a tally keeps the entries it is made of and finds them anew when one of them
goes. An entry is a plain tuple (offset, appended_at_ms, timestamp_ms, value): this is the hot loop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from pipeline.domain.events import Last, Latest, MeterEvent, SummaryShard, TallyKey
from pipeline.domain.limits import MINUTE_MS

Entry = tuple[int, int, int, int]
"""(offset, appended_at_ms, timestamp_ms, value)"""


def tally_key(event: MeterEvent) -> TallyKey:
    """The tally that an event counts in: its minute, half-open, UTC."""
    return TallyKey(
        event.livemode,
        event.event_name,
        event.customer,
        event.timestamp_ms // MINUTE_MS * MINUTE_MS,
        event.dimensions,
    )


@dataclasses.dataclass(slots=True)
class Tally:
    """count, sum and extremes of the entries; ``version`` is the offset of the last record that changed it."""

    version: int = -1
    count: int = 0
    sum: int = 0
    min: int | None = None
    max: int | None = None
    last: Last | None = None
    latest: Latest | None = None

    def add(self, entry: Entry) -> None:
        """Count one more event."""
        offset, appended_at_ms, timestamp_ms, value = entry
        last, latest = (timestamp_ms, appended_at_ms, offset, value), (appended_at_ms, offset, value)
        self.version = max(self.version, offset)
        self.count += 1
        self.sum += value
        if self.min is None or value < self.min:
            self.min = value
        if self.max is None or value > self.max:
            self.max = value
        if self.last is None or last > self.last:
            self.last = Last(*last)
        if self.latest is None or latest > self.latest:
            self.latest = Latest(*latest)

    def remove(self, entry: Entry, at_offset: int) -> bool:
        """Take one event back, by the record at ``at_offset``.

        Returns whether min, max, last and latest must be found anew by ``recompute``.
        """
        offset, _, _, value = entry
        self.version = max(self.version, at_offset)
        self.count -= 1
        self.sum -= value
        assert self.last is not None, "an entry of an empty tally cannot be taken back"
        assert self.latest is not None
        return value in (self.min, self.max) or offset in (self.last.offset, self.latest.offset)

    def recompute(self, entries: Iterable[Entry]) -> None:
        """Find min, max, last and latest among the entries that are left."""
        left = Tally()
        for entry in entries:
            left.add(entry)
        assert (left.count, left.sum) == (self.count, self.sum), "the entries of a tally do not add up to it"
        self.min, self.max, self.last, self.latest = left.min, left.max, left.last, left.latest

    def shard(self, key: TallyKey, partition: int) -> SummaryShard:
        return SummaryShard(
            key, partition, self.version, self.count, self.sum, self.min, self.max, self.last, self.latest
        )


def merge_tally(tally: Tally, other: Tally) -> None:
    """Add a tally of other events to ``tally``; in any order the same (invariant 7). ``other`` is not empty."""
    tally.version = max(tally.version, other.version)
    tally.count += other.count
    tally.sum += other.sum
    if tally.min is None or (other.min is not None and other.min < tally.min):
        tally.min = other.min
    if tally.max is None or (other.max is not None and other.max > tally.max):
        tally.max = other.max
    if tally.last is None or (other.last is not None and other.last > tally.last):
        tally.last = other.last
    if tally.latest is None or (other.latest is not None and other.latest > tally.latest):
        tally.latest = other.latest

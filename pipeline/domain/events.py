"""The records of the topics as domain values: plain tuples, no bytes, no I/O.

Times are int milliseconds since the epoch, UTC. Values are int in units of 10^-12. Dimensions are a tuple of
(key, value) pairs sorted by key, so that equal dimensions are equal tuples.
"""

from __future__ import annotations

from typing import NamedTuple

Dimensions = tuple[tuple[str, str], ...]


class Identity(NamedTuple):
    """What makes an event itself: the same identifier under another event name or mode is another event."""

    livemode: bool
    event_name: str
    identifier: str


class MeterEvent(NamedTuple):
    """One usage fact, as it was decoded; not yet checked."""

    identifier: str
    event_name: str
    customer: str
    value: int
    timestamp_ms: int
    dimensions: Dimensions
    livemode: bool

    @property
    def identity(self) -> Identity:
        return Identity(self.livemode, self.event_name, self.identifier)


class CancellationRange(NamedTuple):
    """The events of one event name with start_ms <= timestamp < end_ms, of one customer or (None) of all."""

    customer: str | None
    start_ms: int
    end_ms: int


class Cancellation(NamedTuple):
    """An adjustment as it stands in a journal partition. Exactly one of identifier and range is given."""

    adjustment_id: str
    event_name: str
    livemode: bool
    identifier: str | None
    range: CancellationRange | None
    requested_at_ms: int
    """appended_at of the adjustment itself; a range takes back no event that was appended later."""


class Adjustment(NamedTuple):
    """A request to take usage back, as any service writes it. Exactly one of identifier and range is given."""

    id: str
    event_name: str
    livemode: bool
    identifier: str | None
    range: CancellationRange | None


class TallyKey(NamedTuple):
    """What a tally accumulates: one minute of one customer's usage under one event name and set of dimensions."""

    livemode: bool
    event_name: str
    customer: str
    window_start_ms: int
    dimensions: Dimensions


class Last(NamedTuple):
    """A value with what orders it: `last` compares whole tuples in this order, so ties never depend on luck."""

    timestamp_ms: int
    appended_at_ms: int
    offset: int
    value: int


class Latest(NamedTuple):
    """The value that arrived last; compared as a tuple."""

    appended_at_ms: int
    offset: int
    value: int


class SummaryShard(NamedTuple):
    """One partition's part of a summary: absolute, as of journal offset ``version`` (the last one that changed it).

    When ``count`` is 0 everything was taken back: sum is 0 and min, max, last and latest are None.
    """

    key: TallyKey
    shard: int
    """The journal partition."""
    version: int
    count: int  # type: ignore[assignment]  # the schema's word; a shard is never searched as a tuple
    sum: int
    min: int | None
    max: int | None
    last: Last | None
    latest: Latest | None


class Disposition(NamedTuple):
    """What became of the journal record at (partition, offset), as decided at ``decided_offset``.

    A later decision about the same record replaces an earlier one. ``counted`` is the default and is not written.
    """

    partition: int
    offset: int
    decided_offset: int
    record: str
    """'event', 'cancellation', 'range_cancellation' or 'unknown'."""
    disposition: str
    """A member of ``outcomes.DISPOSITIONS``."""
    reason: str | None = None
    """Why it was rejected or could not be decoded."""
    livemode: bool | None = None
    event_name: str | None = None
    identifier: str | None = None
    customer: str | None = None
    value: int | None = None
    timestamp_ms: int | None = None
    appended_at_ms: int | None = None
    adjustment_id: str | None = None
    """The adjustment that took this event back; on a cancellation, its own."""
    first_offset: int | None = None
    """On a duplicate: the offset of the record that counts."""
    events_cancelled: int | None = None
    """On a cancellation: how many events it took back."""

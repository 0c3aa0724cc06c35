"""Why is this sum what it is? Every event behind one number, what became of it, and the sum made again.

From the event log and the dispositions. The sum that is served is asked for beside it and compared: an explanation that
does not come to the same number says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from pipeline.clickhouse.explanation import UNDECIDED
from pipeline.clickhouse.queries import SummaryQuery
from pipeline.clickhouse.summaries import summaries
from pipeline.domain import outcomes
from pipeline.domain.events import Dimensions
from pipeline.domain.limits import MINUTE_MS

_RANGE = """
    livemode = {livemode:Bool} AND event_name = {event_name:String} AND customer = {customer:String}
    AND {column} >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
    AND {column} < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
"""
_EVENTS = _RANGE.replace("{column}", "timestamp")
_SHARDS = _RANGE.replace("{column}", "window_start")

EVENTS_SQL = f"""
SELECT partition, offset, identifier, reinterpret(assumeNotNull(value), 'Int128'), isNull(value),
    toUnixTimestamp64Milli(timestamp), toUnixTimestamp64Milli(appended_at), mapKeys(dimensions), mapValues(dimensions)
FROM meter_events
WHERE {_EVENTS}
ORDER BY timestamp, partition, offset
LIMIT 1 BY partition, offset
"""

DISPOSITIONS_SQL = f"""
SELECT partition, offset, decided_offset, disposition, reason, adjustment_id, first_offset
FROM dispositions
WHERE record = 'event' AND (partition, offset) IN (SELECT partition, offset FROM meter_events WHERE {_EVENTS})
"""

SHARDS_SQL = f"""
SELECT shard, toUnixTimestamp64Milli(window_start), mapKeys(dimensions), mapValues(dimensions), version
FROM summary_shards
WHERE {_SHARDS}
"""

LARGEST_SQL = f"""
SELECT greatest(
    (SELECT count() FROM (SELECT 1 FROM meter_events WHERE {_EVENTS} LIMIT {{most:UInt64}} + 1)),
    (SELECT count() FROM (SELECT 1 FROM summary_shards WHERE {_SHARDS} LIMIT {{most:UInt64}} + 1))
)
"""


class Fate(NamedTuple):
    """What was decided about an event, other than that it counts."""

    disposition: str
    decided_at: str
    """partition:offset of the record that decided."""
    reason: str | None
    adjustment_id: str | None
    first_at: str | None
    """On a duplicate: partition:offset of the event that counts."""


class Line(NamedTuple):
    """One event, and what it adds to the sum."""

    at: str
    """partition:offset in the journal."""
    timestamp_ms: int
    appended_at_ms: int
    identifier: str
    dimensions: Dimensions
    value: int | None
    """In units of 10^-12; None when it has too many digits."""
    disposition: str
    """A member of ``outcomes.EVENT_DISPOSITIONS``, or UNDECIDED."""
    fate: Fate | None
    """None when it counts, or nothing is decided yet."""
    running_total: int
    """The sum of all that count up to here."""

    @property
    def counts(self) -> bool:
        return self.disposition == outcomes.COUNTED


class Total(NamedTuple):
    """All events of one disposition."""

    events: int
    value: int
    """In units of 10^-12, without those of too many digits."""


class NumberExplanation(NamedTuple):
    """The sum of one customer's usage of [start_ms, end_ms), made again from its events."""

    query: SummaryQuery
    lines: tuple[Line, ...]
    """By timestamp, then partition and offset."""
    lines_left_out: int
    """Beyond ``lines_max``; the totals know of them."""
    totals: dict[str, Total]
    """By disposition."""
    served_sum: int
    served_count: int
    """What ``meterline query`` answers."""

    @property
    def sum(self) -> int:
        """Of the events that count."""
        return self.totals.get(outcomes.COUNTED, Total(0, 0)).value

    @property
    def count(self) -> int:  # type: ignore[override]  # the schema's word; an explanation is never searched as a tuple
        return self.totals.get(outcomes.COUNTED, Total(0, 0)).events

    @property
    def is_equal(self) -> bool:
        """Whether the events come to what is served."""
        return (self.sum, self.count) == (self.served_sum, self.served_count)

    @property
    def has_no_events(self) -> bool:
        """Something is served, and the event log knows nothing of it: it is off, or was when the events came."""
        return not self.totals and self.served_count > 0


def number_query(
    event_name: str, customer: str, start_ms: int, end_ms: int, *, livemode: bool = True, zone: str = "UTC"
) -> SummaryQuery:
    """The question whose answer is explained. Raises QueryFault when a time does not begin a minute."""
    return SummaryQuery(event_name, livemode, start_ms, end_ms, customers=(customer,), zone=zone)


def exceeds(client: Client, query: SummaryQuery, most: int) -> bool:
    """Whether there are more than ``most`` events to explain, or shards. There are no more dispositions than events."""
    return _Asking(client, query).largest(most) > most


def explain_number(client: Client, query: SummaryQuery, lines_max: int | None = None) -> NumberExplanation:
    """Every event of one customer in the query's range, and what became of it. ``query``: see ``number_query``.

    All shards and dispositions of the range are in memory meanwhile: a kilobyte for each event at most, or so.
    """
    ask = _Asking(client, query)
    # In this order: what is summarised when the shards are read was logged before, unless the sink lags.
    served = next(summaries(client, query)).values
    shards, fates = ask.shards(), ask.fates()
    lines: list[Line] = []
    events: Counter[str] = Counter()
    values: Counter[str] = Counter()
    for line in _judged(ask.events(), shards, fates):
        events[line.disposition] += 1
        values[line.disposition] += line.value or 0
        if lines_max is None or len(lines) < lines_max:
            lines.append(line)
    return NumberExplanation(
        query,
        tuple(lines),
        events.total() - len(lines),
        {name: Total(count, values[name]) for name, count in events.items()},
        served["sum"] or 0,
        served["count"] or 0,
    )


ShardKey = tuple[int, int, Dimensions]
"""(partition, window_start_ms, dimensions)"""


class _Asking:
    """The questions about one number."""

    def __init__(self, client: Client, query: SummaryQuery) -> None:
        (customer,) = query.customers
        self._client = client
        self._wanted = {
            "livemode": query.livemode,
            "event_name": query.event_name,
            "customer": customer,
            "start_ms": query.start_ms,
            "end_ms": query.end_ms,
        }

    def largest(self, most: int) -> int:
        """How many events there are, or shards if those are more; ``most`` + 1 stands for all above it."""
        return int(self._rows(LARGEST_SQL, most=most)[0][0])

    def shards(self) -> dict[ShardKey, int]:
        """The version of each shard of the range: how far the fold had come with it."""
        return {
            (shard, window_ms, tuple(zip(names, values, strict=True))): version
            for shard, window_ms, names, values, version in self._rows(SHARDS_SQL)
        }

    def fates(self) -> dict[tuple[int, int], Fate]:
        """By (partition, offset): what became of those that do not simply count."""
        return {
            (partition, offset): Fate(
                disposition,
                f"{partition}:{decided_offset}",
                reason,
                adjustment_id,
                None if first_offset is None else f"{partition}:{first_offset}",
            )
            for partition, offset, decided_offset, disposition, reason, adjustment_id, first_offset in self._rows(
                DISPOSITIONS_SQL
            )
        }

    def events(self) -> Iterator[Sequence[Any]]:
        with self._client.query_row_block_stream(EVENTS_SQL, parameters=self._wanted) as blocks:
            for block in blocks:
                yield from block

    def _rows(self, sql: str, **more: int) -> Sequence[Sequence[Any]]:
        return self._client.query(sql, parameters=self._wanted | more).result_rows


def _judged(
    events: Iterator[Sequence[Any]], shards: dict[ShardKey, int], fates: dict[tuple[int, int], Fate]
) -> Iterator[Line]:
    """Each event with its fate. One that nothing was said of counts if its shard has come to it."""
    running_total = 0
    for partition, offset, identifier, units, absent, timestamp_ms, appended_at_ms, names, values in events:
        dimensions = tuple(zip(names, values, strict=True))
        fate = fates.get((partition, offset))
        value = None if absent else int(units)
        disposition = UNDECIDED
        if fate is not None:
            disposition = fate.disposition
        elif shards.get((partition, timestamp_ms // MINUTE_MS * MINUTE_MS, dimensions), -1) >= offset:
            disposition = outcomes.COUNTED
            running_total += value or 0
        yield Line(
            f"{partition}:{offset}",
            timestamp_ms,
            appended_at_ms,
            identifier,
            dimensions,
            value,
            disposition,
            fate,
            running_total,
        )

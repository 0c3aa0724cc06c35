"""Every decision about one identifier, from the event log, the dispositions, the adjustments and the shards.

An event without a disposition was counted, but only if the fold has come that far: its shard says so, whose version is
the offset of the last record that changed it. Whatever cannot be told yet is ``undecided``, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from pipeline.domain import outcomes
from pipeline.domain.events import Dimensions
from pipeline.domain.limits import MINUTE_MS, TEXT_SHOWN_CHARS_MAX

ADJUSTMENT = "adjustment"
"""A record of the adjustments topic; the other kinds are those of ``outcomes``, in the journal."""
REQUESTED = "requested"
UNDECIDED = "undecided"

_WANTED = """
    identifier = {identifier:String} AND livemode = {livemode:Bool}
    AND ({event_name:String} = '' OR event_name = {event_name:String})
"""

EVENTS_SQL = f"""
SELECT partition, offset, toUnixTimestamp64Milli(appended_at), event_name, customer, reinterpret(value, 'Int128'),
    isNull(value), toUnixTimestamp64Milli(timestamp), mapKeys(dimensions), mapValues(dimensions)
FROM meter_events
WHERE {_WANTED}
ORDER BY partition, offset
LIMIT 1 BY partition, offset
"""

_DISPOSITIONS = """
SELECT partition, offset, decided_offset, record, disposition, reason, event_name, customer,
    toUnixTimestamp64Milli(appended_at), toUnixTimestamp64Milli(timestamp), adjustment_id, first_offset,
    events_cancelled
FROM dispositions
WHERE {of_which}
ORDER BY partition, offset
"""

DISPOSITIONS_SQL = _DISPOSITIONS.replace("{of_which}", _WANTED)

DISPOSITIONS_BY_PLACE_SQL = _DISPOSITIONS.replace(
    "{of_which}",
    f"""(partition, offset) IN (
    SELECT partition, offset FROM meter_events WHERE {_WANTED}
    UNION ALL SELECT partition, offset FROM cancellations WHERE {_WANTED})
""",
)
"""Of records with a text that is too long: dispositions have its beginning alone, which can be another's, too."""

CANCELLATIONS_SQL = f"""
SELECT partition, offset, toUnixTimestamp64Milli(appended_at), event_name, adjustment_id
FROM cancellations
WHERE {_WANTED}
ORDER BY partition, offset
LIMIT 1 BY partition, offset
"""

ADJUSTMENTS_SQL = f"""
SELECT partition, offset, toUnixTimestamp64Milli(appended_at), event_name, id, isNull(identifier), range_customer,
    toUnixTimestamp64Milli(range_start), toUnixTimestamp64Milli(range_end)
FROM adjustments
WHERE ({_WANTED}) OR id IN {{adjustment_ids:Array(String)}}
ORDER BY partition, offset
LIMIT 1 BY partition, offset
"""

RECORDS_SQL = f"""
SELECT count() FROM (
    SELECT 1 FROM meter_events WHERE {_WANTED} LIMIT {{most:UInt64}} + 1
    UNION ALL SELECT 1 FROM cancellations WHERE {_WANTED} LIMIT {{most:UInt64}} + 1
    UNION ALL SELECT 1 FROM dispositions WHERE {_WANTED} LIMIT {{most:UInt64}} + 1
)
"""

SHARD_SQL = """
SELECT version, count, reinterpret(sum, 'Int256')
FROM summary_shards
WHERE livemode = {livemode:Bool} AND event_name = {event_name:String} AND customer = {customer:String}
    AND window_start = fromUnixTimestamp64Milli({window_start_ms:Int64}, 'UTC') AND shard = {shard:UInt32}
    AND dimensions = mapFromArrays({names:Array(String)}, {values:Array(String)})
"""


class Shard(NamedTuple):
    """The part of a summary that an event counts into, as it stands now."""

    customer: str
    window_start_ms: int
    dimensions: Dimensions
    shard: int
    version: int
    events: int
    total: int
    """In units of 10^-12."""


class Decision(NamedTuple):
    """A record, and what became of it."""

    record: str
    """'event', 'cancellation', or ADJUSTMENT."""
    partition: int
    offset: int
    appended_at_ms: int | None
    event_name: str
    disposition: str
    """A member of ``outcomes.DISPOSITIONS``, REQUESTED or UNDECIDED."""
    decided_offset: int | None = None
    reason: str | None = None
    adjustment_id: str | None = None
    first_offset: int | None = None
    events_cancelled: int | None = None
    customer: str | None = None
    value: int | None = None
    """In units of 10^-12; None too when only the disposition is known, or it has too many digits."""
    timestamp_ms: int | None = None
    dimensions: Dimensions | None = None
    counted_into: Shard | None = None
    range_ms: tuple[int, int] | None = None
    """Of an adjustment: the range that it takes back."""

    @property
    def place(self) -> str:
        return f"{self.partition}:{self.offset}"


Place = tuple[int, int]
"""(partition, offset) in the journal."""


class Explanation(NamedTuple):
    """All that ClickHouse knows of an identifier, in the order of the journal, then the adjustments."""

    identifier: str
    livemode: bool
    decisions: tuple[Decision, ...]

    @property
    def complete(self) -> bool:
        """Something is known, and of all that is known the fate is."""
        return bool(self.decisions) and all(one.disposition != UNDECIDED for one in self.decisions)


class _Asking:
    """One identifier's questions."""

    def __init__(self, client: Client, identifier: str, livemode: bool, event_name: str | None) -> None:
        self._client = client
        are_whole = max(len(identifier), len(event_name or "")) <= TEXT_SHOWN_CHARS_MAX
        self.dispositions_sql = DISPOSITIONS_SQL if are_whole else DISPOSITIONS_BY_PLACE_SQL
        self._wanted = {"identifier": identifier, "livemode": livemode, "event_name": event_name or ""}

    def rows(self, sql: str, **more: Any) -> Sequence[Sequence[Any]]:
        return self._client.query(sql, parameters={**self._wanted, **more}).result_rows


def exceeds(client: Client, identifier: str, most: int, *, livemode: bool, event_name: str | None = None) -> bool:
    """Whether more than ``most`` records and dispositions have this identifier."""
    return int(_Asking(client, identifier, livemode, event_name).rows(RECORDS_SQL, most=most)[0][0]) > most


def explain(client: Client, identifier: str, *, livemode: bool, event_name: str | None = None) -> Explanation:
    """What became of every record with this identifier."""
    ask = _Asking(client, identifier, livemode, event_name)
    sent = _by_place(map(_event, ask.rows(EVENTS_SQL)))
    sent |= _by_place(map(_cancellation, ask.rows(CANCELLATIONS_SQL)))
    shards = _shards(ask, _journal(ask, sent))
    # Dispositions once more, behind the shards: what took an event out of one of them may have been decided meanwhile.
    journal = [_counted(one, shards.get((one.partition, one.offset))) for one in _journal(ask, sent)]
    ids = sorted({one.adjustment_id for one in journal if one.adjustment_id is not None})
    in_journal = {one.adjustment_id for one in journal}
    adjustments = [_adjustment(row, in_journal) for row in ask.rows(ADJUSTMENTS_SQL, adjustment_ids=ids)]
    return Explanation(identifier, livemode, (*journal, *adjustments))


def _event(row: Sequence[Any]) -> Decision:
    partition, offset, appended_at_ms, event_name, customer, value, no_value, timestamp_ms, names, values = row
    return Decision(
        outcomes.EVENT,
        partition,
        offset,
        appended_at_ms,
        event_name,
        UNDECIDED,
        customer=customer,
        value=None if no_value else int(value),
        timestamp_ms=timestamp_ms,
        dimensions=tuple(zip(names, values, strict=True)),
    )


def _cancellation(row: Sequence[Any]) -> Decision:
    partition, offset, appended_at_ms, event_name, adjustment_id = row
    return Decision(
        outcomes.CANCELLATION,
        partition,
        offset,
        appended_at_ms,
        event_name,
        UNDECIDED,
        adjustment_id=adjustment_id,
    )


def _disposition(row: Sequence[Any]) -> Decision:
    partition, offset, decided_offset, record, disposition, reason, event_name, customer, *more = row
    appended_at_ms, timestamp_ms, adjustment_id, first_offset, events_cancelled = more
    return Decision(
        record,
        partition,
        offset,
        appended_at_ms,
        event_name,
        disposition,
        decided_offset,
        reason,
        adjustment_id,
        first_offset,
        events_cancelled,
        customer,
        timestamp_ms=timestamp_ms,
    )


def _adjustment(row: Sequence[Any], in_journal: Iterable[str | None]) -> Decision:
    partition, offset, appended_at_ms, event_name, adjustment_id, is_range, customer, start_ms, end_ms = row
    return Decision(
        ADJUSTMENT,
        partition,
        offset,
        appended_at_ms,
        event_name,
        REQUESTED if adjustment_id in in_journal else UNDECIDED,
        adjustment_id=adjustment_id,
        customer=customer,
        range_ms=(start_ms, end_ms) if is_range else None,
    )


def _joined(sent: Decision | None, decided: Decision | None) -> Decision:
    """What the event log has and what the fold decided; one of the two may be missing."""
    if sent is None or decided is None:
        one = sent or decided
        assert one is not None
        return one
    return decided._replace(
        appended_at_ms=sent.appended_at_ms,
        customer=sent.customer,
        value=sent.value,
        timestamp_ms=sent.timestamp_ms,
        dimensions=sent.dimensions,
        adjustment_id=decided.adjustment_id or sent.adjustment_id,
    )


def _by_place(decisions: Iterable[Decision]) -> dict[Place, Decision]:
    return {(one.partition, one.offset): one for one in decisions}


def _journal(ask: _Asking, sent: dict[Place, Decision]) -> list[Decision]:
    """Every record that was sent or decided about, with what is decided by now."""
    decided = _by_place(map(_disposition, ask.rows(ask.dispositions_sql)))
    return [_joined(sent.get(place), decided.get(place)) for place in sorted({*sent, *decided})]


def _shards(ask: _Asking, journal: list[Decision]) -> dict[Place, Shard]:
    """Of events without a disposition, the first of each event name alone: its shard, if that has come to it."""
    first: dict[str, Decision] = {}
    for one in journal:
        if one.record == outcomes.EVENT and one.disposition == UNDECIDED:
            first.setdefault(one.event_name, one)
    found = {(one.partition, one.offset): _shard(ask, one) for one in first.values()}
    return {place: shard for place, shard in found.items() if shard is not None and shard.version >= place[1]}


def _counted(one: Decision, shard: Shard | None) -> Decision:
    if shard is None or one.disposition != UNDECIDED:
        return one
    return one._replace(disposition=outcomes.COUNTED, counted_into=shard)


def _shard(ask: _Asking, event: Decision) -> Shard | None:
    assert event.timestamp_ms is not None
    assert event.dimensions is not None
    window_start_ms = event.timestamp_ms - event.timestamp_ms % MINUTE_MS
    rows = ask.rows(
        SHARD_SQL,
        event_name=event.event_name,
        customer=event.customer,
        window_start_ms=window_start_ms,
        shard=event.partition,
        names=[name for name, _ in event.dimensions],
        values=[value for _, value in event.dimensions],
    )
    if not rows:
        return None
    version, count, total = rows[0]
    return Shard(event.customer or "", window_start_ms, event.dimensions, event.partition, version, count, int(total))

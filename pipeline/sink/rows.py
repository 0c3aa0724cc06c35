"""What the tables of ClickHouse are given: one Arrow schema per table, and rows made of domain values one by one.

Columns stand under their names in infra/clickhouse. This is the strict way, for what cannot go by columns.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.domain.events import Adjustment, Cancellation, Disposition, Last, Latest, MeterEvent, SummaryShard
from pipeline.domain.limits import VALUE_BOUND, VALUE_PRECISION, VALUE_SCALE

VALUE = pa.decimal128(VALUE_PRECISION, VALUE_SCALE)
SUM = pa.decimal256(76, VALUE_SCALE)
MOMENT = pa.timestamp("ms", "UTC")
DIMENSIONS = pa.map_(pa.string(), pa.string())

MOMENT_MIN_MS = -2_208_988_800_000
MOMENT_MAX_MS = 10_413_791_999_999
"""1900 to 2299, which is all that DateTime64 holds. What a producer wrote beyond is rejected by the fold, and stands in
the tables as the nearest moment: many clients cannot read a row with any other."""

SHARDS = pa.schema(
    [
        ("livemode", pa.bool_()),
        ("event_name", pa.string()),
        ("customer", pa.string()),
        ("window_start", MOMENT),
        ("dimensions", DIMENSIONS),
        ("shard", pa.int32()),
        ("version", pa.int64()),
        ("count", pa.int64()),
        ("sum", SUM),
        ("min", VALUE),
        ("max", VALUE),
        ("last_value", VALUE),
        ("last_timestamp", MOMENT),
        ("last_appended_at", MOMENT),
        ("last_offset", pa.int64()),
        ("latest_value", VALUE),
        ("latest_appended_at", MOMENT),
        ("latest_offset", pa.int64()),
    ]
)

DISPOSITIONS = pa.schema(
    [
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("decided_offset", pa.int64()),
        ("record", pa.string()),
        ("disposition", pa.string()),
        ("reason", pa.string()),
        ("livemode", pa.bool_()),
        ("event_name", pa.string()),
        ("identifier", pa.string()),
        ("customer", pa.string()),
        ("value", VALUE),
        ("timestamp", MOMENT),
        ("appended_at", MOMENT),
        ("adjustment_id", pa.string()),
        ("first_offset", pa.int64()),
        ("events_cancelled", pa.int64()),
    ]
)

EVENTS = pa.schema(
    [
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("appended_at", MOMENT),
        ("identifier", pa.string()),
        ("event_name", pa.string()),
        ("customer", pa.string()),
        ("value", VALUE),
        ("timestamp", MOMENT),
        ("dimensions", DIMENSIONS),
        ("livemode", pa.bool_()),
    ]
)

_TAKEN_BACK: list[tuple[str, pa.DataType]] = [
    ("event_name", pa.string()),
    ("livemode", pa.bool_()),
    ("identifier", pa.string()),
    ("range_customer", pa.string()),
    ("range_start", MOMENT),
    ("range_end", MOMENT),
]
_PLACE: list[tuple[str, pa.DataType]] = [("partition", pa.int32()), ("offset", pa.int64()), ("appended_at", MOMENT)]

CANCELLATIONS = pa.schema([*_PLACE, ("adjustment_id", pa.string()), *_TAKEN_BACK, ("requested_at", MOMENT)])

ADJUSTMENTS = pa.schema([*_PLACE, ("id", pa.string()), *_TAKEN_BACK])

SCHEMAS: dict[str, pa.Schema] = {
    "summary_shards": SHARDS,
    "dispositions": DISPOSITIONS,
    "meter_events": EVENTS,
    "cancellations": CANCELLATIONS,
    "adjustments": ADJUSTMENTS,
}
"""By name in pipeline/clickhouse/tables.py."""


class Place(NamedTuple):
    """Where a record stands in its topic, and since when."""

    partition: int
    offset: int
    appended_at_ms: int


_EXACT = decimal.Context(prec=100)


def _value(units: int | None) -> decimal.Decimal | None:
    if units is None or not -VALUE_BOUND < units < VALUE_BOUND:
        return None
    return _EXACT.scaleb(decimal.Decimal(units), -VALUE_SCALE)


def _moment(ms: int | None) -> int | None:
    return None if ms is None else min(max(ms, MOMENT_MIN_MS), MOMENT_MAX_MS)


def _shard_row(_: Place, shard: SummaryShard) -> tuple[Any, ...]:
    last, latest = shard.last or Last(0, 0, 0, 0), shard.latest or Latest(0, 0, 0)
    return (
        shard.key.livemode,
        shard.key.event_name,
        shard.key.customer,
        _moment(shard.key.window_start_ms),
        shard.key.dimensions,
        shard.shard,
        shard.version,
        shard.count,
        _EXACT.scaleb(decimal.Decimal(shard.sum), -VALUE_SCALE),
        _value(shard.min or 0),
        _value(shard.max or 0),
        _value(last.value),
        _moment(last.timestamp_ms),
        _moment(last.appended_at_ms),
        last.offset,
        _value(latest.value),
        _moment(latest.appended_at_ms),
        latest.offset,
    )


def _disposition_row(_: Place, one: Disposition) -> tuple[Any, ...]:
    return (
        one.partition,
        one.offset,
        one.decided_offset,
        one.record,
        one.disposition,
        one.reason,
        one.livemode,
        one.event_name,
        one.identifier,
        one.customer,
        _value(one.value),
        _moment(one.timestamp_ms),
        _moment(one.appended_at_ms),
        one.adjustment_id,
        one.first_offset,
        one.events_cancelled,
    )


def _event_row(place: Place, event: MeterEvent) -> tuple[Any, ...]:
    return (
        place.partition,
        place.offset,
        _moment(place.appended_at_ms),
        event.identifier,
        event.event_name,
        event.customer,
        _value(event.value),
        _moment(event.timestamp_ms),
        event.dimensions,
        event.livemode,
    )


def _taken_back(one: Cancellation | Adjustment) -> tuple[Any, ...]:
    span = one.range
    of_range = (None, None, None) if span is None else (span.customer, _moment(span.start_ms), _moment(span.end_ms))
    return (one.event_name, one.livemode, one.identifier, *of_range)


def _cancellation_row(place: Place, one: Cancellation) -> tuple[Any, ...]:
    where = (place.partition, place.offset, _moment(place.appended_at_ms))
    return (*where, one.adjustment_id, *_taken_back(one), _moment(one.requested_at_ms))


def _adjustment_row(place: Place, one: Adjustment) -> tuple[Any, ...]:
    return (place.partition, place.offset, _moment(place.appended_at_ms), one.id, *_taken_back(one))


ROWS: dict[type, tuple[str, Callable[[Place, Any], tuple[Any, ...]]]] = {
    SummaryShard: ("summary_shards", _shard_row),
    Disposition: ("dispositions", _disposition_row),
    MeterEvent: ("meter_events", _event_row),
    Cancellation: ("cancellations", _cancellation_row),
    Adjustment: ("adjustments", _adjustment_row),
}
"""What becomes of each domain value: its table and its row."""


def tables_of(records: Iterable[tuple[Place, Any]]) -> dict[str, pa.Table]:
    """Domain values as tables by name; only those that have rows."""
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for place, content in records:
        table, row_of = ROWS[type(content)]
        rows.setdefault(table, []).append(row_of(place, content))
    return {table: _table(SCHEMAS[table], found) for table, found in rows.items()}


def _table(schema: pa.Schema, rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table(
        [pa.array(column, field.type) for field, column in zip(schema, columns, strict=True)], schema=schema
    )

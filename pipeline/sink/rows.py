"""What the tables of ClickHouse are given: one Arrow schema per table, and rows made of domain values one by one.

Columns stand under their names in infra/clickhouse. This is the strict way, for what cannot go by columns.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.codec.columns import (
    BOOLEAN,
    INT,
    LONG,
    MOMENT,
    MOMENT_PLAIN_MAX_MS,
    MOMENT_PLAIN_MIN_MS,
    TEXT,
    decode_table,
)
from pipeline.domain.events import Adjustment, Cancellation, Disposition, Last, Latest, MeterEvent, SummaryShard
from pipeline.domain.limits import VALUE_BOUND, VALUE_SCALE
from pipeline.errors import UndecodableRecord

MOMENT_MIN_MS = MOMENT_PLAIN_MIN_MS
MOMENT_MAX_MS = MOMENT_PLAIN_MAX_MS
"""What a producer wrote beyond is rejected by the fold, and stands in the tables as the nearest moment that they hold:
many clients cannot read a row with any other."""

SHARDS = decode_table("SummaryShard", []).table.schema
DISPOSITIONS = decode_table("Disposition", []).table.schema

_TAKEN_BACK: list[tuple[str, pa.DataType]] = [
    ("event_name", TEXT),
    ("livemode", BOOLEAN),
    ("identifier", TEXT),
    ("range_customer", TEXT),
    ("range_start", MOMENT),
    ("range_end", MOMENT),
]
_PLACE: list[tuple[str, pa.DataType]] = [("partition", INT), ("offset", LONG), ("appended_at", MOMENT)]

EVENTS = pa.schema(
    [*_PLACE, *(field.with_nullable(field.name == "value") for field in decode_table("MeterEvent", []).table.schema)]
)

CANCELLATIONS = pa.schema([*_PLACE, ("adjustment_id", TEXT), *_TAKEN_BACK, ("requested_at", MOMENT)])

ADJUSTMENTS = pa.schema([*_PLACE, ("id", TEXT), *_TAKEN_BACK])

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


class Row(NamedTuple):
    """A row of a table, in the order of its schema."""

    table: str
    values: tuple[Any, ...]


_EXACT = decimal.Context(prec=100)


def _value(units: int | None) -> decimal.Decimal | None:
    """None too for a value of more digits than any may have: the fold rejects it."""
    return None if units is None or not -VALUE_BOUND < units < VALUE_BOUND else _decimal(units, VALUE_BOUND)


def _decimal(units: int, bound: int) -> decimal.Decimal:
    if not -bound < units < bound:
        raise UndecodableRecord("out_of_range", "a decimal of more digits than its column")
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
        _decimal(shard.sum, VALUE_BOUND**2),
        _decimal(shard.min or 0, VALUE_BOUND),
        _decimal(shard.max or 0, VALUE_BOUND),
        _decimal(last.value, VALUE_BOUND),
        _moment(last.timestamp_ms),
        _moment(last.appended_at_ms),
        last.offset,
        _decimal(latest.value, VALUE_BOUND),
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


def row_of(place: Place, content: Any) -> Row:
    """The row of a domain value. Raises UndecodableRecord when no table could hold it."""
    table, values_of = ROWS[type(content)]
    return Row(table, values_of(place, content))


def tables_of(rows: Iterable[Row]) -> dict[str, pa.Table]:
    """Rows as tables by name; only those that have any."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        found.setdefault(row.table, []).append(row.values)
    return {table: _table(SCHEMAS[table], values) for table, values in found.items()}


def _table(schema: pa.Schema, rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table(
        [pa.array(column, field.type) for field, column in zip(schema, columns, strict=True)], schema=schema
    )

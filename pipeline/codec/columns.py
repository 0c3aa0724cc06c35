"""Many record values as columns: the fast path of the codec.

Two steps: the walk of ``chunk.py`` finds the borders of every field and which records are plain; ``cut.py`` cuts the
columns of those. All others are ``rest``: they go through ``records.Codec`` one by one, which defines what is right. Of
every record in the columns the Codec would have said the same (tested with hostile bytes).

What a column is follows from the record's schema, so a new field is a new column without a change here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa

from pipeline.codec.chunk import Chunk, ColumnWalk, Ints, Mask
from pipeline.codec.cut import Cut, dimension_maps
from pipeline.codec.schemas import newest
from pipeline.domain.limits import VALUE_PRECISION, VALUE_SCALE

MOMENT_PLAIN_MIN_MS = -2_208_988_800_000
MOMENT_PLAIN_MAX_MS = 10_413_791_999_999
"""1900 to 2299. A record with a time beyond is rest: no two readers of tables agree on what they can hold."""

BOOLEAN = pa.bool_()
TEXT = pa.string()
INT = pa.int32()
LONG = pa.int64()
MOMENT = pa.timestamp("ms", "UTC")
VALUE = pa.decimal128(VALUE_PRECISION, VALUE_SCALE)
SUM = pa.decimal256(2 * VALUE_PRECISION, VALUE_SCALE)
DIMENSIONS = pa.map_(pa.string(), pa.string())


class EventColumns(NamedTuple):
    """Meter events by column, and what could not be read that way."""

    frame: pl.DataFrame
    """One row per event: identifier, event_name, customer: String; value: Decimal(38, 12); timestamp_ms: Int64;
    dimensions: Binary (canonical, see dimensions.py); livemode: Boolean."""
    rows: Ints
    """Index into the values of each row of the frame; ascending."""
    rest: Ints
    """Indices of all other values; ascending."""


class TableColumns(NamedTuple):
    """Records by column as an Arrow table, and what could not be read that way."""

    table: pa.Table
    """One column per field of the schema, under its name; see ``decode_table``."""
    rows: Ints
    """Index into the values of each row of the table; ascending."""
    rest: Ints
    """Indices of all other values; ascending."""


def decode_events(values: Sequence[bytes | None], prefixes: Sequence[bytes] | None = None) -> EventColumns:
    """The meter events among journal values, by column, as the fold takes them.

    ``prefixes``: what stands in front of a MeterEvent of the newest version; see ``Codec.prefixes``. The default is
    single-object encoding alone. Records in another framing, of another version or another type are rest.
    """
    cut, columns = _decode("MeterEvent", values, prefixes)
    frame = pl.DataFrame(
        [
            *(pl.Series(name, columns[name]) for name in ("identifier", "event_name", "customer", "value")),
            pl.Series("timestamp_ms", columns["timestamp"].view(LONG)),
            *(pl.Series(name, columns[name]) for name in ("dimensions", "livemode")),
        ]
    )
    return EventColumns(frame, cut.rows, cut.rest)


def decode_table(name: str, values: Sequence[bytes | None], prefixes: Sequence[bytes] | None = None) -> TableColumns:
    """The records of one type (a name in ``schemas.SCHEMAS``) as an Arrow table: a column per field, in its order.

    string: utf8; boolean: bool; int, long: int32, int64; timestamp-millis: timestamp(ms, UTC); decimal of precision 38:
    decimal128(38, 12), of 76: decimal256(76, 12); map: map<utf8, utf8> sorted by key; a union with null: nullable.
    Records within records have no column: KeyError. ``prefixes``: as in ``decode_events``.
    """
    cut, columns = _decode(name, values, prefixes)
    fields = _fields(name)
    columns |= {field.name: dimension_maps(columns[field.name]) for field in fields if field.kind == DIMENSIONS}
    schema = pa.schema([pa.field(field.name, field.kind, field.optional) for field in fields])
    return TableColumns(pa.table([columns[field.name] for field in fields], schema=schema), cut.rows, cut.rest)


class Field(NamedTuple):
    """A field of a record as a column."""

    name: str
    kind: pa.DataType
    optional: bool


@functools.cache
def _fields(name: str) -> tuple[Field, ...]:
    fields = []
    for field in newest(name).document["fields"]:
        optional = isinstance(field["type"], list)
        fields.append(Field(field["name"], _kind(field["type"][1] if optional else field["type"]), optional))
    return tuple(fields)


def _kind(schema: Any) -> pa.DataType:
    plain = {"boolean": BOOLEAN, "string": TEXT, "int": INT, "long": LONG}
    if isinstance(schema, str):
        return plain[schema]
    if schema.get("logicalType") == "decimal":
        return {VALUE_PRECISION: VALUE, 2 * VALUE_PRECISION: SUM}[schema["precision"]]
    return (
        {"timestamp-millis": MOMENT}[schema["logicalType"]]
        if "logicalType" in schema
        else {"map": DIMENSIONS}[schema["type"]]
    )


def _moments(walk: ColumnWalk) -> Ints:
    values = walk.long()
    walk.require((values >= MOMENT_PLAIN_MIN_MS) & (values <= MOMENT_PLAIN_MAX_MS))
    return values


_READ: dict[pa.DataType, Callable[[ColumnWalk], Any]] = {
    BOOLEAN: ColumnWalk.boolean,
    TEXT: ColumnWalk.span,
    INT: ColumnWalk.int32,
    LONG: ColumnWalk.long,
    MOMENT: _moments,
    VALUE: lambda walk: walk.decimal(2, VALUE_PRECISION),
    SUM: lambda walk: walk.decimal(4, 2 * VALUE_PRECISION),
    DIMENSIONS: ColumnWalk.dimensions,
}


def _decode(
    name: str, values: Sequence[bytes | None], prefixes: Sequence[bytes] | None
) -> tuple[Cut, dict[str, pa.Array]]:
    """The columns of the plain records by field name; dimensions as canonical bytes."""
    fields = _fields(name)
    walk = ColumnWalk(Chunk(values), prefixes or (newest(name).prefix,))
    present: dict[str, Mask] = {}
    read: dict[str, Any] = {}
    for field in fields:
        if field.optional:
            present[field.name], read[field.name] = walk.optional(_READ[field.kind])
        else:
            read[field.name] = _READ[field.kind](walk)
    cut = Cut(walk, walk.finish())
    texts = [field.name for field in fields if field.kind == TEXT]
    maps = [field.name for field in fields if field.kind == DIMENSIONS]
    columns = dict(zip(texts, cut.texts([read[name] for name in texts], [read[name] for name in maps]), strict=True))
    columns |= {name: cut.dimensions(*read[name]) for name in maps}
    for field in fields:
        if field.name not in columns:
            columns[field.name] = cut.numbers(field.kind, read[field.name])
        if field.optional:
            columns[field.name] = cut.nullable(columns[field.name], present[field.name])
    return cut, columns

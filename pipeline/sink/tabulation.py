"""From a batch of one topic to rows of tables: by columns where the codec can, one by one where it cannot.

A small batch goes one by one, too: columns take a millisecond whatever their length.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.codec.columns import INT, MOMENT, TableColumns, decode_table
from pipeline.codec.records import Codec
from pipeline.errors import UndecodableRecord
from pipeline.sink.rows import EVENTS, Place, row_of, tables_of
from pipeline.stream.batch import RecordBatch

Decode = Callable[[bytes | None], Any]

FEW = 24
"""As many records are read sooner one by one."""


class Letter(NamedTuple):
    """A record that nobody can read; ``row`` is its index in the batch."""

    row: int
    reason: str


@dataclasses.dataclass(slots=True)
class Tabulated:
    """What a batch comes to."""

    tables: dict[str, list[pa.Table]] = dataclasses.field(default_factory=dict)
    """By name in pipeline/clickhouse/tables.py; only tables that have rows."""
    letters: list[Letter] = dataclasses.field(default_factory=list)

    def add(self, name: str, table: pa.Table) -> None:
        if len(table):
            self.tables.setdefault(name, []).append(table)


Tabulate = Callable[[RecordBatch], Tabulated]


class Tabulator:
    """How the records of each topic become rows."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def summaries(self, batch: RecordBatch) -> Tabulated:
        columns = self._columns("SummaryShard", batch)
        done = _one_by_one(batch, columns.rest, self._codec.decode_shard)
        done.add("summary_shards", columns.table)
        return done

    def dispositions(self, batch: RecordBatch) -> Tabulated:
        columns = self._columns("Disposition", batch)
        done = _one_by_one(batch, columns.rest, self._codec.decode_disposition)
        done.add("dispositions", columns.table)
        return done

    def journal(self, batch: RecordBatch) -> Tabulated:
        columns = self._columns("MeterEvent", batch)
        done = _one_by_one(batch, columns.rest, self._codec.decode_journal)
        done.add("meter_events", _with_places(batch, columns))
        return done

    def adjustments(self, batch: RecordBatch) -> Tabulated:
        return _one_by_one(batch, range(len(batch)), self._codec.decode_adjustment)

    def _columns(self, record: str, batch: RecordBatch) -> TableColumns:
        if len(batch) <= FEW:
            return _no_columns(record)._replace(rest=np.arange(len(batch)))
        return decode_table(record, batch.values, self._codec.prefixes(record))


@functools.cache
def _no_columns(record: str) -> TableColumns:
    return decode_table(record, [])


def _with_places(batch: RecordBatch, columns: TableColumns) -> pa.Table:
    rows = columns.rows
    where = [
        pa.array(np.full(len(rows), batch.partition, np.int32), INT),
        pa.array(batch.offsets[rows]),
        pa.array(batch.appended_at_ms[rows]).cast(MOMENT),
    ]
    return pa.table([*where, *columns.table.columns], schema=EVENTS)


def _one_by_one(batch: RecordBatch, rows: Iterable[int], decode: Decode) -> Tabulated:
    done = Tabulated()
    read = []
    for row in rows:
        place = Place(batch.partition, int(batch.offsets[row]), int(batch.appended_at_ms[row]))
        try:
            read.append(row_of(place, decode(batch.values[row])))
        except UndecodableRecord as error:
            done.letters.append(Letter(int(row), error.reason))
    for name, table in tables_of(read).items():
        done.add(name, table)
    return done

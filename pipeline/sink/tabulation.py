"""From a batch of one topic to rows of tables: by columns where the codec can, one by one where it cannot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.codec.records import Codec
from pipeline.errors import UndecodableRecord
from pipeline.sink.rows import Place, tables_of
from pipeline.stream.batch import RecordBatch


class Letter(NamedTuple):
    """A record that nobody can read; ``row`` is its index in the batch."""

    row: int
    reason: str


@dataclasses.dataclass(slots=True)
class Tabulated:
    """What a batch comes to."""

    tables: dict[str, list[pa.Table]] = dataclasses.field(default_factory=dict)
    """By name in pipeline/clickhouse/tables.py."""
    letters: list[Letter] = dataclasses.field(default_factory=list)

    def add(self, tables: dict[str, pa.Table]) -> None:
        for name, table in tables.items():
            if len(table):
                self.tables.setdefault(name, []).append(table)


Tabulate = Callable[[RecordBatch], Tabulated]


class Tabulator:
    """How the records of each topic become rows."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def summaries(self, batch: RecordBatch) -> Tabulated:
        return self._strictly(batch, range(len(batch)), self._codec.decode_shard)

    def dispositions(self, batch: RecordBatch) -> Tabulated:
        return self._strictly(batch, range(len(batch)), self._codec.decode_disposition)

    def journal(self, batch: RecordBatch) -> Tabulated:
        return self._strictly(batch, range(len(batch)), self._codec.decode_journal)

    def adjustments(self, batch: RecordBatch) -> Tabulated:
        return self._strictly(batch, range(len(batch)), self._codec.decode_adjustment)

    def _strictly(self, batch: RecordBatch, rows: Iterable[int], decode: Callable[[bytes | None], Any]) -> Tabulated:
        done = Tabulated()
        read = []
        for row in rows:
            try:
                content = decode(batch.values[row])
            except UndecodableRecord as error:
                done.letters.append(Letter(row, error.reason))
                continue
            place = Place(batch.partition, int(batch.offsets[row]), int(batch.appended_at_ms[row]))
            read.append((place, content))
        done.add(tables_of(read))
        return done

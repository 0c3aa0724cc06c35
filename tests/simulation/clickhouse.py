"""A model of ClickHouse: inserts that are applied without an answer, in part, or not at all; merges at any time.

A merge keeps of one key the highest version, and of two equal versions any. What ``FINAL`` answers is the same whether
merges have run or not, so the model merges when it is asked, and chooses among equals by chance.
"""

from __future__ import annotations

import re
from collections import defaultdict
from decimal import Context
from random import Random
from typing import Any

import pyarrow as pa

from pipeline.clickhouse.tables import derived
from pipeline.errors import Unavailable
from tests.simulation.broker import Broker

_EXACT = Context(prec=100)

Row = dict[str, Any]

KEYS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "summary_shards": (
        ("livemode", "event_name", "customer", "window_start", "dimensions", "shard"),
        "version",
    ),
    "dispositions": (("partition", "offset"), "decided_offset"),
    "meter_events_j1": (("partition", "offset"), None),
    "cancellations_j1": (("partition", "offset"), None),
    "adjustments": (("id", "partition", "offset"), None),
}
"""ORDER BY, and the version of ReplacingMergeTree, of every table, by its name without its generation."""


def of(table: str) -> tuple[tuple[str, ...], str | None]:
    return KEYS[re.sub(r"_g\d+$", "", table)]


class SimClickHouse:
    """All tables, and which generation the views show."""

    def __init__(self, broker: Broker) -> None:
        self.rows: defaultdict[str, list[Row]] = defaultdict(list)
        self.held: defaultdict[str, set[tuple[Any, ...]]] = defaultdict(set)
        """(key, version) of every row that was ever applied."""
        self.shown = 1
        self.away_until = 0.0
        self.unsure_until = 0.0
        self._broker = broker
        self._random: Random = broker.chance.of("clickhouse")

    def insert(self, table: str, rows: pa.Table) -> None:
        """``pipeline.sink.edges.Inserter``"""
        now, reach = self._broker.loop.now, self._broker.trace.reach
        self.ask()
        fate = self._random.choice(("whole", "applied", "part", "nothing")) if self.unsure_until > now else "whole"
        if fate == "nothing":
            raise Unavailable("the connection was reset")
        if fate == "part":
            rows = rows.slice(0, self._random.randint(0, len(rows)))
        self._apply(table, rows)
        if fate == "applied":
            reach("insert applied without an answer")
        if fate == "part":
            reach("insert applied in part")
        if fate != "whole":
            raise Unavailable("the connection was reset")

    def ask(self) -> None:
        """Raises Unavailable while it is away."""
        if self.away_until > self._broker.loop.now:
            self._broker.trace.reach("database away")
            raise Unavailable("ClickHouse does not answer")

    def _apply(self, table: str, rows: pa.Table) -> None:
        key, version = of(table)
        columns = {field.name: _plain(rows.column(field.name)) for field in rows.schema}
        names = list(columns)
        for values in zip(*columns.values(), strict=True):
            row = dict(zip(names, values, strict=True))
            self.rows[table].append(row)
            self.held[table].add((tuple(row[name] for name in key), row[version] if version else None))

    def final_of(self, name: str, generation: int) -> dict[tuple[Any, ...], Row]:
        return self.final(derived(name, generation))

    def final(self, table: str) -> dict[tuple[Any, ...], Row]:
        """``SELECT * FROM table FINAL`` by key."""
        key, version = of(table)
        found: dict[tuple[Any, ...], Row] = {}
        for row in self.rows[table]:
            place = tuple(row[name] for name in key)
            other = found.get(place)
            if (
                other is None
                or (version and row[version] > other[version])
                or ((not version or row[version] == other[version]) and self._random.random() < 0.5)
            ):
                found[place] = row
        return found


def _plain(column: pa.ChunkedArray) -> list[Any]:
    """Moments as milliseconds, decimals as ints of 10^-12, maps as tuples."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        return column.cast(pa.int64()).to_pylist()
    if pa.types.is_decimal(kind):
        return [None if one is None else int(one.scaleb(12, _EXACT)) for one in column.to_pylist()]
    if pa.types.is_map(kind):
        return [tuple(one) for one in column.to_pylist()]
    return column.to_pylist()

"""The tables of two generations beside each other, as comparison.py asks for them; in the simulator a model answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from clickhouse_connect.driver.client import Client

from pipeline.clickhouse import tables
from pipeline.clickhouse.connection import Server, connect, translated
from pipeline.domain.generations import Generation
from pipeline.replay.coverage import Cursors

_KEY = "livemode, event_name, customer, window_start, dimensions, shard"
_CONTENT = (
    "count, sum, min, max, last_value, last_timestamp, last_appended_at, last_offset,"
    " latest_value, latest_appended_at, latest_offset"
)

_SHARDS_SQL = f"""
SELECT livemode, event_name, customer, toUnixTimestamp64Milli(window_start), mapKeys(dimensions),
    mapValues(dimensions), shard,
    maxIf(version + 1, side = 1) AS before_version, maxIf(version + 1, side = 2) AS after_version,
    sumIf(count, side = 1), reinterpret(sumIf(sum, side = 1), 'Int256'),
    sumIf(count, side = 2), reinterpret(sumIf(sum, side = 2), 'Int256'),
    anyIf(content, side = 1) AS before_content, anyIf(content, side = 2) AS after_content,
    before_content != after_content AS differs
FROM
(
    SELECT 1 AS side, *, if(count = 0, 0, sipHash64({_CONTENT})) AS content FROM {{before}} FINAL
    WHERE cityHash64(event_name, customer) % {{{{slices:UInt32}}}} = {{{{slice:UInt32}}}}
    UNION ALL
    SELECT 2 AS side, *, if(count = 0, 0, sipHash64({_CONTENT})) AS content FROM {{after}} FINAL
    WHERE cityHash64(event_name, customer) % {{{{slices:UInt32}}}} = {{{{slice:UInt32}}}}
)
GROUP BY {_KEY}
HAVING differs OR before_version != after_version
"""
"""Pairs of rows that may differ. A difference of versions alone is one when either is not settled."""

_DISPOSITIONS_SQL = """
SELECT before_word, after_word, count()
FROM
(
    SELECT partition, offset,
        maxIf(decided_offset, side = 1) AS before_decided, maxIf(decided_offset, side = 2) AS after_decided,
        anyIf(word, side = 1) AS before_word, anyIf(word, side = 2) AS after_word
    FROM
    (
        SELECT 1 AS side, partition, offset, decided_offset,
            concat(record, ' ', disposition, ifNull(concat(' (', reason, ')'), '')) AS word
        FROM {before} FINAL
        UNION ALL
        SELECT 2 AS side, partition, offset, decided_offset,
            concat(record, ' ', disposition, ifNull(concat(' (', reason, ')'), '')) AS word
        FROM {after} FINAL
    )
    GROUP BY partition, offset
    HAVING before_word != after_word
)
WHERE greatest(offset, before_decided, after_decided)
    < transform(partition, {{partitions:Array(UInt32)}}, {{cuts:Array(UInt64)}}, toUInt64(0))
GROUP BY before_word, after_word
ORDER BY count() DESC, before_word, after_word
"""


class Key(NamedTuple):
    """Of a summary shard."""

    livemode: bool
    event_name: str
    customer: str
    window_start_ms: int
    dimensions: tuple[tuple[str, str], ...]
    shard: int


class Side(NamedTuple):
    """What one generation has: events, and their sum in units of 10^-12. Both 0 where there is nothing."""

    events: int
    total: int


class Pair(NamedTuple):
    """Two rows of one key that may differ."""

    key: Key
    versions: tuple[int, int]
    """-1 where there is no row: offset 0 is a version, too."""
    before: Side
    after: Side
    differs: bool


class Beside(Protocol):
    """Two generations' tables. Everything raises Unavailable while ClickHouse is away."""

    def rows(self) -> tuple[int, int]:
        """How many summary shards each of them has, about."""

    def pairs(self, slices: int, meanwhile: Callable[[], None]) -> Iterator[Pair]:
        """Pairs that may differ, asked for in so many parts; ``meanwhile`` is called before each."""

    def dispositions(self, cut: Cursors) -> list[tuple[str, str, int]]:
        """(before, after, how many records) of what became of records below the cut and differs."""


class SqlBeside:
    """``Beside`` in ClickHouse."""

    def __init__(self, client: Client, before: int, after: int) -> None:
        self._client = client
        self._numbers = before, after

    def rows(self) -> tuple[int, int]:
        before, after = (_rows(self._client, number) for number in self._numbers)
        return before, after

    def pairs(self, slices: int, meanwhile: Callable[[], None]) -> Iterator[Pair]:
        return _pairs(self._client, *self._numbers, slices, meanwhile)

    def dispositions(self, cut: Cursors) -> list[tuple[str, str, int]]:
        return _dispositions(self._client, *self._numbers, cut)


@contextmanager
def sql_beside(server: Server, before: Generation, after: Generation) -> Iterator[SqlBeside]:
    with translated(server), connect(server) as client:
        yield SqlBeside(client, before.number, after.number)


def _rows(client: Client, number: int) -> int:
    return int(str(client.command(f"SELECT count() FROM {tables.derived('summary_shards', number)}")))


def _pairs(client: Client, before: int, after: int, slices: int, meanwhile: Callable[[], None]) -> Iterator[Pair]:
    sql = _SHARDS_SQL.format(
        before=tables.derived("summary_shards", before), after=tables.derived("summary_shards", after)
    )
    for number in range(slices):
        meanwhile()
        with client.query_row_block_stream(sql, parameters={"slices": slices, "slice": number}) as blocks:
            for block in blocks:
                for row in block:
                    yield _pair(row)


def _pair(row: Sequence[Any]) -> Pair:
    livemode, event_name, customer, window_ms, names, values, shard, *rest = row
    dimensions = tuple(zip(names, values, strict=True))
    key = Key(livemode, event_name, customer, window_ms, dimensions, shard)
    versions, before, after = (rest[0] - 1, rest[1] - 1), Side(*rest[2:4]), Side(*rest[4:6])
    return Pair(key, versions, before, after, bool(rest[8]))


def _dispositions(client: Client, before: int, after: int, cut: Cursors) -> list[tuple[str, str, int]]:
    sql = _DISPOSITIONS_SQL.format(
        before=tables.derived("dispositions", before), after=tables.derived("dispositions", after)
    )
    parameters = {"partitions": list(cut), "cuts": list(cut.values())}
    merged: Counter[tuple[str, str]] = Counter()
    for old, new, records in client.query(sql, parameters=parameters).result_rows:
        merged[old, new] += records
    return [(*words, records) for words, records in merged.most_common()]

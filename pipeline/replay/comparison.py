"""Two generations of one journal beside each other, tally by tally, while both of them move.

A row carries the offset of the last record that changed it. Below a cut that the tables of both sides are known to
cover, a pair of rows is *settled*: each shows the state of its key exactly as of the cut, and they are equal or they
are not. A pair with a row beyond the cut has moved since; it is looked at again, with a later cut, until it has settled
once. Two rows of one version and one content agree at any time: they are the same function of the same prefix.

What is compared is what a reader can see: a tally with nothing in it is as good as none.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from pipeline.clickhouse import tables
from pipeline.clickhouse.connection import Server, connect, translated
from pipeline.domain.generations import Generation
from pipeline.replay.coverage import LOOK_EVERY_S, Coverage, Cursors

SLICES_OF_ROWS = 2_000_000
"""Rows of both sides that one query groups at a time: what it holds in memory."""
SETTLED_WITHIN_S = 90.0
"""A tally that has not stood still for the length of a query by then is left out, and counted."""
LOOKS_PER_CUT = 8
"""A tally that moves all the time is soon met with the same version on both sides, if one looks often enough."""
QUICK_ROWS = 1_000_000
"""Of more, a look takes longer than to find a new cut."""
DIFFERENCES_KEPT = 10_000

_KEY = "livemode, event_name, customer, window_start, dimensions, shard"
_CONTENT = (
    "count, sum, min, max, last_value, last_timestamp, last_appended_at, last_offset,"
    " latest_value, latest_appended_at, latest_offset"
)

_SHARDS_SQL = f"""
SELECT livemode, event_name, customer, toUnixTimestamp64Milli(window_start), mapKeys(dimensions),
    mapValues(dimensions), shard,
    maxIf(version, side = 1) AS before_version, maxIf(version, side = 2) AS after_version,
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


class Difference(NamedTuple):
    """A tally that the generations have otherwise, as of a common offset of its partition."""

    key: Key
    before: Side
    after: Side


@dataclasses.dataclass(slots=True)
class Comparison:
    """What was found."""

    before: Generation
    after: Generation
    tallies: int = 0
    """Rows of the later generation, about."""
    differing: int = 0
    differences: list[Difference] = dataclasses.field(default_factory=list)
    """The first DIFFERENCES_KEPT."""
    moving: int = 0
    """Tallies that never stood still for long enough to be compared."""
    dispositions: list[tuple[str, str, int]] = dataclasses.field(default_factory=list)
    """(before, after, how many records): what became of a journal record; empty where it was counted."""

    @property
    def equal(self) -> bool:
        return not self.differing and not self.dispositions

    @property
    def same_rules(self) -> bool:
        return self.before.fold == self.after.fold

    def by_usage(self) -> list[tuple[str, str, Side, Side, int]]:
        """(event_name, customer, before, after, tallies) of what differs, the largest difference first."""
        sums: dict[tuple[str, str], list[int]] = {}
        for key, before, after in self.differences:
            total = sums.setdefault((key.event_name, key.customer), [0] * 5)
            for place, number in enumerate((*before, *after, 1)):
                total[place] += number
        rows = [(*usage, Side(*total[:2]), Side(*total[2:4]), total[4]) for usage, total in sums.items()]
        return sorted(rows, key=lambda row: (-abs(row[3].total - row[2].total), row[:2]))


def compare(
    server: Server,
    before: Generation,
    after: Generation,
    sides: Sequence[Coverage],
    meanwhile: Callable[[], None],
    told: Callable[[int], None],
) -> Comparison:
    """Compare until every tally has settled once. ``told`` hears how many are left.

    Raises Unavailable when a side makes no progress: it could then not be told how far its tables are.
    """
    found = Comparison(before, after)
    deadline = time.monotonic() + SETTLED_WITHIN_S
    left: set[Key] = set()
    with translated(server), connect(server) as client:
        found.tallies = _rows(client, after.number)
        rows = _rows(client, before.number) + found.tallies
        slices = 1 + rows // SLICES_OF_ROWS
        looks = LOOKS_PER_CUT if rows < QUICK_ROWS else 1
        cut: Cursors = {}
        for look in itertools.count():
            if look % looks == 0:
                cut = _cut(sides, meanwhile)
            moved: set[Key] = set()
            for row in _pairs(client, before.number, after.number, slices, meanwhile):
                if look == 0 or row.key in left:
                    _judge(row, cut, found, moved)
            left = moved
            told(len(left))
            if not left or time.monotonic() > deadline:
                break
            time.sleep(LOOK_EVERY_S)
        found.moving = len(left)
        found.dispositions = _dispositions(client, before.number, after.number, _cut(sides, meanwhile))
    return found


def _cut(sides: Sequence[Coverage], meanwhile: Callable[[], None]) -> Cursors:
    covered = [side.await_tables(meanwhile) for side in sides]
    return {number: min(cursors[number] for cursors in covered) for number in covered[0]}


class _Pair(NamedTuple):
    """Two rows of one key that may differ."""

    key: Key
    versions: tuple[int, int]
    before: Side
    after: Side
    differs: bool


def _judge(pair: _Pair, cut: Cursors, found: Comparison, moved: set[Key]) -> None:
    if max(pair.versions) >= cut[pair.key.shard] and pair.versions[0] != pair.versions[1]:
        moved.add(pair.key)
    elif pair.differs:
        found.differing += 1
        if len(found.differences) < DIFFERENCES_KEPT:
            found.differences.append(Difference(pair.key, pair.before, pair.after))


def _rows(client: Client, number: int) -> int:
    return int(str(client.command(f"SELECT count() FROM {tables.derived('summary_shards', number)}")))


def _pairs(client: Client, before: int, after: int, slices: int, meanwhile: Callable[[], None]) -> Iterator[_Pair]:
    sql = _SHARDS_SQL.format(
        before=tables.derived("summary_shards", before), after=tables.derived("summary_shards", after)
    )
    for number in range(slices):
        meanwhile()
        with client.query_row_block_stream(sql, parameters={"slices": slices, "slice": number}) as blocks:
            for block in blocks:
                for row in block:
                    yield _pair(row)


def _pair(row: Sequence[Any]) -> _Pair:
    livemode, event_name, customer, window_ms, names, values, shard, *rest = row
    dimensions = tuple(zip(names, values, strict=True))
    key = Key(livemode, event_name, customer, window_ms, dimensions, shard)
    versions, before, after = tuple(rest[:2]), Side(*rest[2:4]), Side(*rest[4:6])
    return _Pair(key, versions, before, after, bool(rest[8]))


def _dispositions(client: Client, before: int, after: int, cut: Cursors) -> list[tuple[str, str, int]]:
    sql = _DISPOSITIONS_SQL.format(
        before=tables.derived("dispositions", before), after=tables.derived("dispositions", after)
    )
    parameters = {"partitions": list(cut), "cuts": list(cut.values())}
    merged: Counter[tuple[str, str]] = Counter()
    for old, new, records in client.query(sql, parameters=parameters).result_rows:
        merged[old, new] += records
    return [(*words, records) for words, records in merged.most_common()]

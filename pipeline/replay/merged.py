"""Two generations of different journals beside each other: summaries, because their shards are cut otherwise.

Both stand still. Where two events of one tally have the same timestamp and came in the same millisecond, which of them
is the last follows from their places in the journal; those are other places now, so either of the two values is right.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.clickhouse import tables
from pipeline.clickhouse.connection import Server, connect, translated
from pipeline.domain.generations import Generation
from pipeline.replay.beside import Key, Side
from pipeline.replay.comparison import DIFFERENCES_KEPT, SLICES_OF_ROWS, Comparison, Difference

ALL_SHARDS = -1

_KEY = "livemode, event_name, customer, window_start, dimensions"
_SIDE = f"""
    SELECT {{side}} AS side, {_KEY},
        sum(count) AS events, reinterpret(sum(sum), 'Int256') AS total,
        (events, total, min(min), max(max),
            max((last_timestamp, last_appended_at)), max(latest_appended_at)) AS content
    FROM {{table}} FINAL
    WHERE cityHash64(event_name, customer) % {{{{slices:UInt32}}}} = {{{{slice:UInt32}}}} AND count > 0
    GROUP BY {_KEY}
"""
_SQL = f"""
SELECT livemode, event_name, customer, toUnixTimestamp64Milli(window_start), mapKeys(dimensions), mapValues(dimensions),
    sumIf(events, side = 1), sumIf(total, side = 1), sumIf(events, side = 2), sumIf(total, side = 2)
FROM ({{before}} UNION ALL {{after}})
GROUP BY {_KEY}
HAVING count() = 1 OR min(content) != max(content)
"""


def compare_merged(server: Server, before: Generation, after: Generation, meanwhile: Callable[[], None]) -> Comparison:
    """Every summary of a minute, customer and set of dimensions that one of them has otherwise."""
    found = Comparison(before, after)
    names = [tables.derived("summary_shards", one.number) for one in (before, after)]
    sides = [_SIDE.format(side=number, table=name) for number, name in enumerate(names, 1)]
    sql = _SQL.format(before=sides[0], after=sides[1])
    with translated(server), connect(server) as client:
        rows = [int(str(client.command(f"SELECT count() FROM {name}"))) for name in names]
        found.tallies = rows[1]
        slices = 1 + sum(rows) // SLICES_OF_ROWS
        for number in range(slices):
            meanwhile()
            with client.query_row_block_stream(sql, parameters={"slices": slices, "slice": number}) as blocks:
                for block in blocks:
                    for livemode, event_name, customer, window_ms, keys, values, *numbers in block:
                        found.differing += 1
                        if len(found.differences) < DIFFERENCES_KEPT:
                            dimensions = tuple(zip(keys, values, strict=True))
                            key = Key(livemode, event_name, customer, window_ms, dimensions, ALL_SHARDS)
                            found.differences.append(Difference(key, Side(*numbers[:2]), Side(*numbers[2:])))
    return found

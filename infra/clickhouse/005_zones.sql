-- Time zones as `meterline clickhouse migrate` finds them in Python's database: the only one that decides what a day
-- is. Times are milliseconds, UTC; a piece is a stretch of one offset.

CREATE TABLE IF NOT EXISTS zones
(
    zone    String,
    pieces  Array(Tuple(starts Int64, ends Int64, offset Int64, local_starts Int64)),
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY zone
SETTINGS index_granularity = 16;

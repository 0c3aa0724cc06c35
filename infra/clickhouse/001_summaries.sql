-- Summary shards: one partition's part of one minute's summary, absolute, as of journal offset `version`.
-- Inserts may be repeated, split, reordered or raced: of one key the highest version stands, and two rows of one key
-- and version are the same row. The suffix _g1 is the generation; the view summary_shards points at the live one.

CREATE TABLE IF NOT EXISTS summary_shards_g1
(
    livemode           Bool,
    event_name         LowCardinality(String),
    customer           String,
    window_start       DateTime64(3, 'UTC') COMMENT 'start of the minute',
    dimensions         Map(String, String) COMMENT 'sorted by key: the map is compared entry by entry',
    shard              UInt32 COMMENT 'journal partition',
    version            UInt64 COMMENT 'offset of the last journal record that changed this shard',
    count              UInt64 COMMENT 'events that count; 0 when everything was taken back, the rest then means nothing',
    sum                Decimal(76, 12) COMMENT 'wide, because sums of Decimal(38) wrap silently',
    min                Decimal(38, 12),
    max                Decimal(38, 12),
    last_value         Decimal(38, 12),
    last_timestamp     DateTime64(3, 'UTC'),
    last_appended_at   DateTime64(3, 'UTC'),
    last_offset        UInt64,
    latest_value       Decimal(38, 12),
    latest_appended_at DateTime64(3, 'UTC'),
    latest_offset      UInt64
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (livemode, event_name, customer, window_start)
ORDER BY (livemode, event_name, customer, window_start, dimensions, shard)
-- Small granules: one customer's month is a few thousand rows.
SETTINGS index_granularity = 2048;

-- The live generation, each shard once. Swapping generations is one CREATE OR REPLACE of this view.
CREATE OR REPLACE VIEW summary_shards AS SELECT * FROM summary_shards_g1 FINAL;

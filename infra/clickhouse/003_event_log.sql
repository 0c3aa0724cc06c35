-- The event log: the journal and the adjustments topic as they were sent, for drill-down and `meterline explain`.
-- No derived number depends on it. A record that arrives twice is one row: its place in the topic is in the key.

CREATE TABLE IF NOT EXISTS meter_events
(
    partition   UInt32,
    offset      UInt64,
    appended_at DateTime64(3, 'UTC') COMMENT 'LogAppendTime',
    identifier  String,
    event_name  LowCardinality(String),
    customer    String,
    value       Nullable(Decimal(38, 12)) COMMENT 'null when it has more digits than any value may have (it is rejected)',
    timestamp   DateTime64(3, 'UTC') COMMENT 'as it was said, however wrong',
    dimensions  Map(String, String),
    livemode    Bool,
    INDEX by_identifier identifier TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(appended_at)
PRIMARY KEY (livemode, event_name, customer, timestamp)
ORDER BY (livemode, event_name, customer, timestamp, partition, offset);

CREATE TABLE IF NOT EXISTS cancellations
(
    partition      UInt32,
    offset         UInt64,
    appended_at    DateTime64(3, 'UTC') COMMENT 'LogAppendTime',
    adjustment_id  String,
    event_name     LowCardinality(String),
    livemode       Bool,
    identifier     Nullable(String) COMMENT 'null for a range',
    range_customer Nullable(String) COMMENT 'of a range: only this customer; null for all',
    range_start    Nullable(DateTime64(3, 'UTC')),
    range_end      Nullable(DateTime64(3, 'UTC')),
    requested_at   DateTime64(3, 'UTC') COMMENT 'LogAppendTime of the adjustment',
    INDEX by_identifier identifier TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_adjustment adjustment_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
ORDER BY (partition, offset);

CREATE TABLE IF NOT EXISTS adjustments
(
    id             String,
    partition      UInt32 COMMENT 'of the adjustments topic',
    offset         UInt64,
    appended_at    DateTime64(3, 'UTC') COMMENT 'LogAppendTime',
    event_name     LowCardinality(String),
    livemode       Bool,
    identifier     Nullable(String) COMMENT 'null for a range',
    range_customer Nullable(String) COMMENT 'of a range: only this customer; null for all',
    range_start    Nullable(DateTime64(3, 'UTC')),
    range_end      Nullable(DateTime64(3, 'UTC')),
    INDEX by_identifier identifier TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
ORDER BY (id, partition, offset);

-- The event log of one journal, so that another journal's can be filled beside it: `meter_events` and `cancellations`
-- are views over the one that stands. Statements can be repeated: rows are known by their place in the journal.

CREATE TABLE IF NOT EXISTS meter_events_j1
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

CREATE TABLE IF NOT EXISTS cancellations_j1
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

INSERT INTO meter_events_j1 SELECT * FROM meter_events;

INSERT INTO cancellations_j1 SELECT * FROM cancellations;

-- Moving to another journal is one CREATE OR REPLACE of this view.
CREATE OR REPLACE VIEW meter_events AS SELECT * FROM meter_events_j1 FINAL;

-- Moving to another journal is one CREATE OR REPLACE of this view.
CREATE OR REPLACE VIEW cancellations AS SELECT * FROM cancellations_j1 FINAL;

-- What became of journal records: the exceptions only, an event without a row was counted. Of several decisions about
-- one record the last one stands. The suffix _g1 is the generation, as in summary_shards.

CREATE TABLE IF NOT EXISTS dispositions_g1
(
    partition        UInt32 COMMENT 'journal partition of the record',
    offset           UInt64 COMMENT 'journal offset of the record',
    decided_offset   UInt64 COMMENT 'journal offset of the record that led to this decision',
    record           LowCardinality(String) COMMENT 'event, cancellation, range_cancellation or unknown',
    disposition      LowCardinality(String),
    reason           LowCardinality(Nullable(String)) COMMENT 'why it was rejected or could not be decoded',
    livemode         Nullable(Bool),
    event_name       LowCardinality(Nullable(String)),
    identifier       Nullable(String),
    customer         Nullable(String),
    value            Nullable(Decimal(38, 12)),
    timestamp        Nullable(DateTime64(3, 'UTC')),
    appended_at      Nullable(DateTime64(3, 'UTC')) COMMENT 'LogAppendTime of the record; not known to every later decision',
    adjustment_id    Nullable(String) COMMENT 'what took the event back; on a cancellation, its own',
    first_offset     Nullable(UInt64) COMMENT 'on a duplicate: offset of the record that counts',
    events_cancelled Nullable(UInt64) COMMENT 'on a cancellation: how many events it took back',
    INDEX by_identifier identifier TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_adjustment adjustment_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(decided_offset)
ORDER BY (partition, offset);

CREATE OR REPLACE VIEW dispositions AS SELECT * FROM dispositions_g1 FINAL;

-- The billing catalog, whole objects: of one id the highest version stands. Rows with `deleted` are tombstones.

CREATE TABLE IF NOT EXISTS meters
(
    id           String,
    livemode     Bool,
    event_name   LowCardinality(String),
    display_name String,
    status       LowCardinality(String),
    formula      LowCardinality(String) COMMENT 'sum, count or last',
    created      DateTime64(3, 'UTC'),
    updated      DateTime64(3, 'UTC'),
    deleted      Bool DEFAULT false,
    version      UInt64 COMMENT 'offset in the catalog topic'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY id;

CREATE TABLE IF NOT EXISTS products
(
    id       String,
    livemode Bool,
    name     String,
    active   Bool,
    created  DateTime64(3, 'UTC'),
    updated  DateTime64(3, 'UTC'),
    deleted  Bool DEFAULT false,
    version  UInt64 COMMENT 'offset in the catalog topic'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY id;

CREATE TABLE IF NOT EXISTS plans
(
    id       String,
    livemode Bool,
    product  String,
    meter    Nullable(String),
    currency LowCardinality(String),
    active   Bool,
    created  DateTime64(3, 'UTC'),
    updated  DateTime64(3, 'UTC'),
    deleted  Bool DEFAULT false,
    version  UInt64 COMMENT 'offset in the catalog topic'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY id;

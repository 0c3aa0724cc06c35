-- The billing catalog with all its fields, and one id in either mode. `version` is the object's own, one more with each
-- change; a row is written only if its record stands in the catalog's log, so the highest version is the truth.
--
-- Replaces the tables of 004, which nothing wrote. A sink fills these from the log's first record whenever it starts.

CREATE OR REPLACE TABLE meters
(
    id                     String,
    livemode               Bool,
    created                DateTime64(3, 'UTC'),
    updated                DateTime64(3, 'UTC'),
    deleted                Bool,
    version                UInt64 COMMENT 'of the object: one more with each change',
    event_name             String,
    display_name           String,
    status                 LowCardinality(String) COMMENT 'active or inactive',
    formula                LowCardinality(String) COMMENT 'sum, count or last',
    deactivated_at         Nullable(DateTime64(3, 'UTC')),
    customer_payload_key   String,
    value_payload_key      String,
    event_time_window      Nullable(String) COMMENT 'hour or day',
    dimension_payload_keys Array(String)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (livemode, id);

CREATE OR REPLACE TABLE products
(
    id                   String,
    livemode             Bool,
    created              DateTime64(3, 'UTC'),
    updated              DateTime64(3, 'UTC'),
    deleted              Bool,
    version              UInt64 COMMENT 'of the object: one more with each change',
    name                 String,
    active               Bool,
    description          Nullable(String),
    default_price        Nullable(String) COMMENT 'id of a plan; means nothing once that plan is gone',
    images               Array(String),
    marketing_features   Array(String),
    metadata             Map(String, String),
    package_dimensions   Map(String, String) COMMENT 'height, length, width in inches, weight in ounces; exact',
    shippable            Nullable(Bool),
    statement_descriptor Nullable(String),
    tax_code             Nullable(String),
    unit_label           Nullable(String),
    url                  Nullable(String)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (livemode, id);

CREATE OR REPLACE TABLE plans
(
    id                        String,
    livemode                  Bool,
    created                   DateTime64(3, 'UTC'),
    updated                   DateTime64(3, 'UTC'),
    deleted                   Bool,
    version                   UInt64 COMMENT 'of the object: one more with each change',
    product                   String,
    meter                     Nullable(String),
    currency                  LowCardinality(String),
    active                    Bool,
    nickname                  Nullable(String),
    interval                  LowCardinality(String) COMMENT 'day, week, month or year',
    interval_count            Int32,
    billing_scheme            LowCardinality(String) COMMENT 'per_unit or tiered',
    amount_decimal            Nullable(Decimal(38, 12)) COMMENT 'in the smallest unit of the currency',
    usage_type                LowCardinality(String) COMMENT 'licensed or metered',
    tiers_mode                Nullable(String) COMMENT 'graduated or volume',
    tiers_up_to               Array(Nullable(Int64)) COMMENT 'one entry per tier; NULL in the last',
    tiers_unit_amount_decimal Array(Nullable(Decimal(38, 12))),
    tiers_flat_amount_decimal Array(Nullable(Decimal(38, 12))),
    transform_divide_by       Nullable(Int64),
    transform_round           Nullable(String) COMMENT 'up or down',
    trial_period_days         Nullable(Int32),
    metadata                  Map(String, String)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (livemode, id);

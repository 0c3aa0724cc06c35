"""Tables, schemas and rows belong together: one test lists what is missing where."""

from __future__ import annotations

import re

import pytest

from pipeline.clickhouse import tables
from pipeline.clickhouse.migrations import Migration, known_migrations
from pipeline.codec.schemas import newest
from pipeline.sink import catalog
from pipeline.sink.rows import SCHEMAS

CREATE_TABLE = r"CREATE (?:TABLE IF NOT EXISTS|OR REPLACE TABLE) "


def columns_in_sql() -> dict[str, dict[str, str]]:
    """Column -> type, of every CREATE TABLE."""
    found: dict[str, dict[str, str]] = {}
    for migration in known_migrations():
        for statement in migration.statements:
            match = re.search(CREATE_TABLE + r"(\w+)\n\((.*?)\n\)\nENGINE", statement, re.DOTALL)
            if match:
                lines = re.findall(r"^    (\w+) +(.+?)(?: COMMENT '.*?'| DEFAULT .*?)?,?$", match[2], re.MULTILINE)
                found[match[1]] = {name: kind for name, kind in lines if name != "INDEX"}
    return found


COLUMNS = columns_in_sql()


def test_names_are_state() -> None:
    """Renaming a table loses what stands under the old name: think of a migration, then change this."""
    assert set(COLUMNS) == {
        "summary_shards_g1", "dispositions_g1", "meter_events", "cancellations", "adjustments",
        "meter_events_j1", "cancellations_j1",
        "meters", "products", "plans", "zones",
    }  # fmt: skip
    before_there_were_several_journals = set(tables.JOURNALED)
    numbered = {tables.table_of(name) for name in (*tables.DERIVED, *tables.JOURNALED)}
    assert numbered | set(tables.SENT) | {tables.ZONES} | before_there_were_several_journals == set(COLUMNS)
    views = {
        name
        for migration in known_migrations()
        for statement in migration.statements
        for name in re.findall(r"CREATE OR REPLACE VIEW (\w+)", statement)
    }
    assert views == {*tables.DERIVED, *tables.JOURNALED, tables.SUMMARIES_VIEW}


@pytest.mark.parametrize(("name", "schema"), [*SCHEMAS.items(), *catalog.SCHEMAS.items()])
def test_every_field_that_is_written_has_its_column(name: str, schema) -> None:
    table = tables.table_of(name)
    assert set(schema.names) == set(COLUMNS[table])
    for field in schema:
        assert ("Nullable" in COLUMNS[table][field.name]) <= field.nullable, field.name


@pytest.mark.parametrize(
    ("record", "table"),
    [("SummaryShard", "summary_shards_g1"), ("Disposition", "dispositions_g1"), ("MeterEvent", "meter_events_j1")],
)
def test_every_field_of_a_schema_has_its_column(record: str, table: str) -> None:
    fields = {field["name"] for field in newest(record).document["fields"]}
    assert fields <= set(COLUMNS[table]), f"add {fields - set(COLUMNS[table])} to {table} by a new migration"


NOT_COPIED = {"request"}
SPLIT = {
    "customer_mapping": {"customer_payload_key"},
    "value_settings": {"value_payload_key"},
    "default_aggregation": {"formula"},
    "transform_usage": {"transform_divide_by", "transform_round"},
    "tiers": {"tiers_up_to", "tiers_unit_amount_decimal", "tiers_flat_amount_decimal"},
}


@pytest.mark.parametrize(("record", "table"), [("Meter", "meters"), ("Product", "products"), ("Plan", "plans")])
def test_every_field_of_the_catalog_has_its_columns(record: str, table: str) -> None:
    fields = {field["name"] for field in newest(record).document["fields"]} - NOT_COPIED
    wanted = {column for field in fields for column in SPLIT.get(field, {field})} | {"deleted"}
    assert wanted == set(COLUMNS[table]), "add what is missing by a new migration"


def test_keys_are_copied_nowhere() -> None:
    assert "ApiKey" not in {kind.__name__ for kind in catalog.COLUMNS}


def test_sums_are_wide() -> None:
    """sum(Decimal(38, ...)) wraps to a negative number without a word."""
    assert COLUMNS["summary_shards_g1"]["sum"] == "Decimal(76, 12)"


def test_statements_end_where_a_line_ends_with_a_semicolon() -> None:
    text = "-- a comment; with one\nSELECT ';' -- here; too\n, 1;\n\nSELECT 2;  \n-- the end;\n"
    assert Migration(1, "x", text).statements == ["-- a comment; with one\nSELECT ';' -- here; too\n, 1", "SELECT 2"]


def test_migrations_are_numbered_and_repeatable() -> None:
    for migration in known_migrations():
        assert migration.statements
        for statement in migration.statements:
            sql = re.sub(r"^--.*\n", "", statement, flags=re.MULTILINE)
            repeatable = (
                "CREATE (TABLE IF NOT EXISTS|OR REPLACE (VIEW|TABLE)) ",
                r"ALTER TABLE \w+\s+ADD COLUMN IF NOT EXISTS ",
                r"INSERT INTO (\w+)_j1 SELECT \* FROM \1$",  # into a ReplacingMergeTree: the same rows once
            )
            assert any(re.match(form, sql.lstrip()) for form in repeatable), sql[:80]

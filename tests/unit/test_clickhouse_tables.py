"""Tables, schemas and rows belong together: one test lists what is missing where."""

from __future__ import annotations

import re

import pytest

from pipeline.clickhouse import tables
from pipeline.clickhouse.migrations import Migration, known_migrations
from pipeline.codec.schemas import newest
from pipeline.sink.rows import SCHEMAS


def columns_in_sql() -> dict[str, dict[str, str]]:
    """Column -> type, of every CREATE TABLE."""
    found: dict[str, dict[str, str]] = {}
    for migration in known_migrations():
        for statement in migration.statements:
            match = re.search(r"CREATE TABLE IF NOT EXISTS (\w+)\n\((.*?)\n\)\nENGINE", statement, re.DOTALL)
            if match:
                lines = re.findall(r"^    (\w+) +(.+?)(?: COMMENT '.*?'| DEFAULT .*?)?,?$", match[2], re.MULTILINE)
                found[match[1]] = {name: kind for name, kind in lines if name != "INDEX"}
    return found


COLUMNS = columns_in_sql()


def test_names_are_state() -> None:
    """Renaming a table loses what stands under the old name: think of a migration, then change this."""
    assert set(COLUMNS) == {
        "summary_shards_g1", "dispositions_g1", "meter_events", "cancellations", "adjustments",
        "meters", "products", "plans", "zones",
    }  # fmt: skip
    assert {tables.derived(name) for name in tables.DERIVED} | set(tables.SENT) | {tables.ZONES} == set(COLUMNS)
    views = {
        name
        for migration in known_migrations()
        for statement in migration.statements
        for name in re.findall(r"CREATE OR REPLACE VIEW (\w+)", statement)
    }
    assert views == {*tables.DERIVED, tables.SUMMARIES_VIEW}


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items())
def test_every_field_that_is_written_has_its_column(name: str, schema) -> None:
    table = tables.derived(name) if name in tables.DERIVED else name
    assert set(schema.names) == set(COLUMNS[table])
    for field in schema:
        assert ("Nullable" in COLUMNS[table][field.name]) <= field.nullable, field.name


@pytest.mark.parametrize(
    ("record", "table"),
    [("SummaryShard", "summary_shards_g1"), ("Disposition", "dispositions_g1"), ("MeterEvent", "meter_events")],
)
def test_every_field_of_a_schema_has_its_column(record: str, table: str) -> None:
    fields = {field["name"] for field in newest(record).document["fields"]}
    assert fields <= set(COLUMNS[table]), f"add {fields - set(COLUMNS[table])} to {table} by a new migration"


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
            assert re.match(r"CREATE (TABLE IF NOT EXISTS|OR REPLACE VIEW) ", sql.lstrip()), sql[:80]

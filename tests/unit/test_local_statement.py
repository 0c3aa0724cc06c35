"""What the endpoint reads out of SQL before the engine does."""

from __future__ import annotations

import chdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.local import statement
from pipeline.local.formats import native_head
from pipeline.local.statement import Parts, RowsAt


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"INSERT INTO t FORMAT CSV\n1,2", RowsAt("INSERT INTO t ", "CSV", 25)),
        (b"insert into t (a, b) format Native\r\n\x01", RowsAt("insert into t (a, b) ", "Native", 36)),
        (b"INSERT INTO t FORMAT JSONEachRow {}", RowsAt("INSERT INTO t ", "JSONEachRow", 33)),
        (b"INSERT INTO t SETTINGS a=1 FORMAT TSV\n", RowsAt("INSERT INTO t SETTINGS a=1 ", "TSV", 38)),
        (
            b"/* FORMAT CSV */ INSERT INTO `FORMAT` FORMAT TSV\nx",
            RowsAt("/* FORMAT CSV */ INSERT INTO `FORMAT` ", "TSV", 49),
        ),
        (b"INSERT INTO t (format, x) FORMAT TSV\nx", RowsAt("INSERT INTO t (format, x) ", "TSV", 37)),
        (b"INSERT INTO t VALUES (1)", RowsAt("INSERT INTO t ", "Values", 20)),
        (b"INSERT INTO t SELECT 1 FORMAT CSV", None),
        (b"INSERT INTO t FROM INFILE 'x' FORMAT CSV", None),
        (b"SELECT 1 FORMAT CSV", None),
        (b"", None),
    ],
)
def test_the_rows_of_an_insert_begin_behind_its_format_clause(body: bytes, expected: RowsAt | None) -> None:
    assert statement.rows_of_insert(body) == expected


@given(rows=st.binary(max_size=200))
def test_rows_are_never_mistaken_for_sql(rows: bytes) -> None:
    found = statement.rows_of_insert(b"INSERT INTO t (a) FORMAT RowBinary\n" + rows)
    assert found == RowsAt("INSERT INTO t (a) ", "RowBinary", 35)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1 FORMAT JSON", Parts("SELECT 1 ", "JSON", "")),
        ("SELECT 1 FORMAT JSON SETTINGS a = 1;", Parts("SELECT 1 ", "JSON", " SETTINGS a = 1")),
        ("SELECT 1 SETTINGS a = 1", Parts("SELECT 1 SETTINGS a = 1", None, "")),
        ("SELECT 'é FORMAT CSV' FORMAT TSV -- é", Parts("SELECT 'é FORMAT CSV' ", "TSV", "")),
        ("SELECT format FROM t", Parts("SELECT format FROM t", None, "")),
        ("SELECT format('{}', x) FROM t;", Parts("SELECT format('{}', x) FROM t", None, "")),
        ("SELECT * FROM (SELECT 1 AS format)", Parts("SELECT * FROM (SELECT 1 AS format)", None, "")),
        ("SELECT $$ FORMAT CSV $$", Parts("SELECT $$ FORMAT CSV $$", None, "")),
        (" ; ", Parts("", None, "")),
        ("SELECT 1 AS à", Parts("SELECT 1 AS à", None, "")),
        ("SELECT 1 AS `Å`", Parts("SELECT 1 AS `Å`", None, "")),
        ("SELECT\u00a01\u2003FORMAT\u3000TSV\ufeff", Parts("SELECT\u00a01\u2003", "TSV", "")),
    ],
)
def test_a_query_is_taken_apart_at_its_own_format_clause(sql: str, expected: Parts) -> None:
    assert statement.parts(sql) == expected


def test_a_result_goes_to_a_file_in_the_format_that_was_asked_for() -> None:
    found = statement.into_file("SELECT 1 FORMAT JSON SETTINGS a=1 -- the end", "JSON", "/x/y")
    assert found == "SELECT 1 \nINTO OUTFILE '/x/y' FORMAT JSON SETTINGS a=1"
    assert statement.with_format("SELECT 1 -- one", "CSV") == "SELECT 1\nFORMAT CSV"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM file('/etc/passwd')",
        "SELECT FILE ('/etc/passwd')",
        "SELECT * FROM `f\\x69le`('x')",
        "select * from url('http://x')",
        "SELECT remote/**/('a','b')",
        "SELECT * FROM Python(x)",
    ],
)
def test_every_spelling_of_a_function_that_reaches_out_is_suspicious(sql: str) -> None:
    assert statement.suspicious(sql)


def test_ordinary_queries_are_not_suspicious() -> None:
    assert not statement.suspicious("SELECT profile, sum(value) FROM meter_event_summaries(customer={c:String})")


@pytest.mark.parametrize(
    ("sql", "refused"),
    [
        ("INSERT INTO t FROM INFILE 'x' FORMAT CSV", True),
        ("INSERT INTO t /* VALUES */ FROM INFILE 'x'", True),
        ("INSERT INTO t VALUES ('FROM INFILE')", False),
        ("CREATE DATABASE d ENGINE = Atomic SETTINGS disk = disk(type = web)", True),
        ("CREATE\u00a0DATABASE d ENGINE = Atomic SETTINGS disk = disk(type = web)", True),
        ("\ufeffCREATE\u200bDATABASE d SETTINGS disk = disk(type = web)", True),
        ("INSERT INTO t FROM\u2028INFILE 'x' FORMAT CSV", True),
        ("CREATE DATABASE d", False),
        ("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS index_granularity = 8", False),
    ],
)
def test_some_writes_are_refused_for_their_text(sql: str, refused: bool) -> None:
    assert (statement.refusal(sql) is not None) is refused


def test_blanks_are_those_of_the_engine() -> None:
    """Were one of them none here, a word behind it would go unseen; were there others, letters would be cut in two."""
    points = [*range(1, 0x24), 0x7F, 0x85, 0xA0, 0x1680, 0x180E, *range(0x2000, 0x2070), 0x3000, 0xFEFF]
    ours = {point for point in points if statement.first_of(chr(point)) == ""}
    assert ours == {point for point in points if _is_blank_to_the_engine(chr(point))}


def _is_blank_to_the_engine(text: str) -> bool:
    try:
        return bytes(chdb.query(f"SELECT{text}1", "TSV").bytes()) == b"1\n"
    except RuntimeError:
        return False


def test_functions_are_found_in_a_syntax_tree() -> None:
    tree = "SelectQuery\n ExpressionList\n  Function File (children 1)\n   Literal 'Function url'\n"
    assert statement.functions_in(tree) == {"file"}


def test_a_result_without_rows_has_its_columns_in_native() -> None:
    names_and_types = b"\x02\x01a\x02bc\x05Int64\x06String"
    assert native_head(names_and_types) == b"\x02\x00" + b"\x01a\x05Int64" + b"\x02bc\x06String"

"""Files of usage as rows: a bad line is named, and never hides a good one."""

from __future__ import annotations

import io

import pytest

from pipeline.cli.lines import LINE_BYTES_MAX, BadLine, Lines, Row, csv_header, csv_rows, json_rows
from pipeline.errors import UsageError


def read_json(content: bytes) -> list[Row | BadLine]:
    return list(json_rows(Lines(io.BytesIO(content))))


def read_csv(content: bytes, delimiter: str = ",") -> list[Row | BadLine]:
    lines = Lines(io.BytesIO(content))
    return list(csv_rows(lines, delimiter, csv_header(lines, delimiter)))


def said(rows: list[Row | BadLine]) -> list[tuple[int, str | dict]]:
    return [(row.line, row.reason if isinstance(row, BadLine) else row.fields) for row in rows]


def test_json_numbers_stay_the_text_they_were() -> None:
    (row,) = read_json(b'{"value": 0.10000000000000000001, "big": 123456789012345678901234567890}')
    assert row.fields == {"value": "0.10000000000000000001", "big": "123456789012345678901234567890"}


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[1, 2]",
        b'"text"',
        b'{"value": NaN}',
        b'{"value": Infinity}',
        b'{"value": -Infinity}',
        b'{"value": 1} {"value": 2}',
        b'{"value": 1, "value": 2}',
        b'{"value": 1',
        b"\x00",
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_json_object_is_bad_and_the_next_one_is_read(line: bytes) -> None:
    assert said(read_json(line + b'\n{"a": "b"}\n')) == [(1, "not_json"), (2, {"a": "b"})]


def test_a_line_that_is_not_utf8_is_bad_and_the_next_one_is_read() -> None:
    assert said(read_json(b'{"a": "\xff"}\n{"a": "\xc3\xa9"}')) == [(1, "not_utf8"), (2, {"a": "é"})]


def test_a_line_beyond_the_limit_is_bad_and_keeps_its_number() -> None:
    huge = b'{"a": "' + b"x" * (3 * LINE_BYTES_MAX) + b'"}'
    rows = read_json(huge + b'\n{"a": "b"}\n')
    assert said(rows) == [(1, "line_too_long"), (2, {"a": "b"})]
    assert len(rows[0].text) <= 1000


def test_empty_lines_are_passed_over_but_counted() -> None:
    assert said(read_json(b'\n  \n{"a": "b"}\r\n')) == [(3, {"a": "b"})]


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert said(read_json(b'\xef\xbb\xbf{"a": "b"}')) == [(1, {"a": "b"})]
    assert said(read_csv(b"\xef\xbb\xbfa,b\n1,2\n")) == [(2, {"a": "1", "b": "2"})]


def test_csv_fields_in_quotes_may_hold_delimiters_quotes_and_line_breaks() -> None:
    rows = read_csv(b'a,b\n"1,5","say ""hi"""\n"two\nlines",x\nlast,y\n')
    assert said(rows) == [
        (2, {"a": "1,5", "b": 'say "hi"'}),
        (3, {"a": "two\nlines", "b": "x"}),
        (5, {"a": "last", "b": "y"}),
    ]


def test_a_quote_that_is_never_closed_costs_only_its_own_line() -> None:
    rows = read_csv(b'a,b\n"open,1\n' + b"x,2\n" * 150)
    assert said(rows)[:2] == [(2, "not_csv"), (3, {"a": "x", "b": "2"})]
    assert len(rows) == 151


def test_a_quote_that_is_opened_on_the_last_line_is_bad() -> None:
    assert said(read_csv(b'a,b\n1,2\n"open,1')) == [(2, {"a": "1", "b": "2"}), (3, "not_csv")]


def test_a_csv_row_has_as_many_columns_as_the_header() -> None:
    assert said(read_csv(b"a,b\n1\n1,2,3\n1,2\n")) == [
        (2, "wrong_columns"),
        (3, "wrong_columns"),
        (4, {"a": "1", "b": "2"}),
    ]


def test_other_delimiters_are_taken() -> None:
    assert said(read_csv(b"a\tb\n1,5\t2\n", "\t")) == [(2, {"a": "1,5", "b": "2"})]


@pytest.mark.parametrize("content", [b"", b"\n1,2\n", b"a,a\n1,2\n", b"\xff,b\n1,2\n", b'"a,b\n1,2\n'])
def test_a_csv_file_without_a_usable_header_is_a_usage_error(content: bytes) -> None:
    with pytest.raises(UsageError):
        read_csv(content)


def test_bytes_read_reach_the_size_of_the_file() -> None:
    content = b'{"a": "b"}\n' * 10 + b"x" * (2 * LINE_BYTES_MAX)
    lines = Lines(io.BytesIO(content))
    assert len(list(json_rows(lines))) == 11
    assert lines.bytes_read == len(content)

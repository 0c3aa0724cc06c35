"""Files of usage as rows: JSON lines or CSV, read so that a bad line never hides the good ones after it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from pipeline.errors import UsageError

LINE_BYTES_MAX = 1 << 20
"""A longer line is bad: no meter event comes near it, and memory stays bounded."""
QUOTED_LINES_MAX = 100
"""A CSV field in quotes may go over this many lines; beyond, the quote is taken for a mistake of its first line."""


class Row(NamedTuple):
    """One record of the file, not yet understood: JSON members or CSV columns by name."""

    line: int
    text: str
    fields: dict[str, Any]


class BadLine(NamedTuple):
    """A line that cannot be used: its number from 1, a stable snake_case reason, a sentence, and what it said."""

    line: int
    text: str
    reason: str
    message: str


class Lines:
    """The lines of a binary file, numbered from 1, decoded; counts the bytes it has read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes_read = 0
        self.number = 0

    def __iter__(self) -> Iterator[tuple[int, str] | BadLine]:
        while raw := self._file.readline(LINE_BYTES_MAX + 1):
            self.number += 1
            self.bytes_read += len(raw)
            if len(raw) > LINE_BYTES_MAX:
                self._skip_rest(raw)
                yield BadLine(self.number, _shown(raw), "line_too_long", f"longer than {LINE_BYTES_MAX:,} bytes")
                continue
            try:
                text = raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                yield BadLine(self.number, _shown(raw), "not_utf8", f"byte {error.start + 1} is not UTF-8")
                continue
            yield self.number, text.rstrip("\r\n")

    def _skip_rest(self, raw: bytes) -> None:
        while raw and not raw.endswith(b"\n"):
            raw = self._file.readline(LINE_BYTES_MAX)
            self.bytes_read += len(raw)


def json_rows(lines: Lines) -> Iterator[Row | BadLine]:
    """One JSON object per line. Numbers stay the text that they were; empty lines are passed over."""
    for item in lines:
        if isinstance(item, BadLine):
            yield item
            continue
        number, text = item
        if not text.strip():
            continue
        try:
            fields = _decode_json(text)
        except (ValueError, RecursionError) as error:
            yield BadLine(number, text, "not_json", f"no JSON object: {str(error) or 'nested too deeply'}")
            continue
        if isinstance(fields, dict):
            yield Row(number, text, fields)
        else:
            yield BadLine(number, text, "not_json", "no JSON object: the line holds another kind of value")


def csv_rows(lines: Lines, delimiter: str, header: list[str]) -> Iterator[Row | BadLine]:
    """One CSV row each; ``header`` names the columns (``csv_header`` reads it)."""
    for item in _whole_rows(iter(lines)):
        if isinstance(item, BadLine):
            yield item
            continue
        number, text = item
        if not text.strip():
            continue
        try:
            cells = next(csv.reader([text], delimiter=delimiter, strict=True))
        except csv.Error as error:
            yield BadLine(number, text, "not_csv", f"no CSV row: {error}")
            continue
        if len(cells) != len(header):
            message = f"{len(cells)} columns where the header has {len(header)}"
            yield BadLine(number, text, "wrong_columns", message)
            continue
        yield Row(number, text, dict(zip(header, cells, strict=True)))


def csv_header(lines: Lines, delimiter: str) -> list[str]:
    """The names of the columns, from the first line. Raises UsageError when there is none or it cannot be used."""
    for item in lines:
        if isinstance(item, BadLine):
            raise UsageError(f"line {item.line}, the CSV header, cannot be read: {item.message}")
        try:
            header = next(csv.reader([item[1]], delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            raise UsageError(f"line 1, the CSV header, cannot be read: {error}") from error
        names = [name.strip() for name in header]
        if not any(names):
            raise UsageError("the first line of a CSV file names its columns; this one is empty")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"the CSV header names a column more than once: {', '.join(twice)}")
        return names
    raise UsageError("the file is empty: the first line of a CSV file names its columns")


def _whole_rows(lines: Iterator[tuple[int, str] | BadLine]) -> Iterator[tuple[int, str] | BadLine]:
    """Lines put together where a quoted field holds line breaks: while the number of quotes is odd, the row goes on."""
    waiting: list[tuple[int, str] | BadLine] = []
    while True:
        item = waiting.pop(0) if waiting else next(lines, None)
        if item is None:
            return
        if isinstance(item, BadLine) or item[1].count('"') % 2 == 0:
            yield item
            continue
        number, text = item
        taken: list[tuple[int, str] | BadLine] = []
        while len(taken) < QUOTED_LINES_MAX:
            following = waiting.pop(0) if waiting else next(lines, None)
            if following is None:
                break
            taken.append(following)
            if isinstance(following, BadLine):
                break
            text += "\n" + following[1]
            if text.count('"') % 2 == 0:
                break
        if text.count('"') % 2 == 0:
            yield number, text
        else:
            yield BadLine(number, item[1], "not_csv", "no CSV row: a quote is opened and never closed")
            waiting = taken + waiting


def _decode_json(text: str) -> Any:
    return json.loads(
        text, parse_float=str, parse_int=str, parse_constant=_refuse_constant, object_pairs_hook=_without_repeats
    )


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _shown(raw: bytes) -> str:
    return raw[:1000].decode("utf-8", "backslashreplace").rstrip("\r\n")

"""Summaries for people and for programs: a table, JSON or CSV. Values are exact decimal text everywhere."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.clickhouse.queries import TIME_MAX_MS, TIME_MIN_MS, SummaryQuery
from pipeline.clickhouse.summaries import Summary
from pipeline.clickhouse.windows import moment_text
from pipeline.domain.values import value_text

UNBROKEN_WIDTH = 10_000
"""Columns of a table that no terminal shows: lines are not folded."""


def write(answer_format: str, query: SummaryQuery, answer: Iterable[Summary]) -> None:
    """Write an answer to standard output as table, json or csv, row by row where the format allows it."""
    {"table": _write_table, "json": _write_json, "csv": _write_csv}[answer_format](query, answer)


def value_shown(name: str, value: int | None) -> str | None:
    """The exact text of an aggregation."""
    if value is None:
        return None
    return str(value) if name == "count" else value_text(value)


def _moments(query: SummaryQuery, summary: Summary) -> tuple[str | None, str | None]:
    """Start and end by the clocks of the query's zone; None where the range is open."""
    start_ms, end_ms = summary.window
    return (
        None if start_ms == TIME_MIN_MS else moment_text(start_ms, query.zone),
        None if end_ms == TIME_MAX_MS else moment_text(end_ms, query.zone),
    )


def _write_json(query: SummaryQuery, answer: Iterable[Summary]) -> None:
    """An array of objects, one per line."""
    before = "["
    for summary in answer:
        sys.stdout.write(f"{before}\n  {json.dumps(_as_object(query, summary), ensure_ascii=False)}")
        before = ","
    sys.stdout.write("[]\n" if before == "[" else "\n]\n")


def _as_object(query: SummaryQuery, summary: Summary) -> dict[str, Any]:
    start, end = _moments(query, summary)
    found: dict[str, Any] = {"event_name": query.event_name, "window_start": start, "window_end": end}
    if query.per_customer:
        found["customer"] = summary.customer
    if query.group_by:
        found["dimensions"] = dict(zip(query.group_by, summary.groups, strict=True))
    for name, value in summary.values.items():
        found[name] = value if name == "count" else value_shown(name, value)
    return found


def _write_csv(query: SummaryQuery, answer: Iterable[Summary]) -> None:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["window_start", "window_end", *_keys(query), *query.aggregations])
    for summary in answer:
        rows.writerow([*(moment or "" for moment in _moments(query, summary)), *_cells(query, summary)])


def _keys(query: SummaryQuery) -> list[str]:
    return [*(["customer"] if query.per_customer else []), *query.group_by]


def _cells(query: SummaryQuery, summary: Summary) -> Iterator[str]:
    if query.per_customer:
        yield summary.customer or ""
    yield from (value or "" for value in summary.groups)
    yield from (value_shown(name, value) or "" for name, value in summary.values.items())


def _write_table(query: SummaryQuery, answer: Iterable[Summary]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    windowed = query.window != "none"
    table = Table(box=box.SIMPLE_HEAD)
    for name in ["window_start", *_keys(query)] if windowed else _keys(query):
        table.add_column(name, overflow="fold")
    for name in query.aggregations:
        table.add_column(name, justify="right", overflow="fold")
    for summary in answer:
        table.add_row(*([_moments(query, summary)[0] or ""] if windowed else []), *_cells(query, summary))
    console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else UNBROKEN_WIDTH)
    if table.row_count:
        console.print(table)
    else:
        console.print(f"no usage of {query.event_name} in this range")

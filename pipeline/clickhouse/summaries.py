"""Asking ClickHouse for summaries: a query in, exact whole numbers out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from clickhouse_connect.driver.client import Client

from pipeline.clickhouse.queries import AVERAGE, SummaryQuery
from pipeline.clickhouse.windows import Bucket, Unit, Window


class Summary(NamedTuple):
    """One row of an answer."""

    window: Window
    """Cut to the range asked for where there are no windows; TIME_MIN_MS and TIME_MAX_MS stand for an open end."""
    customer: str | None
    """None when the query is not per customer."""
    groups: tuple[str | None, ...]
    """Values of the query's ``group_by``, in its order; None where an event lacks the dimension."""
    values: Mapping[str, int | None]
    """By aggregation: ``count`` as it is, all others in units of 10^-12; None where there is nothing."""


def summaries(client: Client, query: SummaryQuery) -> Iterator[Summary]:
    """The answer, ordered by window, customer and groups. Windows without events are left out.

    Without windows and groups there is always one summary: that of no events has a count and sum of 0.
    """
    rendered = query.render()
    empty = True
    with client.query_row_block_stream(rendered.sql, parameters=rendered.parameters) as blocks:
        for block in blocks:
            for row in block:
                empty = False
                yield _summary(query, row)
    if empty and query.window is Unit.NONE and not query.group_by and not query.per_customer:
        yield Summary(query.window_at(Bucket(0, 0)), None, (), _values(query, dict.fromkeys(query.columns) | _NOTHING))


_NOTHING = {"count": 0, "sum": 0}


def _summary(query: SummaryQuery, row: tuple[object, ...]) -> Summary:
    local_ms, piece_ms, *rest = row
    customer = str(rest.pop(0)) if query.per_customer else None
    groups = tuple(None if value is None else str(value) for value in rest[: len(query.group_by)])
    totals = (int(str(total)) for total in rest[len(query.group_by) :])
    return Summary(
        query.window_at(Bucket(int(str(local_ms)), int(str(piece_ms)))),
        customer,
        groups,
        _values(query, dict(zip(query.columns, totals, strict=True))),
    )


def _values(query: SummaryQuery, totals: Mapping[str, int | None]) -> dict[str, int | None]:
    return {
        name: average(totals["sum"], totals["count"]) if name == AVERAGE else totals[name]
        for name in query.aggregations
    }


def average(total: int | None, count: int | None) -> int | None:
    """total / count as a whole number of units, halves to the even neighbour. None when there is nothing to divide."""
    if not count or total is None:
        return None
    quotient, rest = divmod(total, count)
    return quotient + (2 * rest > count or (2 * rest == count and quotient % 2 == 1))

"""Asking ClickHouse for summaries: a query in, exact whole numbers out."""

from __future__ import annotations

import bisect
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from pipeline.clickhouse.queries import AVERAGE, SummaryQuery
from pipeline.clickhouse.windows import Bucket, Unit, Window, window_of


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
    read = _Reader(query)
    empty = True
    with client.query_row_block_stream(rendered.sql, parameters=rendered.parameters) as blocks:
        for block in blocks:
            for row in block:
                empty = False
                yield read(row)
    if empty and query.always_one:
        yield read.nothing()


FEW_SETTINGS = {
    "max_threads": 1,
    "output_format_parallel_formatting": 0,
    "output_format_json_quote_64bit_integers": 0,
}
"""A small question is answered before a second thread has begun: threads to read or to format would only cost."""


def few_summaries(client: Client, query: SummaryQuery, source: str = "summary_shards") -> list[Summary]:
    """The same at once, for answers that are small: quicker to ask for. ``source``: as ``SummaryQuery.render`` says."""
    rendered = query.render(source)
    read = _Reader(query)
    answer = client.raw_query(rendered.sql, rendered.parameters, settings=FEW_SETTINGS, fmt="JSONCompactEachRow")
    found = [read(json.loads(line)) for line in answer.splitlines()]
    return found or ([read.nothing()] if query.always_one else [])


class _Reader:
    """Makes summaries of the rows that a rendered query answers with."""

    def __init__(self, query: SummaryQuery) -> None:
        self._query = query
        self._pieces = query.pieces
        self._columns = query.columns
        self._window = functools.lru_cache(maxsize=2)(self._window_of)  # rows of one window come together
        self._groups_from = 3 if query.per_customer else 2
        self._totals_from = self._groups_from + len(query.group_by)

    def __call__(self, row: Sequence[Any]) -> Summary:
        return Summary(
            self._window(row[0], row[1]),
            row[2] if self._query.per_customer else None,
            tuple(row[self._groups_from : self._totals_from]),
            _values(self._query, dict(zip(self._columns, row[self._totals_from :], strict=True))),
        )

    def nothing(self) -> Summary:
        """The summary of no events."""
        totals: dict[str, int | None] = dict.fromkeys(self._columns)
        return Summary(self._window(0, 0), None, (), _values(self._query, totals | {"count": 0, "sum": 0}))

    def _window_of(self, local_ms: int, piece_ms: int) -> Window:
        if cuts := self._query.cuts:
            place = bisect.bisect_right(cuts, local_ms)
            return Window(local_ms, cuts[place] if place < len(cuts) else self._query.end_ms)
        if self._query.window is Unit.NONE:
            return Window(self._query.start_ms, self._query.end_ms)
        return window_of(self._query.window, Bucket(local_ms, piece_ms), self._pieces)


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

"""Explanations as plain objects, ready for JSON: the same on the command line and by HTTP. Values are exact text."""

from __future__ import annotations

from typing import Any

from pipeline.clickhouse.explanation import Decision, Explanation
from pipeline.clickhouse.explanation_number import Line, NumberExplanation
from pipeline.clickhouse.queries import TIME_MAX_MS, TIME_MIN_MS
from pipeline.clickhouse.windows import moment_text
from pipeline.domain.times import timestamp_text
from pipeline.domain.values import value_text


def identifier_explained(found: Explanation, records_behind: int | None) -> dict[str, Any]:
    """``records_behind``: what is still on its way to ClickHouse; None when that is not known."""
    return {
        "identifier": found.identifier,
        "livemode": found.livemode,
        "complete": found.complete and records_behind == 0,
        "records_behind": records_behind,
        "decisions": [_decision(one) for one in found.decisions],
    }


def number_explained(found: NumberExplanation, records_behind: int | None) -> dict[str, Any]:
    """``records_behind``: what is still on its way to ClickHouse; None when that is not known."""
    query = found.query
    return {
        "event_name": query.event_name,
        "customer": query.customers[0],
        "livemode": query.livemode,
        "start": None if query.start_ms == TIME_MIN_MS else moment_text(query.start_ms, query.zone),
        "end": None if query.end_ms == TIME_MAX_MS else moment_text(query.end_ms, query.zone),
        "sum": value_text(found.sum),
        "count": found.count,
        "served": {"sum": value_text(found.served_sum), "count": found.served_count},
        "equal": found.is_equal,
        "records_behind": records_behind,
        "totals": {
            name: {"events": events, "value": value_text(value)} for name, (events, value) in found.totals.items()
        },
        "events": [_event(found, line) for line in found.lines],
        "events_left_out": found.lines_left_out,
    }


def _decision(one: Decision) -> dict[str, Any]:
    shard = one.counted_into
    said: dict[str, Any] = {
        "record": one.record,
        "at": one.place,
        "appended_at": None if one.appended_at_ms is None else timestamp_text(one.appended_at_ms),
        "event_name": one.event_name,
        "disposition": one.disposition,
        "decided_at": None if one.decided_offset is None else f"{one.partition}:{one.decided_offset}",
        "reason": one.reason,
        "adjustment": one.adjustment_id,
        "duplicate_of": None if one.first_offset is None else f"{one.partition}:{one.first_offset}",
        "events_cancelled": one.events_cancelled,
        "customer": one.customer,
        "value": None if one.value is None else value_text(one.value),
        "timestamp": None if one.timestamp_ms is None else timestamp_text(one.timestamp_ms),
        "dimensions": None if one.dimensions is None else dict(one.dimensions),
        "range": None if one.range_ms is None else [timestamp_text(ms) for ms in one.range_ms],
        "counted_into": None
        if shard is None
        else {
            "customer": shard.customer,
            "window_start": timestamp_text(shard.window_start_ms),
            "dimensions": dict(shard.dimensions),
            "shard": shard.shard,
            "version": shard.version,
            "count": shard.events,
            "sum": value_text(shard.total),
        },
    }
    return {name: value for name, value in said.items() if value is not None}


def _event(found: NumberExplanation, line: Line) -> dict[str, Any]:
    said = {
        "at": line.at,
        "timestamp": moment_text(line.timestamp_ms, found.query.zone),
        "appended_at": moment_text(line.appended_at_ms, found.query.zone),
        "identifier": line.identifier,
        "dimensions": dict(line.dimensions),
        "value": None if line.value is None else value_text(line.value),
        "disposition": line.disposition,
        "decided_at": line.fate and line.fate.decided_at,
        "reason": line.fate and line.fate.reason,
        "adjustment": line.fate and line.fate.adjustment_id,
        "duplicate_of": line.fate and line.fate.first_at,
        "running_total": value_text(line.running_total),
    }
    return {name: value for name, value in said.items() if value is not None}

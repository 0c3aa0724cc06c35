"""An explanation for people and for programs."""

from __future__ import annotations

import json
import sys
from typing import NamedTuple

from pipeline import wiring
from pipeline.clickhouse.explained import identifier_explained
from pipeline.clickhouse.explanation import ADJUSTMENT, REQUESTED, UNDECIDED, Decision, Explanation, Shard
from pipeline.domain import outcomes
from pipeline.domain.events import Dimensions
from pipeline.domain.times import timestamp_text
from pipeline.domain.values import value_text
from pipeline.errors import Unavailable
from pipeline.settings import Settings


class Behind(NamedTuple):
    """What the worker and the sink have still to do."""

    records: int | None
    """None when Kafka could not be asked."""
    said: str
    """A sentence, or nothing."""


def behind(settings: Settings) -> Behind:
    """How much of the topics is not in ClickHouse yet."""
    try:
        wiring.await_kafka(settings)
        topics = wiring.live_topics(settings)
        read = {
            topics.worker_group: [topics.journal, topics.adjustments],
            topics.sink_group: [
                topics.summaries,
                topics.dispositions,
                topics.adjustments,
                *([topics.journal] if settings.event_log else []),
            ],
        }
        reader = wiring.lag_reader(settings)
        lags = {group: sum(one.behind for one in reader.lag(group, names).values()) for group, names in read.items()}
    except Unavailable as error:
        return Behind(None, f"Whether more is on its way is not known: {error}")
    worker, sink = lags[topics.worker_group], lags[topics.sink_group]
    if not worker and not sink:
        return Behind(0, "")
    return Behind(
        worker + sink,
        f"The worker is {worker:,} records behind and the sink {sink:,}: what is said here may not be the last word.",
    )


def write(found: Explanation, late: Behind, *, event_log: bool, as_json: bool) -> None:
    """To standard output."""
    if as_json:
        sys.stdout.write(json.dumps(identifier_explained(found, late.records), ensure_ascii=False, indent=2) + "\n")
        return
    _write_table(found)
    for sentence in (_nothing_known(found, event_log), _undecided(found), late.said):
        if sentence:
            sys.stdout.write(sentence + "\n")


def _write_table(found: Explanation) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not found.decisions:
        return
    table = Table("record", "at", "appended", "what became of it", box=box.SIMPLE_HEAD)
    for one in found.decisions:
        appended = "" if one.appended_at_ms is None else timestamp_text(one.appended_at_ms)
        table.add_row(one.record, one.place, appended, "\n".join(_sentences(one)))
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def _sentences(one: Decision) -> list[str]:
    if one.record == outcomes.EVENT:
        return [_received(one), *_event_fate(one)]
    if one.record == ADJUSTMENT:
        what = "this event"
        if one.range_ms is not None:
            whose = f" of {one.customer}" if one.customer is not None else ""
            what = (
                f"{one.event_name}{whose} from {timestamp_text(one.range_ms[0])} to {timestamp_text(one.range_ms[1])}"
            )
        said = f"{one.adjustment_id} asks to take back {what}"
        return [said if one.disposition == REQUESTED else f"{said}; it is not in the journal yet"]
    return [f"adjustment {one.adjustment_id} about {one.event_name}: {_cancellation_fate(one)}"]


def _received(one: Decision) -> str:
    of = f" of {one.customer}" if one.customer is not None else ""
    value = f", value {value_text(one.value)}" if one.value is not None else ""
    at = f", timestamp {timestamp_text(one.timestamp_ms)}" if one.timestamp_ms is not None else ""
    return f"received: {one.event_name}{of}{value}{at}{_dimensions(one.dimensions)}"


def _dimensions(dimensions: Dimensions | None) -> str:
    return "".join(f", {name}={value}" for name, value in dimensions or ())


def _event_fate(one: Decision) -> list[str]:
    decided = f"{one.partition}:{one.decided_offset}"
    first = f"{one.partition}:{one.first_offset}"
    if one.counted_into is not None:
        return ["counted", _summary(one.counted_into)]
    return [
        {
            outcomes.DUPLICATE: f"duplicate of {first}: not counted again",
            outcomes.DUPLICATE_DIFFERS: f"duplicate of {first} with other content: the first one stands",
            outcomes.CANCELLED: f"cancelled by adjustment {one.adjustment_id}, decided at {decided}: counts nothing",
            outcomes.REJECTED: f"rejected: {one.reason}",
            outcomes.REROUTED: "came to the wrong partition: sent on to its own, counted there",
            UNDECIDED: "not summarised yet",
        }.get(one.disposition, one.disposition)
    ]


def _summary(shard: Shard) -> str:
    return (
        f"into {shard.customer}, minute {timestamp_text(shard.window_start_ms)}{_dimensions(shard.dimensions)}: "
        f"shard {shard.shard} as of offset {shard.version} has sum {value_text(shard.total)}, count {shard.events}"
    )


def _cancellation_fate(one: Decision) -> str:
    return {
        outcomes.PENDING: "waits for its event",
        outcomes.CANCELLED: "took the event back",
        outcomes.ALREADY_CANCELLED: "found the event taken back already",
        outcomes.TOO_LATE: "came too late: the event stays counted",
        outcomes.NOT_FOUND: "its event never came",
        outcomes.DUPLICATE: "a second copy, without effect",
        outcomes.REJECTED: f"rejected: {one.reason}",
        outcomes.REROUTED: "came to the wrong partition: sent on to its own",
        UNDECIDED: "not decided yet",
    }.get(one.disposition, one.disposition)


def _nothing_known(found: Explanation, event_log: bool) -> str:
    if found.decisions:
        return ""
    other = "test" if found.livemode else "live"
    log = "" if event_log else " The event log is off (METERLINE_EVENT_LOG), so only exceptions can be known here."
    return (
        f"nothing is known of {found.identifier!r} in {'live' if found.livemode else 'test'} usage. Was it sent, is it "
        f"{other} usage, or under another event name?{log}"
    )


def _undecided(found: Explanation) -> str:
    if not found.decisions or found.complete:
        return ""
    return "Not everything is decided yet: the worker or the sink is behind. `meterline status` tells; ask again."

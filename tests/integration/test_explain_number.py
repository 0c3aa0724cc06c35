"""``meterline explain`` for a sum, through the whole pipeline; and the fates of cancellations that come to nothing."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from pipeline.clickhouse.tables import derived
from pipeline.domain.events import Adjustment, CancellationRange
from pipeline.domain.limits import MINUTE_MS
from pipeline.domain.partitioning import partition_of
from pipeline.domain.times import timestamp_text
from tests.conftest import Stack
from tests.integration.test_clickhouse_explain import NOW_MS, PARTITIONS, Pipeline, event
from tests.workers import Deployment

WINDOW_S = 1.5
START_MS = NOW_MS - NOW_MS % MINUTE_MS - MINUTE_MS


@contextmanager
def running(stack: Stack, namespace: str, home: Path, **settings: str) -> Iterator[Pipeline]:
    list(migrate(Server(stack.clickhouse, namespace)))
    with Deployment(stack.kafka, namespace, home, partitions=PARTITIONS, **settings) as deployment:
        found = Pipeline(stack, deployment, home)
        deployment.worker("worker")
        try:
            yield found
        finally:
            if found.sink is not None:
                found.sink.end()
            found.group.close()


@pytest.fixture
def pipeline(stack: Stack, namespace: str, home: Path) -> Iterator[Pipeline]:
    with running(stack, namespace, home) as found:
        yield found


def number(pipeline: Pipeline, *more: str, **environ: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of the explained sum."""
    span = ("--start", timestamp_text(START_MS), "--end", timestamp_text(START_MS + MINUTE_MS))
    done = pipeline.run("explain", "--event-name", "calls", "-c", "cus_1", *span, "--json", *more, **environ)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def send_all(pipeline: Pipeline) -> dict[str, str]:
    """Events of every fate; where each stands in the journal."""
    at = {
        "counted": pipeline.send(event("counted", 7)),
        "negative": pipeline.send(event("negative", -2, timestamp_ms=START_MS, dimensions=())),
        "first": pipeline.send(event("twice", 3)),
        "second": pipeline.send(event("twice", 3)),
        "differing": pipeline.send(event("twice", 4)),
        "wide": pipeline.send(event("wide", 10**27)),
        "other customer": pipeline.send(event("another", customer="cus_2")),
        "other name": pipeline.send(event("another", event_name="bytes")),
        "test": pipeline.send(event("another", livemode=False)),
        "next minute": pipeline.send(event("border", timestamp_ms=START_MS + MINUTE_MS)),
        "astray": pipeline.send(event("astray", 100), (partition_of("astray", PARTITIONS) + 1) % PARTITIONS),
        "back": pipeline.send(event("back", 50)),
    }
    pipeline.adjust(Adjustment("adj back", "calls", True, "back", None))
    pipeline.adjust(Adjustment("adj early", "calls", True, "comes later", None))
    at["later"] = pipeline.send(event("comes later", 60))
    return at


def test_every_event_behind_a_sum(pipeline: Pipeline) -> None:
    pipeline.start_sink()
    at = send_all(pipeline)
    pipeline.settle()
    code, found = number(pipeline)
    assert (code, found["equal"]) == (0, True)
    assert (found["sum"], found["count"]) == ("108", 4)
    assert found["served"] == {"sum": "108", "count": 4}
    fates = {one["at"]: one["disposition"] for one in found["events"]}
    home = next(one["at"] for one in found["events"] if one["identifier"] == "astray" and one["at"] != at["astray"])
    assert fates == {
        at["counted"]: "counted",
        at["negative"]: "counted",
        at["first"]: "counted",
        at["second"]: "duplicate",
        at["differing"]: "duplicate_differs",
        at["wide"]: "rejected",
        at["astray"]: "rerouted",
        home: "counted",
        at["back"]: "cancelled",
        at["later"]: "cancelled",
    }
    by_place = {one["at"]: one for one in found["events"]}
    assert by_place[at["back"]]["adjustment"] == "adj back"
    assert by_place[at["later"]]["adjustment"] == "adj early"
    assert by_place[at["second"]]["duplicate_of"] == at["first"]
    assert by_place[at["wide"]]["reason"] == "meter_event_value_too_many_digits"
    assert found["totals"]["cancelled"] == {"events": 2, "value": "110"}
    assert found["events"][-1]["running_total"] == "108"
    running = 0
    for one in found["events"]:
        running += int(one["value"]) if one["disposition"] == "counted" else 0
        assert one["running_total"] == str(running)

    said = pipeline.run(
        "explain", "--event-name", "calls", "-c", "cus_1", "--end", timestamp_text(START_MS + MINUTE_MS)
    )
    assert "sum: 108 of 4 events, exactly what `meterline query` answers" in said.stdout
    assert f"duplicate of {at['first']} with other content" in said.stdout
    assert "cancelled by adj back, decided at" in said.stdout


def test_cells_are_no_formulas(pipeline: Pipeline) -> None:
    pipeline.start_sink()
    pipeline.send(event('=HYPERLINK("x")', -5, dimensions=(("@a", "b"),)))
    pipeline.settle()
    done = pipeline.run("explain", "--event-name", "calls", "-c", "cus_1", "-f", "csv")
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["identifier"] == '\'=HYPERLINK("x")'
    assert row["dimensions"] == "'@a=b"
    assert (row["value"], row["running_total"]) == ("-5", "-5"), "a number stays a number"
    assert "exactly what `meterline query` answers" in done.stderr


def test_a_sum_that_is_wrong_is_not_explained_away(pipeline: Pipeline) -> None:
    pipeline.start_sink()
    pipeline.send(event("fine", 5))
    pipeline.settle()
    server = Server(pipeline.stack.clickhouse, pipeline.deployment.namespace)
    with connect(server) as client:
        client.command(
            f"INSERT INTO {derived('summary_shards')} SELECT * REPLACE (sum + 1 AS sum, version + 1 AS version)"
            " FROM summary_shards"
        )
    code, found = number(pipeline)
    assert (code, found["equal"], found["sum"], found["served"]["sum"]) == (1, False, "5", "6")
    said = pipeline.run("explain", "--event-name", "calls", "-c", "cus_1").stdout
    assert "sum: 5 of 1 event, but `meterline query` answers 6 of 1: `meterline audit` says which" in said


def test_without_an_event_log_it_says_what_to_do(pipeline: Pipeline) -> None:
    pipeline.start_sink(EVENT_LOG="off")
    pipeline.send(event("fine", 5))
    pipeline.settle(pipeline.topics.summaries, pipeline.topics.dispositions, pipeline.topics.adjustments)
    code, found = number(pipeline, METERLINE_EVENT_LOG="off")
    assert (code, found["events"], found["served"]["sum"]) == (1, [], "5")
    done = pipeline.run("explain", "--event-name", "calls", "-c", "cus_1", METERLINE_EVENT_LOG="off")
    assert "METERLINE_EVENT_LOG=on" in done.stdout
    assert pipeline.sink is not None
    pipeline.sink.stop()
    pipeline.start_sink()
    pipeline.settle()
    code, found = number(pipeline)
    assert (code, found["sum"], len(found["events"])) == (0, "5", 1)


def test_nothing_came(pipeline: Pipeline) -> None:
    code, found = number(pipeline)
    assert (code, found["sum"], found["count"], found["events"]) == (0, "0", 0, [])


def test_what_cannot_be_asked(pipeline: Pipeline) -> None:
    for arguments, sentence in (
        ((), "say which event (IDENTIFIER), or which sum"),
        (("--event-name", "calls"), "say which event (IDENTIFIER), or which sum"),
        (("x", "-c", "cus_1"), "leave the identifier out"),
        (("x", "-f", "csv"), "leave the identifier out"),
        (("--event-name", "calls", "-c", "cus_1", "--start", "2026-01-01T00:00:30Z"), "lies inside a minute"),
    ):
        done = pipeline.run("explain", *arguments)
        assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr


def test_cancellations_that_come_to_nothing(stack: Stack, namespace: str, home: Path) -> None:
    """Too late for its event, or waiting for one that never comes."""
    with running(stack, namespace, home, CANCEL_WINDOW=f"{WINDOW_S * 1000:.0f}ms") as pipeline:
        cancel_too_late(pipeline)


def cancel_too_late(pipeline: Pipeline) -> None:
    pipeline.start_sink()
    stays = pipeline.send(event("stays"))
    pipeline.adjust(Adjustment("adj lost", "calls", True, "never came", None))
    time.sleep(WINDOW_S + 0.2)  # the broker's clock decides, and has to pass the window
    clock = next(
        f"tick{number}"
        for number in range(100)
        if partition_of(f"tick{number}", PARTITIONS) == partition_of("never came", PARTITIONS)
    )
    pipeline.send(event(clock))
    pipeline.adjust(Adjustment("adj late", "calls", True, "stays", None))
    pipeline.settle()

    code, decisions = pipeline.explain("stays")
    assert code == 0
    assert [(one["record"], one["disposition"], one.get("adjustment")) for one in decisions] == [
        ("event", "counted", None),
        ("cancellation", "too_late", "adj late"),
        ("adjustment", "requested", "adj late"),
    ]
    assert decisions[0]["at"] == stays
    assert "came too late: the event stays counted" in pipeline.run("explain", "stays").stdout

    code, decisions = pipeline.explain("never came")
    assert code == 0
    assert [(one["record"], one["disposition"]) for one in decisions] == [
        ("cancellation", "not_found"),
        ("adjustment", "requested"),
    ]
    assert "its event never came" in pipeline.run("explain", "never came").stdout


def test_a_range_that_takes_back_a_sum(pipeline: Pipeline) -> None:
    pipeline.start_sink()
    pipeline.send(event("one", 5))
    pipeline.send(event("two", 6))
    pipeline.adjust(Adjustment("adj range", "calls", True, None, CancellationRange("cus_1", 0, NOW_MS)))
    pipeline.send(event("three", 7))
    pipeline.settle()
    code, found = number(pipeline)
    assert (code, found["sum"], found["totals"]["cancelled"]) == (0, "7", {"events": 2, "value": "11"})
    assert {one.get("adjustment") for one in found["events"]} == {None, "adj range"}

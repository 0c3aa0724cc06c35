"""``meterline explain`` through the whole pipeline: what it says of every fate that an event can have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from pipeline.clickhouse.connection import Server
from pipeline.clickhouse.migrations import migrate
from pipeline.codec.records import Codec
from pipeline.domain.events import Adjustment, CancellationRange, MeterEvent
from pipeline.domain.limits import MINUTE_MS, VALUE_UNIT
from pipeline.domain.partitioning import partition_of
from pipeline.domain.times import timestamp_text
from tests.conftest import Stack
from tests.sinks import SinkGroup, SinkProcess
from tests.workers import Deployment, until

NOW_MS = int(time.time() * 1000)
PARTITIONS = 3


class Pipeline:
    """Worker and sink of one namespace, what is sent to them, and what a person asks."""

    def __init__(self, stack: Stack, deployment: Deployment, home: Path) -> None:
        self.stack, self.deployment, self.home = stack, deployment, home
        self.topics = deployment.topics
        self.codec = Codec()
        self.group = SinkGroup(stack.kafka, deployment.namespace)
        self.producer = Producer({"bootstrap.servers": stack.kafka, "partitioner": "murmur2_random", "linger.ms": 0})
        self.sink: SinkProcess | None = None

    def start_sink(self, **environ: str) -> None:
        self.sink = SinkProcess(
            self.home, self.stack.kafka, self.stack.clickhouse, self.deployment.namespace, **environ
        )

    def send(self, event: MeterEvent, partition: int = -1) -> str:
        """Returns partition:offset."""
        places: list[str] = []
        self.producer.produce(
            self.topics.journal,
            self.codec.encode_event(event),
            event.identifier.encode(),
            partition,
            on_delivery=lambda error, message: places.append(f"{message.partition()}:{message.offset()}"),
        )
        assert self.producer.flush(30) == 0
        return places[0]

    def adjust(self, adjustment: Adjustment) -> None:
        self.producer.produce(self.topics.adjustments, self.codec.encode_adjustment(adjustment), adjustment.id)
        assert self.producer.flush(30) == 0
        self.deployment.settle()

    def settle(self, *topics: str) -> None:
        self.deployment.settle()
        until(lambda: self.group.behind(*topics) == 0, "the sink has done everything")

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        mine = {
            "METERLINE_HOME": str(self.home / "no-laptop-stack"),
            "METERLINE_KAFKA": self.stack.kafka,
            "METERLINE_CLICKHOUSE": self.stack.clickhouse,
            "METERLINE_NAMESPACE": self.deployment.namespace,
            **environ,
        }
        command = [sys.executable, "-m", "pipeline.cli", *arguments]
        return subprocess.run(
            command, env={"PATH": os.environ["PATH"], **mine}, capture_output=True, text=True, check=False
        )

    def explain(self, identifier: str, *more: str) -> tuple[int, list[dict]]:
        """The exit code and the decisions."""
        done = self.run("explain", identifier, "--json", *more)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)["decisions"]


@pytest.fixture
def pipeline(stack: Stack, namespace: str, home: Path) -> Iterator[Pipeline]:
    list(migrate(Server(stack.clickhouse, namespace)))
    with Deployment(stack.kafka, namespace, home, partitions=PARTITIONS) as deployment:
        found = Pipeline(stack, deployment, home)
        deployment.worker("worker")
        try:
            yield found
        finally:
            if found.sink is not None:
                found.sink.end()
            found.group.close()


def event(identifier: str, value: int = 5, **change) -> MeterEvent:
    stamp = NOW_MS - NOW_MS % MINUTE_MS - MINUTE_MS + 1234
    return MeterEvent(identifier, "calls", "cus_1", value * VALUE_UNIT, stamp, (("region", "eu"),), True)._replace(
        **change
    )


def test_every_fate(pipeline: Pipeline) -> None:
    pipeline.start_sink()
    counted = pipeline.send(event("counted"))
    other = pipeline.send(event("counted", event_name="bytes"))
    tested = pipeline.send(event("counted", livemode=False))
    first = pipeline.send(event("twice"))
    second, third = pipeline.send(event("twice")), pipeline.send(event("twice", value=6))
    bad = pipeline.send(event("too early", timestamp_ms=NOW_MS + 60 * MINUTE_MS))
    wide = pipeline.send(event("too wide", value=10**27))
    away = pipeline.send(event("astray"), (partition_of("astray", PARTITIONS) + 1) % PARTITIONS)
    back = pipeline.send(event("taken back"))
    ranged = pipeline.send(event("in a range", customer="cus_2"))
    for identifier in ("taken back", "never came", "comes later"):
        pipeline.adjust(Adjustment(f"adj {identifier}", "calls", True, identifier, None))
    pipeline.adjust(Adjustment("adj again", "calls", True, "taken back", None))
    pipeline.adjust(Adjustment("adj range", "calls", True, None, CancellationRange("cus_2", 0, NOW_MS)))
    late = pipeline.send(event("comes later"))
    pipeline.settle()

    code, decisions = pipeline.explain("counted")
    assert code == 0
    assert [(one["at"], one["event_name"], one["disposition"]) for one in decisions] == sorted(
        [(counted, "calls", "counted"), (other, "bytes", "counted")]
    )
    assert decisions[0]["counted_into"] == {
        "customer": "cus_1",
        "window_start": timestamp_text(event("x").timestamp_ms - 1234),
        "dimensions": {"region": "eu"},
        "shard": int(counted.partition(":")[0]),
        "version": decisions[0]["counted_into"]["version"],
        "count": decisions[0]["counted_into"]["count"],
        "sum": decisions[0]["counted_into"]["sum"],
    }
    assert [one["at"] for one in pipeline.explain("counted", "--event-name", "bytes")[1]] == [other]
    assert [one["at"] for one in pipeline.explain("counted", "--test")[1]] == [tested]

    code, decisions = pipeline.explain("twice")
    assert code == 0
    assert [(one["at"], one["disposition"], one.get("duplicate_of")) for one in decisions] == [
        (first, "counted", None),
        (second, "duplicate", first),
        (third, "duplicate_differs", first),
    ]

    code, (one,) = pipeline.explain("too early")
    assert (code, one["at"], one["disposition"], one["reason"]) == (0, bad, "rejected", "timestamp_in_future")
    code, (one,) = pipeline.explain("too wide")
    assert (code, one["at"], one["disposition"]) == (0, wide, "rejected")
    assert "value" not in one

    code, decisions = pipeline.explain("astray")
    assert code == 0
    assert {one["at"]: one["disposition"] for one in decisions}[away] == "rerouted"
    assert sorted(one["disposition"] for one in decisions) == ["counted", "rerouted"]

    code, decisions = pipeline.explain("taken back")
    assert code == 0
    assert [(one["record"], one["disposition"], one.get("adjustment")) for one in decisions] == [
        ("event", "cancelled", "adj taken back"),
        ("cancellation", "cancelled", "adj taken back"),
        ("cancellation", "already_cancelled", "adj again"),
        ("adjustment", "requested", decisions[3]["adjustment"]),
        ("adjustment", "requested", decisions[4]["adjustment"]),
    ]
    assert (decisions[0]["at"], decisions[0]["decided_at"]) == (back, decisions[1]["at"])

    code, decisions = pipeline.explain("never came")
    assert code == 0
    assert [one["disposition"] for one in decisions] == ["pending", "requested"]

    code, decisions = pipeline.explain("comes later")
    assert code == 0
    assert [(one["record"], one["disposition"]) for one in decisions] == [
        ("cancellation", "cancelled"),
        ("event", "cancelled"),
        ("adjustment", "requested"),
    ]
    assert decisions[1]["at"] == late

    code, decisions = pipeline.explain("in a range")
    assert code == 0
    assert (decisions[0]["at"], decisions[0]["disposition"], decisions[0]["adjustment"]) == (
        ranged,
        "cancelled",
        "adj range",
    )
    assert decisions[1]["range"] == ["1970-01-01T00:00:00Z", timestamp_text(NOW_MS)]

    shown = pipeline.run("explain", "taken back").stdout
    assert "received: calls of cus_1, value 5, timestamp" in shown
    assert "cancelled by adjustment adj taken back, decided at" in shown


def test_texts_that_are_too_long(pipeline: Pipeline) -> None:
    """Dispositions tell their beginnings alone, and those of two can be the same."""
    pipeline.start_sink()
    identifiers = ["x" * 300, "x" * 250]
    places = [pipeline.send(event(identifier)) for identifier in identifiers]
    named = pipeline.send(event("of a long name", event_name="n" * 300))
    for number in range(9):
        pipeline.send(event(f"later {number}"))
    pipeline.settle()
    for identifier, place in zip(identifiers, places, strict=True):
        code, (one,) = pipeline.explain(identifier)
        assert (code, one["at"], one["disposition"], one["reason"]) == (0, place, "rejected", "invalid_identifier")
    code, (one,) = pipeline.explain("of a long name", "--event-name", "n" * 300)
    assert (code, one["at"], one["disposition"], one["reason"]) == (0, named, "rejected", "invalid_event_name")


def test_nothing_is_known(pipeline: Pipeline) -> None:
    pipeline.start_sink()
    pipeline.settle()
    done = pipeline.run("explain", "nobody sent this")
    assert done.returncode == 1
    assert "nothing is known of 'nobody sent this' in live usage" in done.stdout


def test_the_sink_is_behind(pipeline: Pipeline) -> None:
    place = pipeline.send(event("on its way"))
    pipeline.deployment.settle()
    done = pipeline.run("explain", "on its way")
    assert done.returncode == 1
    assert "nothing is known" in done.stdout
    assert "the sink 2" in done.stdout, "a record of the journal and a summary"
    pipeline.start_sink()
    pipeline.settle()
    code, decisions = pipeline.explain("on its way")
    assert (code, decisions[0]["at"], decisions[0]["disposition"]) == (0, place, "counted")


def test_the_event_log_is_off(pipeline: Pipeline) -> None:
    pipeline.start_sink(EVENT_LOG="off")
    pipeline.send(event("fine"))
    first = pipeline.send(event("twice"))
    again = pipeline.send(event("twice"))
    pipeline.settle(pipeline.topics.summaries, pipeline.topics.dispositions, pipeline.topics.adjustments)
    done = pipeline.run("explain", "fine", METERLINE_EVENT_LOG="off")
    assert done.returncode == 1
    assert "The event log is off" in done.stdout
    done = pipeline.run("explain", "twice", "--json", METERLINE_EVENT_LOG="off")
    assert done.returncode == 0
    assert [(one["at"], one["duplicate_of"]) for one in json.loads(done.stdout)["decisions"]] == [(again, first)]


def test_kafka_is_away(pipeline: Pipeline) -> None:
    """What ClickHouse knows is still said; that more may be on its way, too."""
    pipeline.start_sink()
    pipeline.send(event("known"))
    pipeline.settle()
    done = pipeline.run("explain", "known", METERLINE_KAFKA="127.0.0.1:9")
    assert done.returncode == 0
    assert "counted" in done.stdout
    assert "Whether more is on its way is not known" in done.stdout

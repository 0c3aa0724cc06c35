"""A rebuild beside a live rate: how fast the journal is folded again, and how long the whole of it takes."""

from __future__ import annotations

import re
import threading
import time

from clickhouse_connect.driver.client import Client

from benchmarks.figures import RATIO, RECORDS_PER_S, Figure, Outcome, Target, agreed
from benchmarks.stage import Deployment, Progress, Stage, until
from benchmarks.workload import CENT, EVENT_NAME, HOT, write_journal
from pipeline.clickhouse.connection import connect
from pipeline.clickhouse.queries import SummaryQuery
from pipeline.clickhouse.summaries import summaries
from pipeline.codec.records import Codec
from pipeline.domain.events import MeterEvent
from pipeline.kafka import admin
from pipeline.kafka.producer import Publisher
from pipeline.kafka.topics import TABLE, Topics

LIVE_PER_S = 10_000
_TICK_S = 0.1
_LIVE_CENTS = 3
_LIVE_CUSTOMERS = 50


def measure(stage: Stage, records: int) -> Outcome:
    """The regular worker and sink keep up with the live rate meanwhile."""
    with stage.deployment("rebuild") as deployment:
        try:
            return _measure(deployment, records)
        finally:
            second = Topics(deployment.namespace, 2)
            own = [second.name(topic) for topic in TABLE if topic.belongs_to == "generation"]
            admin.delete(deployment.config, own, ())


def _measure(deployment: Deployment, records: int) -> Outcome:
    deployment.say(f"rebuild: writing {records:,} records")
    usage = write_journal(deployment.config, deployment.topics.journal, HOT, records)
    progress = Progress(deployment, "worker", deployment.topics.journal)
    with (
        deployment.run("worker") as worker,
        deployment.run("sink", EVENT_LOG="off") as sink,
        connect(deployment.server) as client,
    ):
        deployment.say("rebuild: the live generation folds them first")
        progress.await_end(worker)
        sink.await_group()
        load = _Load(deployment)
        load.start()
        deployment.say(f"rebuild: building generation 2 beside {LIVE_PER_S:,} events/s")
        before, started_s = load.sent, time.monotonic()
        with deployment.run("rebuild", EVENT_LOG="off") as rebuild:
            until(lambda: rebuild.process.poll() is not None, "the rebuild ends")
            said = rebuild.log.read_text(errors="replace")
        whole_s, meanwhile = time.monotonic() - started_s, load.sent - before
        live_per_s = meanwhile / whole_s
        load.end()
        assert rebuild.process.returncode == 0, said
        deployment.say("rebuild: checking the sums")
        count, units = usage.count + load.sent, usage.units + load.sent * _LIVE_CENTS * CENT
        until(lambda: _totals(client)[0] >= count, "every event is visible")
        found_count, found_units = _totals(client)
    match = re.search(r"^folding the journal: ([\d.]+) s$", said, re.MULTILINE)
    assert match, said
    fold_s = float(match[1])
    folded = records + live_per_s * fold_s
    figures = [
        Figure("rebuild", "live rate meanwhile", live_per_s, RECORDS_PER_S, Target(0.9 * LIVE_PER_S)),
        Figure("rebuild", "folded, wall", folded / fold_s, RECORDS_PER_S, Target(10 * LIVE_PER_S)),
        Figure("rebuild", "whole, wall", (records + meanwhile) / whole_s, RECORDS_PER_S),
        Figure("rebuild", "share of the time that is folding", fold_s / whole_s, RATIO),
    ]
    return Outcome(figures, agreed("events", found_count, count) | agreed("sum", found_units, units))


def _totals(client: Client) -> tuple[int, int]:
    (summary,) = summaries(client, SummaryQuery(EVENT_NAME))
    return summary.values["count"] or 0, summary.values["sum"] or 0


class _Load(threading.Thread):
    """Publishes events at an even pace until it is ended."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(daemon=True)
        self._publisher = Publisher(deployment.config)
        self._topic = deployment.topics.journal
        self._codec = Codec()
        self._enough = threading.Event()
        self.sent = 0

    def run(self) -> None:
        start = time.monotonic()
        while not self._enough.wait(_TICK_S):
            due = int((time.monotonic() - start) * LIVE_PER_S)
            chunk = [self._record(number) for number in range(self.sent, due)]
            self._publisher.publish_batch(self._topic, -1, chunk)
            self.sent = due

    def _record(self, number: int) -> tuple[bytes, bytes]:
        identifier, customer = f"live-{number}", f"live_{number % _LIVE_CUSTOMERS}"
        now_ms = int(time.time() * 1000)
        event = MeterEvent(identifier, EVENT_NAME, customer, _LIVE_CENTS * CENT, now_ms, (), True)
        return identifier.encode(), self._codec.encode_event(event)

    def end(self) -> None:
        """Return when Kafka has all that was sent."""
        self._enough.set()
        self.join()
        self._publisher.flush(60)

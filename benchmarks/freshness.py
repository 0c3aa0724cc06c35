"""How long an acknowledged event takes to be seen in a query, while others stream past it."""

from __future__ import annotations

import threading
import time
from typing import Any

from clickhouse_connect.driver.client import Client

from benchmarks.figures import MILLISECONDS, RATIO, RECORDS_PER_S, Figure, Outcome, Target, agreed, at_most
from benchmarks.measuring import Moment, percentile
from benchmarks.stage import Deployment, Stage, until
from benchmarks.workload import CENT, EVENT_NAME
from pipeline import MeterlineProducer
from pipeline.clickhouse.connection import connect
from pipeline.clickhouse.queries import SummaryQuery
from pipeline.clickhouse.summaries import summaries

EVENTS_PER_S = 5_000
PROBE_NAME = "probe"
_CUSTOMERS = 100
_TICK_S = 0.02
_PROBE_EVERY_S = 0.2
_LOOK_EVERY_S = 0.03


def measure(stage: Stage, records: int) -> Outcome:
    with (
        stage.deployment("freshness") as deployment,
        deployment.run("worker") as worker,
        deployment.run("sink") as sink,
        connect(deployment.server) as client,
    ):
        worker.await_log("took over")
        sink.await_group()
        deployment.say(f"freshness: {records:,} events at {EVENTS_PER_S:,}/s")
        probes = _Probes(deployment)
        probes.publish()  # the first one of all opens connections and files
        until(lambda: probes.look(client) == 0, "the first event is visible")
        probes.forget()
        load = _Load(deployment, records)
        pids = {"worker": worker.pid, "sink": sink.pid, "engine": stage.clickhouse_pid}
        start = {role: Moment.now(pid) for role, pid in pids.items() if pid is not None}
        load.start()
        while load.is_alive():
            probes.publish_when_due()
            probes.look(client)
            time.sleep(_LOOK_EVERY_S)
        busy = {role: before.until(Moment.now(pids[role]), 1) for role, before in start.items()}
        until(lambda: probes.look(client) == 0, "every probe is visible")
        until(lambda: _count(client) >= records, "every event is visible")
        count, units = _totals(client)
    figures = [
        Figure("freshness", "events published", load.per_s, RECORDS_PER_S, Target(0.98 * EVENTS_PER_S)),
        Figure("freshness", "acknowledged to visible, p50", percentile(probes.seen_after_ms, 0.5), MILLISECONDS),
        Figure(
            "freshness", "acknowledged to visible, p99", percentile(probes.seen_after_ms, 0.99), MILLISECONDS,
            at_most(2_000.0),
        ),
        *(Figure("freshness", f"cores of the {role}", rate.cpu_s / rate.wall_s, RATIO) for role, rate in busy.items()),
    ]  # fmt: skip
    exact = agreed("events", count, records) | agreed("sum", units, load.cents * CENT)
    return Outcome(figures, exact | {"probes": len(probes.seen_after_ms)})


def _totals(client: Client) -> tuple[int, int]:
    """Events of the load that a query sees, and their sum."""
    (summary,) = summaries(client, SummaryQuery(EVENT_NAME))
    return summary.values["count"] or 0, summary.values["sum"] or 0


def _count(client: Client) -> int:
    return _totals(client)[0]


class _Load(threading.Thread):
    """Publishes events at an even pace."""

    def __init__(self, deployment: Deployment, records: int) -> None:
        super().__init__(daemon=True)
        self._producer = MeterlineProducer(deployment.config, namespace=deployment.namespace)
        self._records = records
        self.cents = 0
        self.per_s = 0.0

    def run(self) -> None:
        start, sent = time.monotonic(), 0
        while sent < self._records:
            due = min(self._records, int((time.monotonic() - start) * EVENTS_PER_S) + 1)
            for number in range(sent, due):
                cents = 1 + number % 1000
                self.cents += cents
                self._producer.emit(
                    event_name=EVENT_NAME,
                    customer=f"cus_{number % _CUSTOMERS}",
                    value=f"{cents // 100}.{cents % 100:02}",
                    dimensions={"model": "large"},
                )
            sent = due
            time.sleep(_TICK_S)
        self.per_s = sent / (time.monotonic() - start)
        self._producer.flush()


class _Probes:
    """Events of a name of their own, each of another customer, so that one query tells which are visible."""

    def __init__(self, deployment: Deployment) -> None:
        self._producer = MeterlineProducer(deployment.config | {"linger.ms": 0}, namespace=deployment.namespace)
        self._acknowledged_s: dict[str, float] = {}
        self._published = 0
        self._due_s = 0.0
        self.seen_after_ms: list[float] = []

    def publish(self) -> None:
        """Return when Kafka has one more."""
        self._published += 1
        customer = f"probe_{self._published}"
        self._producer.emit(event_name=PROBE_NAME, customer=customer, value=1)
        self._producer.flush()
        self._acknowledged_s[customer] = time.monotonic()

    def publish_when_due(self) -> None:
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + _PROBE_EVERY_S
            self.publish()

    def look(self, client: Client) -> int:
        """Ask which can be seen; returns how many cannot yet."""
        question: Any = SummaryQuery(PROBE_NAME, customers=tuple(self._acknowledged_s), per_customer=True)
        if self._acknowledged_s:
            answer = [summary.customer for summary in summaries(client, question)]
            now = time.monotonic()
            for customer in answer:
                self.seen_after_ms.append((now - self._acknowledged_s.pop(str(customer))) * 1000)
        return len(self._acknowledged_s)

    def forget(self) -> None:
        """Leave out what was measured so far."""
        self.seen_after_ms.clear()

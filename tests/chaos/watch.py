"""Looks at a deployment from outside, all the time: where the log and the groups stand, what readers see, who answers.

From this follow the plot, the recovery times, and what must never go back.
"""

from __future__ import annotations

import bisect
import itertools
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.clickhouse.connection import connect
from pipeline.domain.partitioning import partition_of
from tests.chaos.checker import NON_MONOTONIC, Anomaly
from tests.chaos.clients import Client
from tests.chaos.ledger import OK, Identity, Ledger, Usage
from tests.chaos.load import PROBES, UNIT, WATCHED, Load, as_json
from tests.chaos.site import Site

EVERY_S = 0.25
PROBE_EVERY_S = 0.2
PROBE_PATIENCE_S = 3.0
ASK_WITHIN_S = 2.0


Offsets = dict[int, int]


class Sample(NamedTuple):
    """How things stood at one moment of the monotonic clock."""

    at: float
    acknowledged: int
    """Events, since the beginning."""
    ends: Offsets
    """Of the journal."""
    committed: dict[str, Offsets]
    """By role: worker, sink."""

    def behind(self, role: str) -> int:
        """Records of the journal that the group has not committed."""
        done = self.committed[role]
        return sum(max(0, end - max(0, done.get(number, 0))) for number, end in self.ends.items())


class Watch:
    """Starts with ``start``, ends with ``end``."""

    def __init__(self, site: Site, load: Load, ledger: Ledger) -> None:
        self._site, self._load, self._ledger = site, load, ledger
        topics = site.topics()
        self._journal = topics.journal
        self.samples: list[Sample] = []
        self.anomalies: list[Anomaly] = []
        self.answers: dict[int, list[tuple[float, float]]] = {port: [] for port in site.gateway_ports}
        """By gateway: when each successful probe began, and when it was answered. It reaches every partition."""
        self._groups = {"worker": topics.worker_group, "sink": topics.sink_group}
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._look, daemon=True),
            threading.Thread(target=self._read, daemon=True),
            *(threading.Thread(target=self._probe, args=(port,), daemon=True) for port in site.gateway_ports),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def answered_after(self, ports: Sequence[int], moment: float) -> float | None:
        """When all of these gateways had answered a probe that began after this moment; None if not yet."""
        first = [next((end for began, end in self.answers[port] if began > moment), None) for port in ports]
        return None if None in first else max(end for end in first if end is not None)

    def advanced_after(self, role: str, moment: float) -> float | None:
        """When the group had come, in every partition, past all that was appended by this moment; None if not yet."""
        later = iter(self.samples[bisect.bisect_right(self.samples, moment, key=lambda one: one.at) :])
        goal = next(later, None)
        if goal is None:
            return None
        return next(
            (
                one.at
                for one in later
                if all(one.committed[role].get(number, 0) > end for number, end in goal.ends.items())
            ),
            None,
        )

    # Where the log and the groups stand.

    def _look(self) -> None:
        quick = {
            "bootstrap.servers": self._site.kafka,
            "enable.auto.commit": False,
            "log_level": 0,
            "reconnect.backoff.max.ms": 300,
            "socket.timeout.ms": 3_000,
            "topic.metadata.refresh.interval.ms": 1_000,
        }
        asking = {role: Consumer({**quick, "group.id": group}) for role, group in self._groups.items()}
        committed: dict[str, Offsets] = {role: {} for role in asking}
        while not self._over.wait(EVERY_S):
            try:
                ends = self._ends(asking["worker"])
                for role, consumer in asking.items():
                    committed[role] = self._risen(role, committed[role], self._committed(consumer))
            except KafkaException:
                continue
            self.samples.append(Sample(time.monotonic(), self._ledger.acknowledged, ends, dict(committed)))
        for consumer in asking.values():
            consumer.close()

    def _places(self) -> list[TopicPartition]:
        return [TopicPartition(self._journal, number) for number in range(self._site.shape.partitions)]

    def _ends(self, consumer: Consumer) -> Offsets:
        return {
            place.partition: consumer.get_watermark_offsets(place, timeout=ASK_WITHIN_S)[1] for place in self._places()
        }

    def _committed(self, consumer: Consumer) -> Offsets:
        answer = consumer.committed(self._places(), timeout=ASK_WITHIN_S)
        return {place.partition: place.offset for place in answer if place.offset >= 0 and place.error is None}

    def _risen(self, role: str, known: Offsets, found: Offsets) -> Offsets:
        for number, offset in found.items():
            if offset < known.get(number, 0):
                said = f"the {role}s' group went back from {known[number]} to {offset} in partition {number}"
                self.anomalies.append(Anomaly(NON_MONOTONIC, said))
        return {**known, **found}

    # What a reader sees.

    def _read(self) -> None:
        """Events of which each is 1 and none is taken back: their sum only grows, never beyond what was sent."""
        before = 0
        while not self._over.wait(4 * EVERY_S):
            try:
                with connect(self._site.server, answer_timeout_s=30) as client:
                    while not self._over.wait(4 * EVERY_S):
                        sql = "SELECT sum(count), sum(sum) FROM summary_shards WHERE event_name = {name:String}"
                        ((events, total),) = client.query(sql, parameters={"name": WATCHED}).result_rows
                        if not before <= events <= self._load.watched_sent or events != total:
                            said = f"{events} events, sum {total}, after {before}; {self._load.watched_sent} were sent"
                            self.anomalies.append(Anomaly(NON_MONOTONIC, said))
                        before = max(before, int(events))
            except Exception:  # ClickHouse was killed, or is only coming back
                continue

    # Who answers.

    def _probe(self, port: int) -> None:
        client = Client(port, self._site.key, PROBE_PATIENCE_S)
        numbers = itertools.count()
        while not self._over.wait(PROBE_EVERY_S):
            several = self._one_for_each_partition(port, numbers)
            began = time.monotonic()
            status = client.stream([as_json(one) for one in several])
            self._ledger.events(status, several)
            if status == OK:
                self.answers[port].append((began, time.monotonic()))
        client.close()

    def _one_for_each_partition(self, port: int, numbers: itertools.count[int]) -> list[Usage]:
        partitions = self._site.shape.partitions
        chosen: dict[int, str] = {}
        while len(chosen) < partitions:
            identifier = f"p{port}-{next(numbers)}"
            chosen.setdefault(partition_of(identifier, partitions), identifier)
        at_ms = int(time.time()) * 1000
        return [Usage(Identity(True, PROBES, one), f"port {port}", UNIT, at_ms) for one in chosen.values()]

"""Sink processes of a test's namespace, and what stands in ClickHouse, as a reader of the tables sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, TopicPartition

from pipeline.codec.records import Codec
from pipeline.domain.events import Disposition, Last, Latest, MeterEvent, SummaryShard, TallyKey
from pipeline.errors import UndecodableRecord
from pipeline.kafka.topics import Topics
from pipeline.sink.rows import MOMENT_MAX_MS, MOMENT_MIN_MS
from tests.oracle import World, read_topic
from tests.workers import running

PATIENCE_S = 180.0


class SinkProcess:
    """One ``meterline sink``."""

    def __init__(self, home: Path, kafka: str, clickhouse: str, namespace: str, code: str = "", **environ: str) -> None:
        """``environ``: settings by the second part of their variable, as ``EVENT_LOG="off"``.

        ``code``: a directory with another state of the repository, whose code it runs.
        """
        self._log = home / "sink.log"
        mine = {name: text for name, text in os.environ.items() if not name.startswith("METERLINE_")} | {
            "METERLINE_HOME": str(home / "no-laptop-stack"),
            "METERLINE_KAFKA": kafka,
            "METERLINE_CLICKHOUSE": clickhouse,
            "METERLINE_NAMESPACE": namespace,
            "METERLINE_STATE": str(home / "sink"),
            "METERLINE_SESSION_TIMEOUT": "6s",
            "METERLINE_SINK_EVERY": "50ms",
            **{f"METERLINE_{name}": text for name, text in environ.items()},
            **(running(code) if code else {}),
        }
        with self._log.open("ab") as file:
            self.run = subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli", "sink"],
                env=mine,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def alive(self) -> bool:
        return self.run.poll() is None

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.run.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def kill(self) -> None:
        """As a power cut would."""
        assert self.alive(), self.log
        self.run.kill()
        self.run.wait(PATIENCE_S)

    def stop(self) -> None:
        """Ask it to go; it goes in peace."""
        self.run.terminate()
        assert self.run.wait(PATIENCE_S) == 0, self.log

    def end(self) -> None:
        if self.alive():
            self.run.kill()
            self.run.wait()


class SinkGroup:
    """How far the sinks of a namespace have come, by their group's offsets."""

    def __init__(self, kafka: str, namespace: str, topics: Topics | None = None, group: str = "") -> None:
        """``topics``: of another generation than the first; ``group``: another one than the sinks'."""
        self.topics = topics or Topics(namespace)
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": group or self.topics.sink_group,
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )

    def behind(self, *topics: str) -> int:
        """Records that are not acknowledged yet; of all topics that a sink reads, if none is named."""
        mine = (self.topics.journal, self.topics.adjustments, self.topics.summaries, self.topics.dispositions)
        known = self._consumer.list_topics(timeout=30).topics
        places = [TopicPartition(topic, number) for topic in topics or mine for number in known[topic].partitions]
        committed = self._consumer.committed(places, timeout=30)
        ends = [self._consumer.get_watermark_offsets(place, timeout=30)[1] for place in places]
        return sum(end - max(0, place.offset) for end, place in zip(ends, committed, strict=True))

    def close(self) -> None:
        self._consumer.close()


def _units(number: Decimal) -> int:
    return int(Context(prec=100).scaleb(number, 12))


SHARDS_SQL = """
SELECT livemode, event_name, customer, toUnixTimestamp64Milli(window_start), dimensions, shard, version, count,
    sum, min, max, toUnixTimestamp64Milli(last_timestamp), toUnixTimestamp64Milli(last_appended_at), last_offset,
    last_value, toUnixTimestamp64Milli(latest_appended_at), latest_offset, latest_value
FROM summary_shards
"""

DISPOSITIONS_SQL = """
SELECT partition, offset, decided_offset, record, disposition, reason, livemode, event_name, identifier, customer,
    value, toUnixTimestamp64Milli(timestamp), toUnixTimestamp64Milli(appended_at), adjustment_id, first_offset,
    events_cancelled
FROM dispositions
"""

EVENTS_SQL = """
SELECT partition, offset, toUnixTimestamp64Milli(appended_at), identifier, event_name, customer, value,
    toUnixTimestamp64Milli(timestamp), dimensions, livemode
FROM meter_events FINAL
"""


def stored(client: Client) -> World:
    """Summaries and dispositions as ClickHouse has them."""
    world = World()
    for row in client.query(SHARDS_SQL).result_rows:
        livemode, event_name, customer, window_ms, dimensions, shard, version, count, total, low, high, *ends = row
        key = TallyKey(livemode, event_name, customer, window_ms, tuple(dimensions.items()))
        last, latest = Last(*ends[:3], _units(ends[3])), Latest(*ends[4:6], _units(ends[6]))
        parts = (_units(low), _units(high), last, latest) if count else (None, None, None, None)
        one = SummaryShard(key, shard, version, count, _units(total), *parts)
        assert (key, shard) not in world.shards, "a shard twice"
        world.shards[key, shard] = one
    for row in client.query(DISPOSITIONS_SQL).result_rows:
        one = Disposition(*(_units(field) if isinstance(field, Decimal) else field for field in row))
        assert (one.partition, one.offset) not in world.dispositions, "a disposition twice"
        world.dispositions[one.partition, one.offset] = one
    return world


def logged_events(client: Client) -> dict[tuple[int, int], tuple[int, MeterEvent]]:
    """The event log: (LogAppendTime, event) by (partition, offset)."""
    found = {}
    for partition, offset, appended_at_ms, *fields in client.query(EVENTS_SQL).result_rows:
        identifier, event_name, customer, value, timestamp_ms, dimensions, livemode = fields
        units = None if value is None else _units(value)
        pairs = tuple(dimensions.items())
        event: Any = MeterEvent(identifier, event_name, customer, units, timestamp_ms, pairs, livemode)  # type: ignore[arg-type]
        assert (partition, offset) not in found, "an event twice"
        found[partition, offset] = (appended_at_ms, event)
    return found


def journal_events(kafka: str, namespace: str) -> Mapping[tuple[int, int], tuple[int, MeterEvent]]:
    """The journal's events as the event log has to have them."""
    codec, found = Codec(), {}
    for read in read_topic(kafka, Topics(namespace).journal):
        try:
            event = codec.decode_journal(read.value)
        except UndecodableRecord:
            continue
        if isinstance(event, MeterEvent):
            shown: Any = event._replace(
                value=event.value if abs(event.value) < 10**38 else None,  # type: ignore[arg-type]
                timestamp_ms=min(max(event.timestamp_ms, MOMENT_MIN_MS), MOMENT_MAX_MS),
            )
            found[read.partition, read.offset] = (read.appended_at_ms, shown)
    return found
